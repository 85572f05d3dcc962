//! What was found, as a table of docs/simulation.md.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::fault::Fault;
use crate::hunt::Outcome;

const BEGIN: &str = "<!-- planted: begin -->";
const END: &str = "<!-- planted: end -->";

/// One fault and what came of it.
#[derive(Clone, Debug)]
pub struct Row<'a> {
    /// The fault.
    pub fault: &'a Fault,
    /// What came of it.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
}

/// The table in Markdown, a row a fault.
pub fn markdown(rows: &[Row<'_>]) -> String {
    let mut text = String::from("| fault | what is wrong | caught by | seeds | s |\n|---|---|---|---|---|\n");
    for Row { fault, outcome, took } in rows {
        let seeds = match outcome {
            Outcome::Caught { seeds, .. } => seeds.to_string(),
            Outcome::Passed | Outcome::Broken(_) => "–".into(),
        };
        let Fault { name, what, .. } = fault;
        let seconds = took.as_secs_f64().ceil();
        let row =
            [name, what, &outcome.judge(), &seeds, &format!("{seconds:.0}")].map(String::as_str).join(" | ");
        text.extend(["| ", &row, " |\n"]);
    }
    text
}

/// Puts the table in the place of the one in the file.
pub fn write(path: &Path, table: &str) -> Result<(), String> {
    let say = |error: std::io::Error| format!("{}: {error}", path.display());
    let text = fs::read_to_string(path).map_err(say)?;
    fs::write(path, replace(&text, table)?).map_err(say)
}

fn replace(text: &str, table: &str) -> Result<String, String> {
    let (before, rest) = text.split_once(BEGIN).ok_or_else(|| format!("there is no {BEGIN}"))?;
    let (_, after) = rest.split_once(END).ok_or_else(|| format!("there is no {END}"))?;
    Ok(format!("{before}{BEGIN}\n{table}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_table_is_replaced() {
        let text = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        assert_eq!(replace(&text, "new\n"), Ok(text.replace("old", "new")));
        assert!(replace("no table", "new").is_err());
    }
}
