//! `zcprof detach`: removes whatever is pinned.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use super::output::{self, Failure};

/// Where a daemon pins.
const PINS: &str = "/sys/fs/bpf/zcprof";

pub(super) fn run() -> Result<u8, Failure> {
    let removed = remove_below(Path::new(PINS))
        .map_err(|(path, error)| Failure::cannot(format_args!("remove {}", path.display()), error))?;
    output::print(&text(&removed))?;
    Ok(0)
}

fn text(removed: &[PathBuf]) -> String {
    if removed.is_empty() {
        return format!("nothing is pinned in {PINS}\n");
    }
    removed.iter().fold(String::new(), |mut text, path| {
        let _ = writeln!(text, "removed {}", path.display());
        text
    })
}

/// Removes a directory with everything in it, following no links; tells what it removed. None there is fine.
fn remove_below(directory: &Path) -> Result<Vec<PathBuf>, (PathBuf, io::Error)> {
    let at = |path: &Path| {
        let path = path.to_owned();
        |error| (path, error)
    };
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(at(directory))?,
    };
    let mut removed = Vec::new();
    for entry in entries {
        let entry = entry.map_err(at(directory))?;
        let path = entry.path();
        if entry.file_type().map_err(at(&path))?.is_dir() {
            removed.extend(remove_below(&path)?);
        } else {
            std::fs::remove_file(&path).map_err(at(&path))?;
            removed.push(path);
        }
    }
    std::fs::remove_dir(directory).map_err(at(directory))?;
    removed.push(directory.to_owned());
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removes_what_is_there_and_minds_nothing_that_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let pins = directory.path().join("zcprof");
        assert!(remove_below(&pins).unwrap().is_empty());
        std::fs::create_dir_all(pins.join("links")).unwrap();
        std::fs::write(pins.join("links/sys_exit"), "").unwrap();
        let removed = remove_below(&pins).unwrap();
        assert_eq!(removed, [pins.join("links/sys_exit"), pins.join("links"), pins.clone()]);
        assert!(!pins.exists());
        assert!(text(&[]).contains("nothing is pinned"));
    }
}
