//! temporary
use std::sync::atomic::{AtomicU64, Ordering};
use tenure_sim::{Coverage, Mark, Plan, run};
fn main() {
    let args: Vec<u64> = std::env::args().skip(1).map(|a| a.parse().unwrap()).collect();
    let (from, count) = (args[0], args[1]);
    let next = AtomicU64::new(from);
    let fails = AtomicU64::new(0);
    std::thread::scope(|s| {
        for _ in 0..2 {
            s.spawn(|| {
                let mut cov = Coverage::default();
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= from + count || fails.load(Ordering::SeqCst) > 8 { break; }
                    match run(Plan::of_seed(seed)) {
                        Ok(r) => cov.add(&r.coverage),
                        Err(f) => { fails.fetch_add(1, Ordering::SeqCst); println!("FAIL {seed}: {}", f.to_string().chars().take(700).collect::<String>()); }
                    }
                    if (seed - from) % 100 == 0 { println!("{} done", seed - from); }
                }
                println!("ignored {} heard {}", cov.count(Mark::StrangerIgnored), cov.count(Mark::StrangerHeard));
            });
        }
    });
}
