//! One measurement, for a person or a program.

use std::fmt::Write;

use serde_json::{Value, json};

use super::load::{Load, Measurement};

/// The points of the distribution that are shown.
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

/// For a person.
pub(crate) fn text(load: &Load, measurement: &Measurement) -> String {
    let mut out = format!(
        "{}: {} clients on {} connections to {} endpoints, values of {} bytes, {} keys\n",
        load.operation.name(),
        load.clients,
        load.connections,
        load.endpoints.len(),
        load.value_bytes,
        load.key_space,
    );
    let mut row = |name: &str, value: String| {
        writeln!(out, "  {name:<14}{value}").expect("a string takes everything");
    };
    let answered = measurement.latency_us.len();
    row("answered", format!("{answered} in {:.2} s", measurement.window.as_secs_f64()));
    row("throughput", format!("{:.0} /s", measurement.throughput()));
    row("latency", latencies(measurement));
    if let Some(cpu_us) = measurement.servers_cpu_us {
        row("servers' CPU", cpu(measurement, cpu_us));
    }
    row("own CPU", cpu(measurement, measurement.own_cpu_us));
    if measurement.errors.is_empty() {
        row("errors", "none".to_owned());
    }
    for (error, count) in &measurement.errors {
        row("errors", format!("{count} times: {error}"));
    }
    out
}

fn latencies(measurement: &Measurement) -> String {
    let histogram = &measurement.latency_us;
    let mut out = format!("min {}, mean {:.0}", histogram.min(), histogram.mean());
    for (name, quantile) in QUANTILES {
        write!(out, ", {name} {}", histogram.value_at_quantile(quantile)).expect("a string takes everything");
    }
    out + &format!(", max {} µs", histogram.max())
}

fn cpu(measurement: &Measurement, cpu_us: u64) -> String {
    format!(
        "{:.1} µs an operation ({:.2} cores)",
        measurement.per_operation(cpu_us),
        measurement.cores(cpu_us)
    )
}

/// For a program. Durations in microseconds.
pub(crate) fn json(load: &Load, measurement: &Measurement) -> Value {
    let histogram = &measurement.latency_us;
    let mut latency_us = json!({ "min": histogram.min(), "mean": histogram.mean(), "max": histogram.max() });
    for (name, quantile) in QUANTILES {
        latency_us[name] = json!(histogram.value_at_quantile(quantile));
    }
    json!({
        "operation": load.operation.name(),
        "clients": load.clients,
        "connections": load.connections,
        "endpoints": load.endpoints,
        "value_bytes": load.value_bytes,
        "key_space": load.key_space,
        "window_s": measurement.window.as_secs_f64(),
        "answered": histogram.len(),
        "throughput_per_s": measurement.throughput(),
        "latency_us": latency_us,
        "servers_cpu_us_per_operation": measurement.servers_cpu_us.map(|cpu_us| measurement.per_operation(cpu_us)),
        "own_cpu_us_per_operation": measurement.per_operation(measurement.own_cpu_us),
        "errors": measurement.errors,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use hdrhistogram::Histogram;

    use super::super::workload::Operation;
    use super::*;

    fn example() -> (Load, Measurement) {
        let load = Load {
            operation: Operation::Put,
            endpoints: vec!["127.0.0.1:1".to_owned(), "127.0.0.1:2".to_owned()],
            clients: 4,
            connections: 8,
            value_bytes: 256,
            key_space: 100,
            warm_up: Duration::ZERO,
            duration: Duration::from_secs(2),
            pids: vec![1],
        };
        let mut latency_us = Histogram::new(3).expect("three digits");
        for value in 1..=1000 {
            latency_us.record(value).expect("it grows");
        }
        let measurement = Measurement {
            window: Duration::from_secs(2),
            latency_us,
            errors: BTreeMap::from([("etcdserver: too many requests".to_owned(), 7)]),
            servers_cpu_us: Some(50_000),
            own_cpu_us: 10_000,
        };
        (load, measurement)
    }

    #[test]
    fn a_person_reads_rates_latencies_processors_and_errors() {
        let (load, measurement) = example();
        let expected = "\
put: 4 clients on 8 connections to 2 endpoints, values of 256 bytes, 100 keys
  answered      1000 in 2.00 s
  throughput    500 /s
  latency       min 1, mean 500, p50 500, p90 900, p99 990, p99.9 999, max 1000 µs
  servers' CPU  50.0 µs an operation (0.03 cores)
  own CPU       10.0 µs an operation (0.01 cores)
  errors        7 times: etcdserver: too many requests
";
        assert_eq!(text(&load, &measurement), expected);
    }

    #[test]
    fn a_program_reads_the_same() {
        let (load, measurement) = example();
        let json = json(&load, &measurement);
        assert_eq!(json["throughput_per_s"], 500.0);
        assert_eq!(json["latency_us"]["p99"], 990);
        assert_eq!(json["servers_cpu_us_per_operation"], 50.0);
        assert_eq!(json["errors"]["etcdserver: too many requests"], 7);
    }
}
