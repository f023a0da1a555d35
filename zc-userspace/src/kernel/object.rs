//! The eBPF object: built in, or one from a file for those who work on the probes.

use std::borrow::Cow;
use std::path::PathBuf;

use zc_common::config::RDONLY_CAST;

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

/// A call instruction (BPF_JMP | BPF_CALL), as the eight bytes of `struct bpf_insn` (include/uapi/linux/bpf.h, v6.1):
/// code, registers, offset, immediate.
const CALL: u8 = 0x85;
/// The source register's value for a call of a kernel function (BPF_PSEUDO_KFUNC_CALL), in the upper half of the byte.
const KERNEL_FUNCTION: u8 = 2 << 4;
/// `r0 = 0` (BPF_ALU64 | BPF_MOV | BPF_K).
const RETURN_ZERO: [u8; 8] = [0xb7, 0, 0, 0, 0, 0, 0, 0];

/// Turns the object's stand-ins for calls of `bpf_rdonly_cast` into such calls, given the function's BTF id, or into
/// nothing, on a kernel that lacks it: they are never reached then. Returns how many there were.
pub(super) fn set_casts(object: &mut [u8], function: Option<u32>) -> usize {
    let mut stand_in = [CALL, 0, 0, 0, 0, 0, 0, 0];
    stand_in[4..].copy_from_slice(&RDONLY_CAST.to_le_bytes());
    let replacement = function.map_or(RETURN_ZERO, |id| {
        let mut call = [CALL, KERNEL_FUNCTION, 0, 0, 0, 0, 0, 0];
        call[4..].copy_from_slice(&id.to_le_bytes());
        call
    });
    let mut count = 0;
    // Sections of instructions are aligned to eight bytes.
    for instruction in object.chunks_exact_mut(8).filter(|bytes| **bytes == stand_in) {
        instruction.copy_from_slice(&replacement);
        count += 1;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn casts_are_replaced_either_way() {
        let there = set_casts(&mut BUILT_IN.to_vec(), Some(7));
        assert!(there > 0, "the object has no stand-in for bpf_rdonly_cast: do zc-common and the object agree?");
        let mut object = BUILT_IN.to_vec();
        assert_eq!(set_casts(&mut object, None), there);
        assert_eq!(set_casts(&mut object, None), 0);
    }
}
