//! Errors for a person to read.

/// An error and its causes, each said once: many name their cause themselves.
pub(crate) fn with_causes(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let error = anyhow!("No space left").context("cannot write F: No space left").context("cannot start");
        assert_eq!(with_causes(&error), "cannot start: cannot write F: No space left");
        assert_eq!(with_causes(&anyhow!("alone")), "alone");
    }
}
