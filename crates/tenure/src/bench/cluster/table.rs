//! The comparison, for a person or a program: medians over the rounds, and ours divided by etcd's.

use std::fmt::Write;

use serde_json::{Value, json};

use super::super::load::Measurement;
use super::super::report;
use super::compare::{LOADS, Results, SystemResults};
use super::gap::Blow;

/// The figures of a load: what, and how it is read off.
type Figure = (&'static str, fn(&Measurement) -> f64);

const FIGURES: [Figure; 6] = [
    ("throughput, /s", Measurement::throughput),
    ("p50, µs", |measurement| measurement.latency_us.value_at_quantile(0.5) as f64),
    ("p99, µs", |measurement| measurement.latency_us.value_at_quantile(0.99) as f64),
    ("servers' CPU, µs/op", |measurement| {
        measurement.per_operation(measurement.servers_cpu_us.unwrap_or(0))
    }),
    ("own CPU, µs/op", |measurement| measurement.per_operation(measurement.own_cpu_us)),
    ("errors", |measurement| measurement.errors.values().sum::<u64>() as f64),
];

/// For a person.
pub(crate) fn text(results: &Results) -> String {
    let mut out = format!("{:<32}", "medians over the rounds");
    for (name, _) in &results.systems {
        write!(out, "{name:>12}").expect("a string takes everything");
    }
    out.push_str(if results.systems.len() == 2 { "       ratio\n" } else { "\n" });
    for (number, (name, _, _)) in LOADS.iter().enumerate() {
        writeln!(out, "{name}").expect("a string takes everything");
        for (figure, read) in FIGURES {
            let of = |system: &SystemResults| median(system.loads[number].iter().map(|(_, run)| read(run)));
            let values: Vec<_> = results.systems.iter().map(|(_, system)| of(system)).collect();
            row(&mut out, figure, &values);
        }
    }
    writeln!(out, "longest time without an acknowledged write").expect("a string takes everything");
    for blow in Blow::ALL {
        let of = |system: &SystemResults| median(system.gaps_ms.get(&blow).into_iter().flatten().copied());
        let label = format!("after {} to the leader, ms", blow.name());
        let values: Vec<_> = results.systems.iter().map(|(_, system)| of(system)).collect();
        row(&mut out, &label, &values);
    }
    out
}

fn row(out: &mut String, label: &str, values: &[Option<f64>]) {
    write!(out, "  {label:<30}").expect("a string takes everything");
    for value in values {
        let value = value.map_or_else(|| "-".to_owned(), |value| format!("{value:.*}", digits(value)));
        write!(out, "{value:>12}").expect("a string takes everything");
    }
    if let [Some(ours), Some(theirs)] = *values
        && theirs > 0.0
    {
        write!(out, "{:>12.2}", ours / theirs).expect("a string takes everything");
    }
    out.push('\n');
}

/// Digits behind the point: three figures that count are enough.
fn digits(value: f64) -> usize {
    usize::from(value != 0.0 && value < 100.0)
}

/// The middle one; of an even number the mean of the two in the middle.
fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = values[(values.len() - 1) / 2];
    Some(f64::midpoint(lower, upper))
}

/// For a program: every run.
pub(crate) fn json(results: &Results) -> Value {
    let systems = results.systems.iter().map(|(name, system)| {
        let loads = LOADS.iter().zip(&system.loads).map(|((name, _, _), runs)| {
            let runs: Vec<Value> = runs.iter().map(|(load, run)| report::json(load, run)).collect();
            ((*name).to_owned(), json!(runs))
        });
        let gaps = system.gaps_ms.iter().map(|(blow, gaps)| (blow.name().to_owned(), json!(gaps)));
        let loads: serde_json::Map<String, Value> = loads.collect();
        let gaps: serde_json::Map<String, Value> = gaps.collect();
        ((*name).to_owned(), json!({ "loads": loads, "gaps_ms": gaps }))
    });
    Value::Object(systems.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle_one_or_between_the_two() {
        assert_eq!(median([].into_iter()), None);
        assert_eq!(median([3.0].into_iter()), Some(3.0));
        assert_eq!(median([9.0, 1.0].into_iter()), Some(5.0));
        assert_eq!(median([9.0, 1.0, 2.0].into_iter()), Some(2.0));
    }

    #[test]
    fn two_systems_have_a_ratio_and_one_has_none() {
        let system = |gap_ms: f64| {
            let mut results = SystemResults::default();
            results.gaps_ms.insert(Blow::Kill, vec![gap_ms]);
            results
        };
        let mut results = Results { systems: vec![("tenure", system(120.0)), ("etcd", system(1000.0))] };
        let line = |text: &str| text.lines().find(|line| line.contains("SIGKILL")).map(str::to_owned);
        let expected = "  after SIGKILL to the leader, ms         120        1000        0.12";
        assert_eq!(line(&text(&results)).as_deref(), Some(expected));
        results.systems.pop();
        let expected = "  after SIGKILL to the leader, ms         120";
        assert_eq!(line(&text(&results)).as_deref(), Some(expected));
    }
}
