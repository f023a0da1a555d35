//! Debian packages: which are missing, and installing them without starting what they serve.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::process;
use crate::signals::Held;
use crate::stop::Stop;

/// A package, by the program that we need of it: whichever package brings that will do.
pub(crate) struct Package {
    pub(crate) name: &'static str,
    pub(crate) program: &'static str,
    pub(crate) why: &'static str,
}

/// What the tests use.
pub(crate) const FOR_TESTS: &[Package] = &[
    Package { name: "nginx-light", program: "nginx", why: "a real server that uses sendfile, direct I/O and threads" },
    Package { name: "mariadb-server", program: "mariadbd", why: "a real database, with O_DIRECT and without" },
    Package { name: "default-jdk-headless", program: "javac", why: "a log in Kafka's manner: mmap and transferTo" },
    Package { name: "curl", program: "curl", why: "a client of nginx and of the daemon's API" },
    Package { name: "strace", program: "strace", why: "a second opinion on what was called" },
    Package { name: "xfsprogs", program: "mkfs.xfs", why: "a file system that reflinks" },
    Package { name: "iproute2", program: "ip", why: "network devices with and without scatter-gather" },
    Package { name: "prometheus", program: "promtool", why: "judges the metrics' names, and the rules" },
    Package { name: "chromium", program: "chromium", why: "a real browser for the page" },
    Package { name: "systemd", program: "systemd-analyze", why: "judges the units (it is not started)" },
    Package { name: "lintian", program: "lintian", why: "judges the Debian package" },
    Package { name: "python3", program: "python3", why: "a real program with os.sendfile" },
    Package { name: "python3-pip", program: "pip3", why: "fetches what judges the manifests of containers" },
    Package { name: "npm", program: "npm", why: "the same" },
];

/// Asked by Debian's maintainer scripts before they start a service; 101 forbids it.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Those whose program is not here.
pub(crate) fn missing(packages: &'static [Package]) -> Vec<&'static Package> {
    lacking(packages, |program| process::find(program).is_some())
}

fn lacking(packages: &'static [Package], has: impl Fn(&str) -> bool) -> Vec<&'static Package> {
    packages.iter().filter(|package| !has(package.program)).collect()
}

/// Their names, as apt-get takes them.
pub(crate) fn names(packages: &[&Package]) -> String {
    packages.iter().map(|package| package.name).collect::<Vec<_>>().join(" ")
}

/// Installs them, saying so.
pub(crate) fn install(packages: &[&Package]) -> anyhow::Result<()> {
    if process::find("apt-get").is_none() {
        bail!("no apt-get here: install what Debian calls {}", names(packages));
    }
    println!("installing Debian packages (nothing is started):");
    for package in packages {
        println!("  {}: {}", package.name, package.why);
    }
    // Dropped in the reverse order: Ctrl-C takes effect when the policy is gone.
    let signals = Held::new()?;
    let _policy = NoServices::forbid()?;
    // Out-of-date lists may still do; if not, the installation says so.
    process::status(apt().args(["-q", "update"]))?;
    let mut install = apt();
    install.args(["-q", "install", "-y", "--no-install-recommends"]);
    let done = process::stream(install.args(packages.iter().map(|package| package.name)));
    // Ctrl-C was meant for all of us: the status a shell gives it.
    if signals.came() { Err(Stop::Status(130).into()) } else { done }
}

fn apt() -> Command {
    let mut apt = Command::new("apt-get");
    apt.env("DEBIAN_FRONTEND", "noninteractive");
    apt
}

/// While it lives, installing a package starts no service. A policy that the machine has already is left in force.
struct NoServices {
    ours: bool,
}

impl NoServices {
    fn forbid() -> anyhow::Result<Self> {
        let policy = Path::new(POLICY);
        let ours = !policy.exists();
        if ours {
            let text =
                "#!/bin/sh\n# Put here by `cargo xtask` while it installs packages; it removes it again.\nexit 101\n";
            fs::write(policy, text).context(POLICY)?;
            fs::set_permissions(policy, fs::Permissions::from_mode(0o755)).context(POLICY)?;
        }
        Ok(Self { ours })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours && fs::remove_file(POLICY).is_err() {
            eprintln!("xtask: could not remove {POLICY}: remove it, or no package will start its service");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_packages_are_named_by_package() {
        let lacking = lacking(FOR_TESTS, |program| !matches!(program, "promtool" | "mkfs.xfs"));
        assert_eq!(names(&lacking), "xfsprogs prometheus");
        assert!(FOR_TESTS.iter().all(|package| !package.why.is_empty() && !package.program.is_empty()));
    }
}
