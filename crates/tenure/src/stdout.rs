//! Standard output, which whoever reads may close when he has seen enough: `tenure sim --seed 7 --trace | head`.

use std::io::{self, ErrorKind, Write};

/// Writes all of it at once. That nobody reads it any more is no error.
pub(crate) fn write(bytes: impl AsRef<[u8]>) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes.as_ref()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Writes a line where nothing can be done if it cannot be written.
pub(crate) fn tell(line: &str) {
    let _ = write(format!("{line}\n"));
}
