//! Programs for another architecture than the host's. Debian's Rust compiles them, with the other architecture's standard
//! library from the archive; they are static, so that they bring all that they need.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use super::archive::Archive;
use super::built::{self, Built};
use crate::debian::Package;
use crate::process;
use crate::stop::Stop;

/// What builds for an architecture.
pub(crate) struct Cross {
    /// As rustc has it.
    pub(crate) target: &'static str,
    /// The C compiler, which links too.
    pub(crate) linker: Package,
    /// Its C library.
    pub(crate) libc: Package,
}

/// The compiler, and what its standard library is called in the archive.
pub(crate) const RUSTC: Package =
    Package { name: "rustc-web", program: "/usr/bin/rustc", why: "the compiler whose other libraries Debian has" };
const LIBRARY: &str = "libstd-rust-web-dev";

/// Programs of the host's that the guest has too; there one file is all of them.
const TOOLS: &str = "busybox-static";

/// The programs of a guest, and what stands in for the host's.
pub(crate) struct Foreign {
    pub(crate) built: Vec<Built>,
    pub(crate) tools: PathBuf,
    /// Where cargo built them.
    pub(crate) target: PathBuf,
}

impl Cross {
    /// Builds the guest's programs: zcprof, the tests asked for, and the programs that they start.
    pub(crate) fn build(&self, root: &Path, archive: &Archive, tests: &[&str]) -> anyhow::Result<Foreign> {
        let library = self.library(archive)?;
        let Some((_, tools)) = archive.named(TOOLS, None)? else {
            return Err(Stop::Cannot(format!("Debian's archive has no {TOOLS} for {}", self.target)).into());
        };
        let target = process::target_dir(root).join("vm/cross");
        let mut cargo = process::cargo(root);
        process::without(&mut cargo, |name| name.starts_with("RUSTC") || name.ends_with("RUSTFLAGS"));
        // Not the release, which takes twice as long to build.
        cargo.args(["build", "--locked", "--profile", "vm", "-p", "zc-userspace", "-p", "zc-tests", "--bin", "zcprof"]);
        cargo.args(tests.iter().flat_map(|name| ["--test", name]));
        cargo.args(["--target", self.target, "--target-dir"]).arg(&target);
        let variable = |of: &str| format!("CARGO_TARGET_{}_{of}", self.target.replace('-', "_").to_uppercase());
        cargo.env("RUSTC", RUSTC.program);
        cargo.env(variable("LINKER"), self.linker.program);
        cargo.env(variable("RUSTFLAGS"), format!("-Ctarget-feature=+crt-static --sysroot={}", library.display()));
        eprintln!("building for {}, with Debian's Rust", self.target);
        let built = built::run(&mut cargo)?;
        Ok(Foreign { built, tools: tools.join("bin/busybox"), target: target.join(self.target) })
    }

    /// Where the compiler finds the other architecture's standard library, of its own version.
    fn library(&self, archive: &Archive) -> anyhow::Result<PathBuf> {
        let version = process::capture(Command::new("dpkg-query").args(["-W", "-f", "${Version}", RUSTC.name]))?;
        let Some((_, directory)) = archive.named(LIBRARY, Some(version.trim()))? else {
            return Err(Stop::Cannot(format!(
                "Debian's archive has no {LIBRARY} {} for {}, the version of the {} here: as root, `apt-get install {}`",
                version.trim(),
                self.target,
                RUSTC.name,
                RUSTC.name
            ))
            .into());
        };
        directory.join("usr").canonicalize().with_context(|| directory.display().to_string())
    }
}
