//! The eBPF object: built in, or one from a file for those who work on the probes.

use std::borrow::Cow;
use std::path::PathBuf;

use zc_common::config::{CONFIG_WORD, Config, RDONLY_CAST};

/// Names a file to load instead of the built-in object (`cargo xtask ebpf check` does).
pub(super) const OBJECT_VARIABLE: &str = "ZCPROF_EBPF_OBJECT";

static BUILT_IN: &[u8] = aya::include_bytes_aligned!("../../../zc-ebpf/prebuilt/zcprof.bpf.o");

/// The object's bytes.
///
/// # Errors
/// If the file that the environment names can't be read.
pub(super) fn bytes() -> Result<Cow<'static, [u8]>, (PathBuf, std::io::Error)> {
    // SAFETY: no memory is involved.
    let trusted = unsafe { libc::getauxval(libc::AT_SECURE) } == 0;
    // With file capabilities whoever starts the program may have fewer rights than it: theirs is no object to load.
    match std::env::var_os(OBJECT_VARIABLE).filter(|_| trusted) {
        None => Ok(Cow::Borrowed(BUILT_IN)),
        Some(path) => {
            let path = PathBuf::from(path);
            std::fs::read(&path).map(Cow::Owned).map_err(|error| (path, error))
        }
    }
}

/// Codes of `struct bpf_insn` (include/uapi/linux/bpf.h, v6.1): BPF_JMP | BPF_CALL, and BPF_ALU64 | BPF_MOV | BPF_K.
const CALL: u8 = 0x85;
const SET: u8 = 0xb7;
/// The source register's value for a call of a kernel function (BPF_PSEUDO_KFUNC_CALL), in the upper half of the byte.
const KERNEL_FUNCTION: u8 = 2 << 4;

/// What the object leaves open.
pub(super) struct Blanks<'a> {
    /// The BTF id of `bpf_rdonly_cast`; none on a kernel that lacks it.
    pub(super) cast: Option<u32>,
    /// The load-time constants.
    pub(super) config: &'a Config,
}

/// Fills in what the object leaves open: the immediate values of instructions that set a register to a load-time
/// constant, and the calls of `bpf_rdonly_cast`, which become nothing where the kernel lacks it: they are never
/// reached then. Returns how often each word of the constants was filled in.
pub(super) fn fill_in(object: &mut [u8], blanks: &Blanks<'_>) -> Vec<usize> {
    let words = words(blanks.config);
    let mut uses = vec![0; words.len()];
    // Instructions are eight bytes, and their sections are aligned to that.
    for instruction in object.chunks_exact_mut(8) {
        let immediate = i32::from_le_bytes([instruction[4], instruction[5], instruction[6], instruction[7]]);
        match instruction[0] {
            CALL if immediate == RDONLY_CAST => match blanks.cast {
                Some(id) => {
                    instruction[1] = KERNEL_FUNCTION;
                    instruction[4..].copy_from_slice(&id.to_le_bytes());
                }
                // r0 = 0
                None => instruction.copy_from_slice(&[SET, 0, 0, 0, 0, 0, 0, 0]),
            },
            SET => {
                let number = immediate.checked_sub(CONFIG_WORD).and_then(|number| usize::try_from(number).ok());
                if let Some((number, word)) = number.and_then(|number| Some((number, words.get(number)?))) {
                    instruction[4..].copy_from_slice(&word.to_le_bytes());
                    uses[number] += 1;
                }
            }
            _ => {}
        }
    }
    uses
}

/// The constants as immediate values. None is larger: they are offsets, ids, pids and flags.
fn words(config: &Config) -> Vec<i32> {
    let length = size_of::<Config>() / size_of::<u64>();
    // SAFETY: Config is nothing but u64s (its fields' types say so, and zc-common asserts its size by them).
    let words = unsafe { std::slice::from_raw_parts(std::ptr::from_ref(config).cast::<u64>(), length) };
    words.iter().map(|&word| i32::try_from(word).unwrap_or(i32::MAX)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_constant_is_used_and_none_is_left_open() {
        let blanks = Blanks { cast: Some(7), config: &Config::default() };
        let mut object = BUILT_IN.to_vec();
        let uses = fill_in(&mut object, &blanks);
        let unused: Vec<_> = uses.iter().enumerate().filter(|(_, uses)| **uses == 0).map(|(word, _)| word).collect();
        assert!(unused.is_empty(), "words {unused:?} of the constants are used nowhere");
        assert!(fill_in(&mut object, &blanks).iter().all(|&uses| uses == 0));
    }

    #[test]
    fn casts_are_replaced_either_way() {
        let config = Config::default();
        let calls = |object: &[u8]| {
            let cast = RDONLY_CAST.to_le_bytes();
            object.chunks_exact(8).filter(|bytes| bytes[0] == CALL && bytes[4..] == cast).count()
        };
        assert!(calls(BUILT_IN) > 0, "the object has no stand-in for bpf_rdonly_cast");
        for cast in [Some(7), None] {
            let mut object = BUILT_IN.to_vec();
            fill_in(&mut object, &Blanks { cast, config: &config });
            assert_eq!(calls(&object), 0);
        }
    }
}
