//! The project's automation. A library too, so that the tests can call `manifest`, `expected`, `deb` and `tools`, and the machines of
//! `vm` start with its plan.
//!
//! To add a command: a module with `run(root, …) -> anyhow::Result<()>`, a variant and an arm in `cli`.

mod bench;
mod cli;
mod codegen;
pub mod deb;
mod debian;
mod demo;
mod dist;
mod ebpf;
pub mod expected;
mod http;
pub mod manifest;
mod policy;
mod preflight;
mod process;
mod signals;
mod stop;
mod test;
pub mod tools;
pub mod vm;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;

/// Runs the command line; the exit status is 0, 1 (something failed), 2 (can't be done here) or that of `zcprof`.
#[must_use]
pub fn main() -> ExitCode {
    match root().and_then(|root| cli::run(&root)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => stop::report(&error),
    }
}

/// The workspace's root. Cargo tells where this package lies; started by hand, the working directory does.
fn root() -> anyhow::Result<PathBuf> {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    if let Some(root) = package.as_deref().and_then(|package| package.parent()) {
        return Ok(root.to_owned());
    }
    let here = std::env::current_dir().context("the working directory")?;
    let root = here.ancestors().find(|dir| dir.join("xtask/Cargo.toml").is_file());
    root.map(ToOwned::to_owned).with_context(|| format!("{} is not in zcprof's tree", here.display()))
}
