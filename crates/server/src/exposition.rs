//! Metrics in the text format 0.0.4 of Prometheus: the one that etcd answers with, and every scraper reads.
//!
//! The library writes OpenMetrics, which looks almost the same and is another format: it ends with `# EOF`, has
//! types that the older one does not know (a scraper refuses the whole answer for one of them), and names a counter
//! without the `_total` that its sample has. A scraper goes by the content type, so the two must not be mixed.

use std::fmt::{self, Write};

use prometheus_client::encoding::text::encode_registry;
use prometheus_client::registry::Registry;

/// The content type of what [`text`] returns, as etcd has it.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";

/// All metrics of a registry.
pub(crate) fn text(registry: &Registry) -> String {
    let mut open_metrics = String::new();
    encode_registry(&mut open_metrics, registry).expect("a String takes everything");
    from_open_metrics(&open_metrics)
}

/// A family's name and type in the older format.
fn family<'a>(name: &str, kind: &'a str) -> (String, &'a str) {
    match kind {
        "counter" => (format!("{name}_total"), kind),
        "info" => (format!("{name}_info"), "gauge"),
        "stateset" => (name.to_owned(), "gauge"),
        "unknown" => (name.to_owned(), "untyped"),
        kind => (name.to_owned(), kind),
    }
}

fn line_of(text: &mut String, line: fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("a String takes everything");
}

fn from_open_metrics(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len() + 256);
    // It stands above the type, by which the name is decided.
    let mut help = None;
    for line in open_metrics.lines() {
        if let Some(of_family) = line.strip_prefix("# HELP ") {
            help = of_family.split_once(' ').map(|(_, help)| help);
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let (name, kind) = family(name, kind);
            if let Some(help) = help.take() {
                line_of(&mut text, format_args!("# HELP {name} {}", help.replace('\\', "\\\\")));
            }
            line_of(&mut text, format_args!("# TYPE {name} {kind}"));
        } else if !line.starts_with('#') {
            // An exemplar stands behind the sample.
            let sample = line.split_once(" # {").map_or(line, |(sample, _)| sample);
            line_of(&mut text, format_args!("{sample}"));
        }
    }
    text
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeSet;

    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::info::Info;
    use prometheus_client::registry::Unit;

    use super::*;

    /// What a family may be in this format, and what its samples may be called beside its own name.
    const TYPES: [(&str, &[&str]); 5] = [
        ("counter", &[""]),
        ("gauge", &[""]),
        ("histogram", &["_bucket", "_sum", "_count"]),
        ("summary", &["", "_sum", "_count"]),
        ("untyped", &[""]),
    ];

    fn is_name(name: &str) -> bool {
        name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_' || letter == ':')
    }

    /// Checks the rules of the format, and returns every family's name and type.
    pub(crate) fn families(text: &str) -> BTreeSet<(&str, &str)> {
        assert!(text.ends_with('\n'), "the last line ends, too");
        let mut families = BTreeSet::new();
        let mut names = BTreeSet::new();
        let mut current: Option<(&str, &[&str])> = None;
        let mut helped = None;
        for line in text.lines() {
            if let Some(comment) = line.strip_prefix("# ") {
                let mut words = comment.splitn(3, ' ');
                match (words.next(), words.next(), words.next()) {
                    (Some("HELP"), Some(name), Some(_)) => {
                        assert!(names.insert(name), "{name} twice");
                        helped = Some(name);
                    }
                    (Some("TYPE"), Some(name), Some(kind)) => {
                        assert_eq!(helped, Some(name), "the help stands above");
                        let (_, suffixes) = TYPES.iter().find(|known| known.0 == kind).unwrap_or_else(|| {
                            panic!("{name}: no such type: {kind}");
                        });
                        current = Some((name, suffixes));
                        families.insert((name, kind));
                    }
                    other => panic!("neither help nor type: {other:?}"),
                }
                continue;
            }
            let (name, suffixes) = current.expect("a sample stands below its type");
            let (sample, value) = line.rsplit_once(' ').expect("a sample and its value");
            let sample = sample.split_once('{').map_or(sample, |(sample, _)| sample);
            assert!(is_name(sample), "{sample}");
            assert!(
                suffixes.iter().any(|suffix| sample.strip_prefix(name) == Some(suffix)),
                "{sample} below {name}"
            );
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
        families
    }

    #[test]
    fn what_only_the_newer_format_knows_is_said_in_the_older_ones_words() {
        let mut registry = Registry::default();
        registry.register("build", "About this build", Info::new(vec![("os", "linux")]));
        registry.register_with_unit("waited", "A path: C:\\", Unit::Seconds, Counter::<u64>::default());
        assert_eq!(
            text(&registry),
            "# HELP build_info About this build.\n# TYPE build_info gauge\nbuild_info{os=\"linux\"} 1\n\
             # HELP waited_seconds_total A path: C:\\\\.\n# TYPE waited_seconds_total counter\n\
             waited_seconds_total 0\n"
        );
        assert_eq!(families(&text(&registry)).len(), 2);
    }
}
