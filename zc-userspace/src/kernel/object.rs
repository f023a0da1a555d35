//! The eBPF object: built in, or one from a file for those who work on the probes.

use std::borrow::Cow;
use std::path::PathBuf;

/// Names a file to load instead of the built-in object (`cargo xtask ebpf check` does).
pub(super) const OBJECT_VARIABLE: &str = "ZCPROF_EBPF_OBJECT";

static BUILT_IN: &[u8] = aya::include_bytes_aligned!("../../../zc-ebpf/prebuilt/zcprof.bpf.o");

/// The object's bytes.
///
/// # Errors
/// If the file that the environment names can't be read.
pub(super) fn bytes() -> Result<Cow<'static, [u8]>, (PathBuf, std::io::Error)> {
    match std::env::var_os(OBJECT_VARIABLE) {
        None => Ok(Cow::Borrowed(BUILT_IN)),
        Some(path) => {
            let path = PathBuf::from(path);
            std::fs::read(&path).map(Cow::Owned).map_err(|error| (path, error))
        }
    }
}
