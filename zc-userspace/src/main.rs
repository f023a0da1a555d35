//! The `zcprof` binary.
use zcprof::kernel::{Options, Tracer};
fn main() {
    let t0 = std::time::Instant::now();
    let mut t = match Tracer::load(&Options { rows: zc_common::path::ROWS, exclude_self: true }) {
        Ok(t) => t,
        Err(e) => {
            println!("{e}");
            return;
        }
    };
    println!("loaded in {:?}", t0.elapsed());
    let rows = zc_common::path::ROWS;
    std::process::Command::new("sh").arg("-c").arg(std::env::args().nth(1).unwrap_or("true".into())).status().ok();
    let t0 = std::time::Instant::now();
    let r = t.read().unwrap();
    println!("read in {:?}", t0.elapsed());
    for th in r.threads.iter().map(|t| ("live", t)).chain(r.exited.iter().map(|t| ("dead", t))) {
        if th.1.system_calls == 0 {
            continue;
        }
        println!(
            "{} {}/{} p{} {} calls {}",
            th.0,
            th.1.identity.tgid,
            th.1.identity.tid,
            th.1.identity.parent_tgid,
            String::from_utf8_lossy(&th.1.identity.comm),
            th.1.system_calls
        );
        for (c, cell) in th.1.used() {
            println!(
                "   {} ops {} bytes {}",
                if c >= 4 {
                    format!("{} {}", rows[c as usize - 4].id(), rows[c as usize - 4].condition)
                } else {
                    format!("cell {c}")
                },
                cell.operations,
                cell.bytes
            );
        }
    }
    println!("{:?} {:?}", r.shared, r.fallback);
    for e in t.events() {
        println!("{:?} {} {}", e.kind, e.identity.tgid, String::from_utf8_lossy(&e.identity.comm));
    }
}
