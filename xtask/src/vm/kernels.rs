//! Debian's cloud kernels: the newest of a series, downloaded and unpacked beside our build, never installed.

use std::cmp::Ordering;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use super::machine::Machine;
use crate::process;
use crate::stop::Stop;

/// A kernel, unpacked.
pub(crate) struct Kernel {
    /// As the package has it: `6.12.117`.
    pub(crate) version: String,
    /// As the kernel itself has it: `6.12.117+deb12-cloud-amd64`.
    pub(crate) release: String,
    /// Where its package lies unpacked.
    pub(crate) directory: PathBuf,
}

/// A package of Debian.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Package {
    name: String,
    version: String,
}

impl Kernel {
    /// The newest of a series (`6.12`) that can be had; without the archive, the newest that was had before.
    pub(crate) fn newest(machine: &Machine, series: &str, kept: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(kept).with_context(|| kept.display().to_string())?;
        let package = match listed(machine, series).and_then(newest) {
            Some(package) => package,
            None => had_before(machine, series, kept)?,
        };
        let directory = kept.join(format!("{}_{}", package.name, package.version));
        if !directory.is_dir() {
            unpack(&package, machine, kept, &directory)?;
        }
        let release = package.name.trim_start_matches("linux-image-").trim_end_matches("-unsigned").to_owned();
        let version = package.version.split(['-', '~']).next().unwrap_or_default().to_owned();
        Ok(Self { version, release, directory })
    }

    /// The image to boot.
    pub(crate) fn image(&self) -> PathBuf {
        self.directory.join(format!("boot/vmlinuz-{}", self.release))
    }

    /// Where its modules are.
    pub(crate) fn modules(&self) -> PathBuf {
        self.directory.join("lib/modules").join(&self.release)
    }
}

/// What the archive has of a series; none if there is no archive here.
fn listed(machine: &Machine, series: &str) -> Option<Vec<Package>> {
    let pattern = format!("^linux-image-{}\\.[0-9].*-{}$", series.replace('.', "\\."), machine.kernel_suffix);
    let apt = |arguments: &[&str]| {
        let architecture = format!("APT::Architectures::={}", machine.debian);
        process::capture(Command::new("apt-cache").args(["-o", &architecture]).args(arguments)).ok()
    };
    let names = apt(&["search", "--names-only", &pattern])?;
    let names: Vec<_> = names.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let shown: Vec<_> = ["show", "--no-all-versions"].into_iter().chain(names.iter().copied()).collect();
    if names.is_empty() { Some(Vec::new()) } else { Some(packages(&apt(&shown)?)) }
}

/// The packages in what `apt-cache show` prints.
fn packages(text: &str) -> Vec<Package> {
    let field = |record: &str, name: &str| {
        record.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(": ")?.to_owned()))
    };
    let package = |record: &str| Some(Package { name: field(record, "Package")?, version: field(record, "Version")? });
    text.split("\n\n").filter_map(package).collect()
}

fn newest(packages: Vec<Package>) -> Option<Package> {
    packages.into_iter().max_by(|a, b| by_number(&a.version, &b.version))
}

/// Compares versions by the numbers in them.
fn by_number(a: &str, b: &str) -> Ordering {
    let numbers = |version: &str| -> Vec<u64> {
        version.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
    };
    numbers(a).cmp(&numbers(b))
}

fn had_before(machine: &Machine, series: &str, kept: &Path) -> anyhow::Result<Package> {
    let start = format!("linux-image-{series}.");
    let entries = fs::read_dir(kept)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let ours = entries.filter(|name| name.starts_with(&start) && name.contains(machine.kernel_suffix));
    let packages = ours.filter_map(|name| {
        let (name, version) = name.split_once('_')?;
        (!version.contains('_')).then(|| Package { name: name.to_owned(), version: version.to_owned() })
    });
    newest(packages.collect()).ok_or_else(|| {
        Stop::Cannot(format!(
            "Debian's archive has no cloud kernel {series} for {} here: on Debian, `apt-get update` (and `dpkg \
             --add-architecture {}` for another architecture)",
            machine.name, machine.debian
        ))
        .into()
    })
}

/// Downloads a package and unpacks it; what is half done never bears its name.
fn unpack(package: &Package, machine: &Machine, kept: &Path, directory: &Path) -> anyhow::Result<()> {
    let work = tempfile::tempdir_in(kept).context("a directory to download into")?;
    let name = format!("{}:{}={}", package.name, machine.debian, package.version);
    let architecture = format!("APT::Architectures::={}", machine.debian);
    let mut download = Command::new("apt-get");
    // Its own user may not be allowed to write here.
    download.args(["-q", "-o", "APT::Sandbox::User=root", "-o", &architecture, "download", &name]);
    process::stream(download.current_dir(work.path()))?;
    let mut files = fs::read_dir(work.path())?.filter_map(|entry| Some(entry.ok()?.path()));
    let Some(deb) = files.find(|path| path.extension().is_some_and(|extension| extension == "deb")) else {
        bail!("apt-get downloaded no package {name}");
    };
    let into = work.path().join("unpacked");
    process::capture(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(&into))?;
    fs::rename(&into, directory).with_context(|| directory.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_is_so_by_its_numbers() {
        let text = "Package: linux-image-6.1.0-56-cloud-amd64-unsigned\nSource: linux\nVersion: 6.1.192-2\n\n\
                    Package: linux-image-6.1.0-9-cloud-amd64-unsigned\nVersion: 6.1.27-1\n\n";
        let found = packages(text);
        assert_eq!(found.len(), 2);
        assert_eq!(newest(found).unwrap().version, "6.1.192-2");
        assert_eq!(by_number("6.12.117-1~deb12u1", "6.12.100-1"), Ordering::Greater);
        assert_eq!(newest(Vec::new()), None);
    }
}
