//! Copies the inputs into a workspace of their own, from which the object is built.
//!
//! Not in place: cargo hashes the path of a dependency into its symbols' names, and leaves the machine out of it only
//! below the workspace's root. zc-common lies beside zc-ebpf, so an object built in place would differ from directory
//! to directory. Besides, what is not an input is not there, and so can't become one unnoticed.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};
use toml::{Table, Value};

use crate::manifest::Input;

/// Lays the workspace out in `dir`, and removes what an earlier one left there, but for what cargo built.
pub(super) fn lay(inputs: &[Input], dir: &Path) -> anyhow::Result<()> {
    for old in ["zc-ebpf", "zc-common"] {
        if dir.join(old).exists() {
            fs::remove_dir_all(dir.join(old)).with_context(|| dir.display().to_string())?;
        }
    }
    let mut package = Table::new();
    for input in inputs {
        match input.path.as_str() {
            crate::manifest::PACKAGE_TABLE => package = parse(input)?,
            "zc-ebpf/Cargo.lock" => write(dir, "Cargo.lock", &input.bytes)?,
            path => write(dir, path, &input.bytes)?,
        }
    }
    let kernel = inputs.iter().find(|input| input.path == "zc-ebpf/Cargo.toml").context("no zc-ebpf/Cargo.toml")?;
    let (workspace, kernel) = split(parse(kernel)?, package)?;
    write(dir, "Cargo.toml", workspace.to_string().as_bytes())?;
    write(dir, "zc-ebpf/Cargo.toml", kernel.to_string().as_bytes())
}

/// The manifest of a workspace around zc-ebpf, with the profiles that zc-ebpf sets, and zc-ebpf's as its member.
fn split(mut kernel: Table, package: Table) -> anyhow::Result<(Table, Table)> {
    let Some(Value::Table(mut workspace)) = kernel.remove("workspace") else {
        bail!("zc-ebpf/Cargo.toml: no [workspace]: it is one of its own");
    };
    if workspace.contains_key("package") || workspace.contains_key("members") {
        bail!("zc-ebpf/Cargo.toml: [workspace] with members or package, which `cargo xtask ebpf build` sets itself");
    }
    workspace.insert("members".into(), Value::Array(vec!["zc-ebpf".into()]));
    workspace.insert("package".into(), package.into());
    // What zc-ebpf's edition implies where it is the root.
    workspace.entry("resolver").or_insert_with(|| "3".into());
    // zc-common inherits lints; as a dependency it is compiled with all of them capped.
    workspace.entry("lints").or_insert_with(|| Table::new().into());
    let mut root = Table::from_iter([("workspace".to_owned(), workspace.into())]);
    for key in ["profile", "patch"] {
        root.extend(kernel.remove(key).map(|value| (key.to_owned(), value)));
    }
    Ok((root, kernel))
}

fn parse(input: &Input) -> anyhow::Result<Table> {
    let text = std::str::from_utf8(&input.bytes).with_context(|| input.path.clone())?;
    text.parse().with_context(|| input.path.clone())
}

fn write(dir: &Path, path: &str, bytes: &[u8]) -> anyhow::Result<()> {
    let file = dir.join(path);
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    fs::write(&file, bytes).with_context(|| file.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Table {
        text.parse().unwrap()
    }

    #[test]
    fn profiles_move_to_the_root() {
        let kernel = "[workspace]\n[package]\nname = \"zc-ebpf\"\n[profile.release]\nlto = true\n";
        let (root, kernel) = split(table(kernel), table("version = \"1.0.0\"")).unwrap();
        assert_eq!(root["workspace"]["package"]["version"].as_str(), Some("1.0.0"));
        assert_eq!(root["workspace"]["members"][0].as_str(), Some("zc-ebpf"));
        assert_eq!(root["profile"]["release"]["lto"].as_bool(), Some(true));
        assert_eq!(kernel.keys().collect::<Vec<_>>(), ["package"]);
        assert!(split(table("[package]"), Table::new()).is_err());
    }

    #[test]
    fn what_is_no_longer_an_input_goes() {
        let dir = tempfile::tempdir().unwrap();
        let input = |path: &str, text: &str| Input { path: path.into(), bytes: text.into() };
        let mut inputs = vec![
            input(crate::manifest::PACKAGE_TABLE, "version = \"1.0.0\"\n"),
            input("zc-ebpf/Cargo.lock", ""),
            input("zc-ebpf/Cargo.toml", "[workspace]\n"),
            input("zc-ebpf/src/old.rs", ""),
        ];
        lay(&inputs, dir.path()).unwrap();
        assert!(dir.path().join("zc-ebpf/src/old.rs").exists() && dir.path().join("Cargo.lock").exists());
        inputs.pop();
        lay(&inputs, dir.path()).unwrap();
        assert!(!dir.path().join("zc-ebpf/src/old.rs").exists());
    }
}
