//! The `zcprof` binary.

use std::process::ExitCode;

use zcprof::config::{DaemonConfig, DaemonOptions};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let options = DaemonOptions {
        web_listen_address: arguments.next().into_iter().collect(),
        probe: arguments.collect(),
        ..DaemonOptions::default()
    };
    match DaemonConfig::load(options) {
        Ok(config) => zcprof::agent::daemon::run(&config),
        Err(error) => {
            eprintln!("zcprof daemon: {error}");
            ExitCode::from(2)
        }
    }
}
