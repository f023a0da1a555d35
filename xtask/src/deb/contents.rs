//! What lies where in the Debian package.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use super::{notices, read};
use crate::process;

/// Files of the tree that go in as they are: where they are, and where they go.
const AS_THEY_ARE: &[(&str, &str)] = &[
    ("packaging/systemd/zcprof.service", "usr/lib/systemd/system/zcprof.service"),
    ("packaging/systemd/zcprof.socket", "usr/lib/systemd/system/zcprof.socket"),
    ("packaging/zcprof.toml", "etc/zcprof/zcprof.toml"),
    ("packaging/debian/lintian-overrides", "usr/share/lintian/overrides/zcprof"),
    ("docs/limits.md", "usr/share/doc/zcprof/limits.md"),
    ("docs/operations.md", "usr/share/doc/zcprof/operations.md"),
];

/// The folder of examples: rules, dashboards and how Prometheus and Grafana get at them.
const EXAMPLES: (&str, &str) = ("dashboards", "usr/share/doc/zcprof/examples");

/// Shells, and where Debian has their completions.
const COMPLETIONS: &[(&str, &str)] = &[
    ("bash", "usr/share/bash-completion/completions/zcprof"),
    ("zsh", "usr/share/zsh/vendor-completions/_zcprof"),
    ("fish", "usr/share/fish/vendor_completions.d/zcprof.fish"),
];

/// Files by their paths in the package, without the leading slash: content and mode.
pub(super) struct Contents(Vec<(String, Vec<u8>, u32)>);

impl Contents {
    /// Reads and makes them all; the manual and the completions are the binary's own.
    pub(super) fn gather(root: &Path, binary: &Path, elf: Vec<u8>) -> anyhow::Result<Self> {
        let mut all = Self(vec![("usr/bin/zcprof".to_owned(), elf, 0o755)]);
        for (from, to) in AS_THEY_ARE {
            all.add(*to, fs::read(root.join(from)).with_context(|| (*from).to_owned())?);
        }
        all.add_folder(&root.join(EXAMPLES.0), EXAMPLES.1)?;
        let pages = tempfile::tempdir().context("a directory for the manual")?;
        let generate = |words: &[&str]| process::capture(Command::new(binary).arg("generate").args(words));
        generate(&["man", "--dir", &pages.path().to_string_lossy()])?;
        for page in fs::read_dir(pages.path())? {
            let page = page?;
            all.add(
                format!("usr/share/man/man1/{}.gz", page.file_name().to_string_lossy()),
                gzip(&fs::read(page.path())?)?,
            );
        }
        for (shell, path) in COMPLETIONS {
            all.add(*path, generate(&["completions", shell])?.into_bytes());
        }
        let mit = fs::read_to_string(root.join("LICENSE-MIT")).context("LICENSE-MIT")?;
        all.add("usr/share/doc/zcprof/copyright", read(root, "copyright")?.replace("@MIT@\n", &field(&mit)));
        all.add("usr/share/doc/zcprof/changelog.gz", gzip(changelog()?.as_bytes())?);
        all.add("usr/share/doc/zcprof/third-party.txt.gz", gzip(notices::text(root)?.as_bytes())?);
        all.0.sort();
        Ok(all)
    }

    fn add(&mut self, path: impl Into<String>, content: impl Into<Vec<u8>>) {
        self.0.push((path.into(), content.into(), 0o644));
    }

    fn add_folder(&mut self, from: &Path, to: &str) -> anyhow::Result<()> {
        for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
            let entry = entry?;
            let path = format!("{to}/{}", entry.file_name().to_string_lossy());
            if entry.file_type()?.is_dir() {
                self.add_folder(&entry.path(), &path)?;
            } else {
                self.add(path, fs::read(entry.path())?);
            }
        }
        Ok(())
    }

    /// Writes them below `tree`; their bytes in sum.
    pub(super) fn lay(&self, tree: &Path) -> anyhow::Result<u64> {
        fs::set_permissions(tree, fs::Permissions::from_mode(0o755))?;
        for (path, content, mode) in &self.0 {
            write(tree, path, content, *mode)?;
        }
        Ok(self.0.iter().map(|(_, content, _)| content.len() as u64).sum())
    }

    /// dpkg's md5sums (deb-md5sums(5)): of all but what the administrator may change.
    pub(super) fn digests(&self, tree: &Path) -> anyhow::Result<String> {
        let paths = self.0.iter().map(|(path, ..)| path).filter(|path| !path.starts_with("etc/"));
        process::capture(Command::new("md5sum").arg("--").args(paths).current_dir(tree))
    }
}

/// Writes a file of the package; folders are everybody's to enter, whatever our umask is.
pub(super) fn write(tree: &Path, path: &str, content: &[u8], mode: u32) -> anyhow::Result<()> {
    let mut folder = tree.to_owned();
    for part in Path::new(path).parent().into_iter().flat_map(Path::components) {
        folder.push(part);
        if !folder.is_dir() {
            fs::create_dir(&folder).with_context(|| path.to_owned())?;
        }
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
    }
    let file = tree.join(path);
    fs::write(&file, content).with_context(|| path.to_owned())?;
    fs::set_permissions(&file, fs::Permissions::from_mode(mode)).with_context(|| path.to_owned())
}

/// gzip as Debian's policy wants it: best, and with neither name nor time.
fn gzip(content: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut gzip = Command::new("gzip").arg("-9n").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut input = gzip.stdin.take().context("a pipe to gzip")?;
    let content = content.to_owned();
    // Its output is read meanwhile: neither pipe fills up.
    let writer = std::thread::spawn(move || input.write_all(&content));
    let output = gzip.wait_with_output().context("gzip")?;
    if !output.status.success() || !matches!(writer.join(), Ok(Ok(()))) {
        bail!("gzip: {}", output.status);
    }
    Ok(output.stdout)
}

/// A text as the last field of a paragraph of a copyright file.
fn field(text: &str) -> String {
    text.lines().fold(String::new(), |mut all, line| {
        let _ = writeln!(all, " {}", if line.is_empty() { "." } else { line });
        all
    })
}

/// Debian wants one; ours is in the repository.
fn changelog() -> anyhow::Result<String> {
    let mut date = Command::new("date");
    date.arg("-uR");
    if let Ok(epoch) = std::env::var("SOURCE_DATE_EPOCH") {
        date.args(["-d", &format!("@{epoch}")]);
    }
    Ok(format!(
        "zcprof ({}) unstable; urgency=medium\n\n  * Built from zcprof's tree by `cargo xtask dist deb`.\n\n -- {}  {}\n",
        env!("CARGO_PKG_VERSION"),
        super::maintainer(),
        process::capture(&mut date)?.trim()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_keep_their_empty_lines() {
        assert_eq!(field("a\n\nb\n"), " a\n .\n b\n");
    }

    #[test]
    fn large_content_goes_through_gzip() {
        let content: Vec<u8> = (0..1_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let packed = gzip(&content).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), packed).unwrap();
        let unpacked = Command::new("zcat").stdin(fs::File::open(file.path()).unwrap()).output().unwrap();
        assert_eq!(unpacked.stdout, content);
    }
}
