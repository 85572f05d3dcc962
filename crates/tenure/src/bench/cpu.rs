//! How much CPU time processes have used: user and system time of all threads, from `/proc/PID/stat`.

use std::fs;

/// The CPU time that the processes have used so far, in microseconds. The kernel counts in ticks, of which
/// there are a hundred a second.
pub(crate) fn used_us(pids: &[u32]) -> Result<u64, String> {
    let each = pids.iter().map(|pid| {
        let path = format!("/proc/{pid}/stat");
        let stat = fs::read_to_string(&path)
            .map_err(|error| format!("cannot read the CPU time of process {pid}: {error}"))?;
        let ticks = ticks(&stat).ok_or_else(|| format!("cannot make sense of {path}: {stat}"))?;
        Ok(ticks * (1_000_000 / rustix::param::clock_ticks_per_second()))
    });
    each.sum()
}

/// `utime` and `stime`, the 14th and 15th field. The second one is the program's name in parentheses, in
/// which anything may stand.
fn ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_system_time_are_found_behind_any_name() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 17 25 3 4 20 0 9 0 100 0 0";
        assert_eq!(ticks(stat), Some(42));
    }

    #[test]
    fn what_is_no_stat_is_refused() {
        for stat in ["", "42 (name", "42 (name) S 1", "42 (n) S 1 42 42 0 -1 4194560 100 0 0 0 x 25"] {
            assert_eq!(ticks(stat), None, "{stat}");
        }
    }

    #[test]
    fn work_is_seen() {
        let own = [std::process::id()];
        let before = used_us(&own).expect("this process");
        let mut sum = 0_u64;
        while used_us(&own).expect("this process") < before + 20_000 {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(used_us(&[u32::MAX]).is_err(), "no such process");
    }
}
