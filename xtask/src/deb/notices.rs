//! The licence notices of the crates that a binary contains: each text once, and who has it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};
use cargo_metadata::{DependencyKind, MetadataCommand, Package, PackageId};

/// Files of a crate that hold its licence or notices, by how their names begin.
const NAMES: [&str; 5] = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE"];

/// All of them: the crates with their licences, then the texts.
pub(super) fn text(root: &Path) -> anyhow::Result<String> {
    let metadata = MetadataCommand::new()
        .manifest_path(root.join("zc-userspace/Cargo.toml"))
        .other_options(["--locked".into(), "--filter-platform".into(), target()])
        .exec()
        .context("what the binary depends on")?;
    let nodes = metadata.resolve.context("cargo's resolution")?.nodes;
    let ours = metadata.packages.iter().find(|one| one.name.as_str() == "zc-userspace").context("zc-userspace")?;
    let mut linked = BTreeSet::new();
    let mut next = vec![&ours.id];
    while let Some(id) = next.pop() {
        if linked.insert(id)
            && let Some(node) = nodes.iter().find(|node| &node.id == id)
        {
            let built_in =
                |kinds: &[cargo_metadata::DepKindInfo]| kinds.iter().any(|kind| kind.kind == DependencyKind::Normal);
            next.extend(node.deps.iter().filter(|dep| built_in(&dep.dep_kinds)).map(|dep| &dep.pkg));
        }
    }
    compose(metadata.packages.iter().filter(|package| is_foreign(package, &linked)))
}

fn is_foreign(package: &Package, linked: &BTreeSet<&PackageId>) -> bool {
    package.source.is_some() && linked.contains(&package.id)
}

fn target() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

fn compose<'a>(packages: impl Iterator<Item = &'a Package>) -> anyhow::Result<String> {
    let mut list = String::from("zcprof contains these crates:\n\n");
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut number = 0;
    for package in packages {
        let name = format!("{} {}", package.name, package.version);
        let licence = package.license.as_deref().unwrap_or("see below");
        writeln!(list, "{name}: {licence}")?;
        number += 1;
        for text in notices(package)? {
            texts.entry(text).or_default().push(name.clone());
        }
    }
    if number == 0 {
        bail!("no crates: cargo's resolution is not what it was");
    }
    for (text, names) in texts {
        write!(list, "\n{}\n{}:\n\n{}\n", "=".repeat(78), names.join(", "), text.trim_end())?;
    }
    Ok(list)
}

/// The texts in a crate's own folder. Some have none, and name their licence alone.
fn notices(package: &Package) -> anyhow::Result<Vec<String>> {
    let folder = package.manifest_path.parent().context("a crate's folder")?;
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.to_string())? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().to_uppercase();
        if NAMES.iter().any(|start| name.starts_with(start)) && entry.file_type()?.is_file() {
            found.push(String::from_utf8_lossy(&fs::read(entry.path())?).into_owned());
        }
    }
    Ok(found)
}
