//! Files that are made from the code: one list writes them, and checks that they are up to date.

mod dashboards;
mod grafana;
mod paths;
pub(crate) mod truth;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};

use crate::process;

/// A file that is made here: its path and its text.
type Made = (&'static str, fn() -> String);

/// A file that `zcprof generate …` prints: its path, and the words after `generate`.
type Printed = (&'static str, &'static [&'static str]);

const BY_US: &[Made] = &[
    ("docs/paths.md", paths::markdown),
    ("docs/truth.md", truth::markdown),
    ("dashboards/grafana/host.json", dashboards::host),
    ("dashboards/grafana/group.json", dashboards::group),
    ("dashboards/grafana/fleet.json", dashboards::fleet),
];

/// For example `("docs/openapi.json", &["openapi"])`.
const BY_ZCPROF: &[Printed] = &[];

/// Writes every generated file, or only says which is out of date.
pub(crate) fn run(root: &Path, check: bool) -> anyhow::Result<()> {
    let mut stale = Vec::new();
    for (path, make) in BY_US {
        stale.extend(bring_up(root, path, &make(), check)?);
    }
    for (path, words) in BY_ZCPROF {
        stale.extend(bring_up(root, path, &printed(root, words)?, check)?);
    }
    if check && !stale.is_empty() {
        bail!("out of date: {}: run `cargo xtask codegen`", stale.join(", "));
    }
    for path in &stale {
        println!("wrote {path}");
    }
    let files = BY_US.len() + BY_ZCPROF.len();
    println!("{files} generated {} up to date", if files == 1 { "file is" } else { "files are" });
    Ok(())
}

/// The file's path if it was not as it should be; written unless `check`.
fn bring_up<'a>(root: &Path, path: &'a str, text: &str, check: bool) -> anyhow::Result<Option<&'a str>> {
    let file = root.join(path);
    if fs::read_to_string(&file).is_ok_and(|old| old == text) {
        return Ok(None);
    }
    if !check {
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder).with_context(|| path.to_owned())?;
        }
        fs::write(&file, text).with_context(|| path.to_owned())?;
    }
    Ok(Some(path))
}

fn printed(root: &Path, words: &[&str]) -> anyhow::Result<String> {
    let mut cargo = process::cargo(root);
    cargo.args(["run", "--quiet", "--locked", "-p", "zc-userspace", "--bin", "zcprof", "--", "generate"]).args(words);
    process::capture(&mut cargo)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checking_writes_nothing() {
        let root = tempfile::tempdir().unwrap();
        let bring = |check| bring_up(root.path(), "docs/x.md", "new\n", check).unwrap();
        assert_eq!(bring(true), Some("docs/x.md"));
        assert!(!root.path().join("docs").exists());
        assert_eq!(bring(false), Some("docs/x.md"));
        assert_eq!(bring(true), None);
    }
}
