//! What the eBPF object is built from: the files themselves, and the only table of the root's Cargo.toml that counts.

use std::fs;
use std::path::Path;

use anyhow::Context as _;

/// Files and folders that are inputs as a whole.
const SOURCES: &[&str] =
    &["zc-ebpf/Cargo.lock", "zc-ebpf/Cargo.toml", "zc-ebpf/src", "zc-common/Cargo.toml", "zc-common/src"];

/// The rows of the catalogue are behind a feature that the kernel half does not enable: a new row needs no new object.
const NOT_IN_THE_KERNEL: &str = "zc-common/src/path/rows.rs";

/// zc-common inherits its version and edition from it, and the compiler hashes both into the names of symbols.
pub(crate) const PACKAGE_TABLE: &str = "Cargo.toml [workspace.package]";

/// One input: its path from the workspace's root, with `/`, and its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Input {
    /// Where it lies.
    pub(crate) path: String,
    /// What is in it.
    pub(crate) bytes: Vec<u8>,
}

/// Every input, sorted by path.
pub(crate) fn inputs(root: &Path) -> anyhow::Result<Vec<Input>> {
    let mut found = Vec::new();
    for source in SOURCES {
        collect(root, source, &mut found)?;
    }
    let table = read_table(&root.join("Cargo.toml"))?;
    let package = table.get("workspace").and_then(|workspace| workspace.get("package"));
    let package = package.context("Cargo.toml: no [workspace.package]")?;
    found.push(Input { path: PACKAGE_TABLE.to_owned(), bytes: toml_text(package).into_bytes() });
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn read_table(file: &Path) -> anyhow::Result<toml::Table> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    text.parse().with_context(|| file.display().to_string())
}

fn collect(root: &Path, path: &str, found: &mut Vec<Input>) -> anyhow::Result<()> {
    let file = root.join(path);
    if !file.is_dir() {
        if path != NOT_IN_THE_KERNEL {
            let bytes = fs::read(&file).with_context(|| path.to_owned())?;
            found.push(Input { path: path.to_owned(), bytes });
        }
        return Ok(());
    }
    for entry in fs::read_dir(&file).with_context(|| path.to_owned())? {
        let name = entry.with_context(|| path.to_owned())?.file_name();
        let name = name.to_str().with_context(|| format!("{path}: a name that is not UTF-8"))?;
        // Editors' backups and swap files.
        if !(name.starts_with('.') || name.ends_with('~')) {
            collect(root, &format!("{path}/{name}"), found)?;
        }
    }
    Ok(())
}

/// A table's keys and values in their order, whatever spaces and comments were around them.
fn toml_text(value: &toml::Value) -> String {
    match value {
        toml::Value::Table(table) => {
            let mut lines: Vec<_> = table.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
            lines.sort();
            lines.concat()
        }
        other => other.to_string(),
    }
}
