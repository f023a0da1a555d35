//! What tracing needs of a machine, and the one line that says what is missing and how to get it.

use std::path::Path;

use caps::{CapSet, Capability};

use crate::stop::Stop;

/// The oldest kernel that the probes are written for: it has all they read, and longterm distributions have it.
const OLDEST_KERNEL: (u32, u32) = (6, 1);

/// CAP_PERFMON and CAP_BPF in the upper word of a capability set.
const PERFMON_AND_BPF: u32 = 1 << (38 - 32) | 1 << (39 - 32);

/// Whether `zcprof` can trace here, started by us: with our capabilities, or with those set on its file.
pub(crate) fn tracing(zcprof: Option<&Path>, command: &str) -> Result<(), Stop> {
    if !(may_trace() || zcprof.is_some_and(file_may_trace)) {
        let setcap = zcprof.map_or(String::new(), |file| {
            format!(", or `sudo setcap cap_bpf,cap_perfmon+ep {}` and run it again", file.display())
        });
        return Err(Stop::Cannot(format!(
            "zcprof needs CAP_BPF and CAP_PERFMON (or root): run `sudo -E env PATH=\"$PATH\" cargo xtask {command}`{setcap}"
        )));
    }
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    kernel(release.trim(), Path::new("/sys/kernel/btf/vmlinux").exists())
}

/// Whether we hold what loading the probes takes.
pub(crate) fn may_trace() -> bool {
    let has = |capability| caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false);
    has(Capability::CAP_SYS_ADMIN) || has(Capability::CAP_BPF) && has(Capability::CAP_PERFMON)
}

/// Whether we are root.
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

fn kernel(release: &str, has_btf: bool) -> Result<(), Stop> {
    let (major, minor) = OLDEST_KERNEL;
    if version(release).is_some_and(|version| version < OLDEST_KERNEL) {
        return Err(Stop::Cannot(format!(
            "zcprof needs Linux {major}.{minor} or later; this is {release}: boot a newer one"
        )));
    }
    if !has_btf {
        return Err(Stop::Cannot(format!(
            "zcprof needs the kernel's types in /sys/kernel/btf/vmlinux, which {release} lacks: boot a kernel with CONFIG_DEBUG_INFO_BTF=y (the distributions' own have it)"
        )));
    }
    Ok(())
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn file_may_trace(file: &Path) -> bool {
    let mut value = [0; 64];
    let length = rustix::fs::getxattr(file, "security.capability", &mut value);
    length.is_ok_and(|length| value.get(..length).is_some_and(grants))
}

/// Whether a file's capabilities (`struct vfs_cap_data`, include/uapi/linux/capability.h) make both effective: five
/// little-endian words, of which the first's lowest bit says "effective" and the fourth is the upper permitted set.
fn grants(data: &[u8]) -> bool {
    let word =
        |at: usize| data.get(4 * at..4 * at + 4).and_then(|word| Some(u32::from_le_bytes(word.try_into().ok()?)));
    word(0).is_some_and(|flags| flags & 1 == 1)
        && word(3).is_some_and(|upper| upper & PERFMON_AND_BPF == PERFMON_AND_BPF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels() {
        assert_eq!(version("6.1.0-49-cloud-amd64"), Some((6, 1)));
        assert_eq!(version("6.12-rc3"), Some((6, 12)));
        assert_eq!(version(""), None);
        assert!(kernel("6.1.0", true).is_ok());
        assert!(kernel("unknown", true).is_ok(), "the feature decides, not the name");
        for (release, btf, word) in [("5.19.9", true, "6.1"), ("6.1.0", false, "BTF")] {
            let Err(Stop::Cannot(why)) = kernel(release, btf) else { panic!("{release} passed") };
            assert!(why.contains(word) && !why.contains('\n'), "{why}");
        }
    }

    #[test]
    fn file_capabilities() {
        let data = |flags: u32, upper: u32| [flags, 0, 0, upper, 0].map(u32::to_le_bytes).concat();
        assert!(grants(&data(0x0200_0001, 0xc0)));
        assert!(!grants(&data(0x0200_0000, 0xc0)), "permitted only");
        assert!(!grants(&data(0x0200_0001, 0x80)), "CAP_BPF only");
        assert!(!grants(&[]));
    }
}
