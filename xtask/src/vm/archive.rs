//! Debian's package archive, as one architecture sees it: packages are downloaded and unpacked beside our build, never
//! installed.

use std::cmp::Ordering;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use super::machine::Machine;
use crate::process;

/// The archive, and what has been taken from it.
pub(crate) struct Archive {
    debian: &'static str,
    /// Where it is kept.
    directory: PathBuf,
    /// For apt: whose lists it reads.
    options: Vec<String>,
}

/// A package of Debian.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Package {
    pub(crate) name: String,
    /// As Debian has it: `6.12.117-1~deb12u1`.
    pub(crate) version: String,
}

impl Archive {
    /// A machine's. The lists of another architecture than the host's are kept with the packages, so that the host does
    /// not change.
    pub(crate) fn open(machine: &Machine, kept: &Path) -> anyhow::Result<Self> {
        let directory = kept.join(machine.debian);
        let lists = directory.join("lists");
        fs::create_dir_all(lists.join("partial")).with_context(|| directory.display().to_string())?;
        // Its own user may not be allowed to write here.
        let mut options = vec!["APT::Sandbox::User=root".to_owned()];
        if machine.name != std::env::consts::ARCH {
            let lists = lists.canonicalize().with_context(|| lists.display().to_string())?;
            options.extend([
                format!("APT::Architecture={}", machine.debian),
                format!("APT::Architectures={}", machine.debian),
                format!("Dir::State::Lists={}", lists.display()),
                "Dir::State::status=/dev/null".to_owned(),
                "Dir::Cache::pkgcache=".to_owned(),
                "Dir::Cache::srcpkgcache=".to_owned(),
            ]);
        }
        let archive = Self { debian: machine.debian, directory, options };
        if machine.name != std::env::consts::ARCH {
            // Without a network the lists of before do, or what was taken then.
            let _ = process::capture(archive.apt("apt-get").args(["-q", "update"]));
        }
        Ok(archive)
    }

    fn apt(&self, program: &str) -> Command {
        let mut apt = Command::new(program);
        for option in &self.options {
            apt.args(["-o", option]);
        }
        apt
    }

    /// The newest package whose name starts and ends so, unpacked: where it lies. Without the archive, the newest that was
    /// had before; none if there is neither.
    pub(crate) fn newest(&self, start: &str, end: &str) -> anyhow::Result<Option<(Package, PathBuf)>> {
        let pattern = format!("^{}.*{end}$", start.replace('.', "\\."));
        let names = process::capture(self.apt("apt-cache").args(["search", "--names-only", &pattern]));
        let names = names.unwrap_or_default();
        let names: Vec<_> = names.lines().filter_map(|line| line.split_whitespace().next()).collect();
        let fits = |package: &Package| package.name.starts_with(start) && package.name.ends_with(end);
        self.take(if names.is_empty() { None } else { newest(self.show(&names)) }, fits)
    }

    /// A package by its name, in a certain version or the newest. Otherwise as [`Archive::newest`].
    pub(crate) fn named(&self, name: &str, version: Option<&str>) -> anyhow::Result<Option<(Package, PathBuf)>> {
        let fits = |package: &Package| package.name == name && version.is_none_or(|wanted| package.version == wanted);
        self.take(newest(self.show(&[name]).into_iter().filter(fits).collect()), fits)
    }

    fn show(&self, names: &[&str]) -> Vec<Package> {
        let text = process::capture(self.apt("apt-cache").arg("show").args(names));
        packages(&text.unwrap_or_default())
    }

    fn take(
        &self,
        package: Option<Package>,
        fits: impl Fn(&Package) -> bool,
    ) -> anyhow::Result<Option<(Package, PathBuf)>> {
        let Some(package) = package.or_else(|| newest(self.had_before().into_iter().filter(fits).collect())) else {
            return Ok(None);
        };
        let directory = self.directory.join(format!("{}_{}", package.name, package.version));
        if !directory.is_dir() {
            self.unpack(&package, &directory)?;
        }
        Ok(Some((package, directory)))
    }

    fn had_before(&self) -> Vec<Package> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten();
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let package = |name: String| {
            let (name, version) = name.split_once('_')?;
            Some(Package { name: name.to_owned(), version: version.to_owned() })
        };
        names.filter_map(package).collect()
    }

    /// Downloads a package and unpacks it; what is half done never bears its name.
    fn unpack(&self, package: &Package, directory: &Path) -> anyhow::Result<()> {
        let work = tempfile::tempdir_in(&self.directory).context("a directory to download into")?;
        let name = format!("{}:{}={}", package.name, self.debian, package.version);
        process::stream(self.apt("apt-get").args(["-q", "download", &name]).current_dir(work.path()))?;
        let mut files = fs::read_dir(work.path())?.filter_map(|entry| Some(entry.ok()?.path()));
        let Some(deb) = files.find(|path| path.extension().is_some_and(|extension| extension == "deb")) else {
            bail!("apt-get downloaded no package {name}");
        };
        let into = work.path().join("unpacked");
        process::capture(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(&into))?;
        fs::rename(&into, directory).with_context(|| directory.display().to_string())
    }
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

    #[test]
    fn without_the_archive_what_was_had_before_does() {
        let kept = tempfile::tempdir().unwrap();
        for directory in ["a-1_1.0-1", "a-1_1.0-2", "a-2_0.9-1", "lists", ".tmp"] {
            fs::create_dir(kept.path().join(directory)).unwrap();
        }
        // No lists: there is no such file.
        let options = vec!["Dir::State::Lists=/nonexistent".to_owned(), "Dir::Cache=/nonexistent".to_owned()];
        let archive = Archive { debian: "none", directory: kept.path().to_owned(), options };
        let version = |found: Option<(Package, PathBuf)>| found.map(|(package, _)| package.version);
        assert_eq!(version(archive.named("a-1", None).unwrap()).as_deref(), Some("1.0-2"));
        assert_eq!(version(archive.named("a-1", Some("1.0-1")).unwrap()).as_deref(), Some("1.0-1"));
        assert_eq!(version(archive.newest("a-", "2").unwrap()).as_deref(), Some("0.9-1"));
        assert_eq!(archive.newest("b-", "").unwrap(), None);
    }
}
