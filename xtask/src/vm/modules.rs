//! The kernel modules that a guest needs, each behind those that it depends on.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::process;

/// What the guest uses, whether built in or not.
pub(crate) const WANTED: &[&str] = &[
    // The port to the host, and the disks' and network devices' bus.
    "virtio_pci",
    "virtio_console",
    // A file system that reflinks; its disk is an NVMe disk, as ext4's is, which all these kernels have built in.
    "xfs",
    "loop",
    // Network devices: without scatter-gather, with it, and a pair.
    "virtio_net",
    "vmxnet3",
    "veth",
    // kTLS, and its cipher: nobody is there to load that when it is asked for.
    "tls",
    "gcm",
    "ctr",
    "ghash_generic",
    "overlay",
];

/// A module's file, uncompressed, and its name.
pub(crate) struct Module {
    pub(crate) name: String,
    pub(crate) content: Vec<u8>,
}

/// Reads the wanted modules and what they depend on.
pub(crate) fn read(directory: &Path, wanted: &[&str]) -> anyhow::Result<Vec<Module>> {
    let all = files(directory)?;
    let built_in = fs::read_to_string(directory.join("modules.builtin")).context("modules.builtin")?;
    let built_in: Vec<_> = built_in.lines().filter_map(|line| name_of(Path::new(line))).collect();
    let mut modules = Vec::new();
    for name in wanted {
        add(name, &all, &built_in, &mut modules)?;
    }
    Ok(modules)
}

fn add(
    name: &str,
    all: &BTreeMap<String, PathBuf>,
    built_in: &[String],
    modules: &mut Vec<Module>,
) -> anyhow::Result<()> {
    if built_in.iter().any(|one| one == name) || modules.iter().any(|module| module.name == name) {
        return Ok(());
    }
    let Some(file) = all.get(name) else { bail!("this kernel has no module {name}, nor is it built in") };
    let content = content(file)?;
    for needed in depends(&content) {
        add(&needed, all, built_in, modules)?;
    }
    modules.push(Module { name: name.to_owned(), content });
    Ok(())
}

/// All modules by name.
fn files(directory: &Path) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    let mut open = vec![directory.join("kernel")];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).with_context(|| directory.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else if let Some(name) = name_of(&path) {
                found.insert(name, path);
            }
        }
    }
    Ok(found)
}

/// A module's name from its file's: `crc32c-intel.ko.xz` is `crc32c_intel`.
fn name_of(path: &Path) -> Option<String> {
    let (name, _) = path.file_name()?.to_str()?.split_once(".ko")?;
    Some(name.replace('-', "_"))
}

fn content(file: &Path) -> anyhow::Result<Vec<u8>> {
    if file.extension().is_none_or(|extension| extension == "ko") {
        return fs::read(file).with_context(|| file.display().to_string());
    }
    let work = tempfile::tempdir().context("a directory to decompress in")?;
    let copy = work.path().join(file.file_name().context("a file's name")?);
    fs::copy(file, &copy).with_context(|| file.display().to_string())?;
    process::capture(Command::new("xz").arg("-d").arg(&copy))?;
    fs::read(copy.with_extension("")).context("the decompressed module")
}

/// The modules that it names as needed, in its `.modinfo` section: strings of `key=value`.
fn depends(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|window| window == KEY) else { return Vec::new() };
    let value = module[at + KEY.len()..].split(|&byte| byte == 0).next().unwrap_or_default();
    let names = String::from_utf8_lossy(value).replace('-', "_");
    names.split(',').filter(|name| !name.is_empty()).map(ToOwned::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(directory: &Path, file: &str, depends: &str) {
        fs::write(directory.join(file), format!("ELF..license=GPL\0depends={depends}\0name=x\0")).unwrap();
    }

    #[test]
    fn what_is_needed_comes_first_and_what_is_built_in_not_at_all() {
        let root = tempfile::tempdir().unwrap();
        let kernel = root.path().join("kernel/lib");
        fs::create_dir_all(&kernel).unwrap();
        module(&kernel, "net-a.ko", "b,built-in");
        module(&kernel, "b.ko", "");
        fs::write(root.path().join("modules.builtin"), "kernel/x/built-in.ko\n").unwrap();
        let modules = read(root.path(), &["net_a", "b", "built_in"]).unwrap();
        let names: Vec<_> = modules.iter().map(|module| module.name.as_str()).collect();
        assert_eq!(names, ["b", "net_a"]);
        assert!(read(root.path(), &["nowhere"]).is_err());
    }
}
