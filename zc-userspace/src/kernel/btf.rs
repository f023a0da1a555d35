//! A reader of the kernel's BTF: just enough to find where a structure keeps a field.
//!
//! Format: Documentation/bpf/btf.rst, v6.1. Parsing takes a few milliseconds, where general libraries take a tenth of
//! a second of the daemon's start.

use std::collections::HashMap;

const KIND_INT: u32 = 1;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_TYPEDEF: u32 = 8;
const KIND_VOLATILE: u32 = 9;
const KIND_CONST: u32 = 10;
const KIND_RESTRICT: u32 = 11;
const KIND_FUNC: u32 = 12;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_VAR: u32 = 14;
const KIND_DATASEC: u32 = 15;
const KIND_DECL_TAG: u32 = 17;
const KIND_TYPE_TAG: u32 = 18;
const KIND_ENUM64: u32 = 19;

/// How deep anonymous members and modifiers may nest.
const MAX_DEPTH: usize = 16;

/// Why BTF could not be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("malformed BTF: {0}")]
pub struct Malformed(&'static str);

/// A parsed BTF blob.
pub(super) struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Where each type starts in `types`; type 0 is void.
    starts: Vec<u32>,
    structs: HashMap<&'a [u8], u32>,
    enums: HashMap<&'a [u8], u32>,
    functions: HashMap<&'a [u8], u32>,
    tracepoints: HashMap<&'a [u8], u32>,
}

fn word(data: &[u8], at: usize) -> Result<u32, Malformed> {
    let bytes = data.get(at..at + 4).ok_or(Malformed("cut short"))?;
    Ok(u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

impl<'a> Btf<'a> {
    /// Parses a blob in the host's byte order.
    ///
    /// # Errors
    /// If it is not BTF, or cut short.
    pub(super) fn parse(data: &'a [u8]) -> Result<Self, Malformed> {
        if word(data, 0)? & 0xffff != 0xeb9f {
            return Err(Malformed("no magic number"));
        }
        let header = word(data, 4)? as usize;
        let section = |offset_at, length_at| -> Result<&'a [u8], Malformed> {
            let start = header.checked_add(word(data, offset_at)? as usize).ok_or(Malformed("section out of range"))?;
            let end = start.checked_add(word(data, length_at)? as usize).ok_or(Malformed("section out of range"))?;
            data.get(start..end).ok_or(Malformed("section out of range"))
        };
        let mut btf = Self {
            types: section(8, 12)?,
            strings: section(16, 20)?,
            starts: vec![u32::MAX],
            structs: HashMap::new(),
            enums: HashMap::new(),
            functions: HashMap::new(),
            tracepoints: HashMap::new(),
        };
        btf.index()?;
        Ok(btf)
    }

    fn index(&mut self) -> Result<(), Malformed> {
        let mut at = 0;
        while at < self.types.len() {
            let (name, info) = (word(self.types, at)?, word(self.types, at + 4)?);
            let id = self.starts.len() as u32;
            self.starts.push(at as u32);
            if matches!(kind(info), KIND_STRUCT | KIND_UNION) && name != 0 {
                self.structs.entry(self.string(name)?).or_insert(id);
            } else if kind(info) == KIND_ENUM && name != 0 {
                self.enums.entry(self.string(name)?).or_insert(id);
            } else if kind(info) == KIND_FUNC && self.string(name)?.starts_with(b"bpf_") {
                self.functions.insert(self.string(name)?, id);
            } else if kind(info) == KIND_TYPEDEF
                && let Some(tracepoint) = self.string(name)?.strip_prefix(b"btf_trace_")
            {
                self.tracepoints.insert(tracepoint, id);
            }
            at += 12 + trailer(info)?;
        }
        Ok(())
    }

    fn string(&self, offset: u32) -> Result<&'a [u8], Malformed> {
        let rest = self.strings.get(offset as usize..).ok_or(Malformed("string out of range"))?;
        let end = rest.iter().position(|&b| b == 0).ok_or(Malformed("string without end"))?;
        Ok(&rest[..end])
    }

    fn start(&self, id: u32) -> Option<usize> {
        self.starts.get(id as usize).filter(|&&at| at != u32::MAX).map(|&at| at as usize)
    }

    /// Byte offset of a field, named by a path of members through nested structures (`__sk_common.skc_family`);
    /// members of anonymous structures and unions need no name of theirs. `None` if the kernel has no such field.
    pub(super) fn offset(&self, structure: &str, path: &str) -> Option<u64> {
        self.bit_offset(structure, path).map(|bits| u64::from(bits / 8))
    }

    /// The same in bits, for bit fields.
    pub(super) fn bit_offset(&self, structure: &str, path: &str) -> Option<u32> {
        let mut id = *self.structs.get(structure.as_bytes())?;
        let mut bits = 0;
        for name in path.split('.') {
            let (offset, member) = self.member(id, name.as_bytes(), 0)?;
            bits += offset;
            id = self.resolve(member)?;
        }
        Some(bits)
    }

    /// The value of an enumeration's constant.
    pub(super) fn enumerator(&self, enumeration: &str, constant: &str) -> Option<u32> {
        let at = self.start(*self.enums.get(enumeration.as_bytes())?)?;
        let info = word(self.types, at + 4).ok()?;
        (0..info & 0xffff).find_map(|i| {
            let at = at + 12 + i as usize * 8;
            let name = self.string(word(self.types, at).ok()?).ok()?;
            if name == constant.as_bytes() { word(self.types, at + 4).ok() } else { None }
        })
    }

    /// The id of a structure.
    pub(super) fn structure(&self, name: &str) -> Option<u32> {
        self.structs.get(name.as_bytes()).copied()
    }

    /// The id of one of the kernel's functions for BPF programs.
    pub(super) fn function(&self, name: &str) -> Option<u32> {
        self.functions.get(name.as_bytes()).copied()
    }

    /// Size of a structure in bytes.
    pub(super) fn size(&self, name: &str) -> Option<u64> {
        let at = self.start(self.structure(name)?)?;
        word(self.types, at + 8).ok().map(u64::from)
    }

    /// How many arguments a tracepoint hands to a program; `None` if the kernel has no such tracepoint.
    pub(super) fn tracepoint_arguments(&self, name: &str) -> Option<u32> {
        let pointer = self.resolve(*self.tracepoints.get(name.as_bytes())?)?;
        let prototype = word(self.types, self.start(pointer)? + 8).ok()?;
        let info = word(self.types, self.start(prototype)? + 4).ok()?;
        // The first parameter is the probe's own data, which programs do not see.
        (kind(info) == KIND_FUNC_PROTO).then(|| (info & 0xffff).saturating_sub(1))
    }

    /// Bit offset and type of a member.
    fn member(&self, id: u32, wanted: &[u8], depth: usize) -> Option<(u32, u32)> {
        let at = self.start(id)?;
        let info = word(self.types, at + 4).ok()?;
        if depth > MAX_DEPTH || !matches!(kind(info), KIND_STRUCT | KIND_UNION) {
            return None;
        }
        (0..info & 0xffff).find_map(|i| {
            let at = at + 12 + i as usize * 12;
            let name = word(self.types, at).ok()?;
            let member = word(self.types, at + 4).ok()?;
            let offset = word(self.types, at + 8).ok()?;
            // With kind_flag set, the upper byte is a bit field's width.
            let offset = if info >> 31 == 1 { offset & 0x00ff_ffff } else { offset };
            if name == 0 {
                let (inner, found) = self.member(self.resolve(member)?, wanted, depth + 1)?;
                return Some((offset + inner, found));
            }
            (self.string(name).ok()? == wanted).then_some((offset, member))
        })
    }

    /// The type behind typedefs and qualifiers.
    fn resolve(&self, mut id: u32) -> Option<u32> {
        for _ in 0..MAX_DEPTH {
            let Some(at) = self.start(id) else { return Some(id) };
            let info = word(self.types, at + 4).ok()?;
            match kind(info) {
                KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_RESTRICT | KIND_TYPE_TAG => {
                    id = word(self.types, at + 8).ok()?;
                }
                _ => return Some(id),
            }
        }
        None
    }
}

fn kind(info: u32) -> u32 {
    info >> 24 & 0x1f
}

/// Bytes that follow a type's three words.
fn trailer(info: u32) -> Result<usize, Malformed> {
    let entries = (info & 0xffff) as usize;
    Ok(match kind(info) {
        KIND_INT | KIND_VAR | KIND_DECL_TAG => 4,
        KIND_ARRAY => 12,
        KIND_STRUCT | KIND_UNION | KIND_DATASEC | KIND_ENUM64 => entries * 12,
        KIND_ENUM | KIND_FUNC_PROTO => entries * 8,
        1..=KIND_ENUM64 => 0,
        _ => return Err(Malformed("unknown kind of type")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn running() -> Vec<u8> {
        std::fs::read("/sys/kernel/btf/vmlinux").expect("the running kernel has BTF")
    }

    #[test]
    fn finds_fields_of_the_running_kernel() {
        let data = running();
        let btf = Btf::parse(&data).unwrap();
        assert!(btf.structure("task_struct").is_some());
        assert!(btf.function("bpf_no_such_thing").is_none());
        // TP_PROTO(struct pt_regs *regs, long ret) since 2.6; a list_head is two pointers.
        assert_eq!(btf.tracepoint_arguments("sys_exit"), Some(2));
        assert_eq!(btf.tracepoint_arguments("no_such_thing"), None);
        assert_eq!(btf.size("list_head"), Some(16));
        // include/linux/pid_types.h, v6.18.
        assert_eq!(btf.enumerator("pid_type", "PIDTYPE_PID"), Some(0));
        assert_eq!(btf.enumerator("pid_type", "NO_SUCH_THING"), None);
        assert_eq!(btf.bit_offset("vm_area_struct", "vm_end"), Some(64));
        // These two are ABI-like: i_mode has been first since 2.6, and vm_start is first in an anonymous structure.
        assert_eq!(btf.offset("inode", "i_mode"), Some(0));
        assert_eq!(btf.offset("vm_area_struct", "vm_start"), Some(0));
        assert_eq!(btf.offset("vm_area_struct", "vm_end"), Some(8));
        assert!(btf.offset("sock", "__sk_common.skc_family").is_some());
        assert_eq!(btf.offset("sock", "__sk_common.no_such_thing"), None);
        assert_eq!(btf.offset("no_such_thing", "i_mode"), None);
    }

    #[test]
    fn refuses_what_is_not_btf() {
        assert!(Btf::parse(b"").is_err());
        assert!(Btf::parse(b"not BTF at all, but long enough").is_err());
        let data = running();
        assert!(Btf::parse(&data[..data.len() / 2]).is_err());
    }

    proptest! {
        #[test]
        fn never_panics(mut data in prop::collection::vec(any::<u8>(), 0..512), header in 0_u32..64) {
            if data.len() >= 24 {
                data[..2].copy_from_slice(&0xeb9f_u16.to_ne_bytes());
                data[4..8].copy_from_slice(&header.to_ne_bytes());
            }
            if let Ok(btf) = Btf::parse(&data) {
                let _ = btf.offset("task_struct", "pid");
            }
        }
    }
}
