//! What the programs of this crate have in common: a command line, a runtime, a folder, an exit code.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use tokio::runtime::Builder;

/// Runs a program with what its command line asks for. It answers whether all was as it must be.
pub(crate) fn run<A>(
    parsed: Result<A, String>,
    usage: &str,
    program: impl AsyncFnOnce(A) -> Result<bool, String>,
) -> ExitCode {
    let arguments = match parsed {
        Ok(arguments) => arguments,
        Err(what) => {
            eprintln!("{what}\n\n{usage}");
            return ExitCode::FAILURE;
        }
    };
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match runtime.map_err(|error| error.to_string()).and_then(|it| it.block_on(program(arguments))) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// Plays in a folder of its own, which is removed afterwards.
pub(crate) async fn in_folder(
    data: &Path,
    name: &str,
    play: impl AsyncFnOnce(&Path) -> Result<bool, String>,
) -> Result<bool, String> {
    let folder = data.join(format!("tenure-{name}-{}", std::process::id()));
    let failed = |error| format!("{}: {error}", folder.display());
    fs::create_dir_all(&folder).map_err(failed)?;
    let result = play(&folder).await;
    let removed = fs::remove_dir_all(&folder).map_err(failed);
    result.and_then(|is_clean| removed.map(|()| is_clean))
}
