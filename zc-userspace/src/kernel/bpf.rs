//! The few bpf(2) commands that aya does not wrap: iterator links and files, and reading maps in batches.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

// enum bpf_cmd, include/uapi/linux/bpf.h, v6.1.
const BPF_MAP_LOOKUP_AND_DELETE_ELEM: libc::c_long = 21;
const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;
const BPF_MAP_LOOKUP_AND_DELETE_BATCH: libc::c_long = 25;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_ITER_CREATE: libc::c_long = 33;
/// enum bpf_attach_type, same file.
const BPF_TRACE_ITER: u32 = 28;

fn bpf<T>(command: libc::c_long, attributes: &mut T) -> io::Result<i32> {
    // SAFETY: the attributes are a zero-padded prefix of union bpf_attr whose pointers are valid for the call.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>() as libc::c_uint)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

fn owned(fd: i32) -> OwnedFd {
    // SAFETY: the kernel just made this descriptor for us.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Links an iterator program, so that [`open_iterator`] can run it.
pub(super) fn link_iterator(program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attributes {
        program: i32,
        target: u32,
        attach_type: u32,
        flags: u32,
        more: [u64; 4],
    }
    let mut attributes =
        Attributes { program: program.as_raw_fd(), target: 0, attach_type: BPF_TRACE_ITER, flags: 0, more: [0; 4] };
    bpf(BPF_LINK_CREATE, &mut attributes).map(owned)
}

/// A file whose reading runs the iterator once over all its objects.
pub(super) fn open_iterator(link: BorrowedFd<'_>) -> io::Result<File> {
    #[repr(C)]
    struct Attributes {
        link: i32,
        flags: u32,
    }
    let mut attributes = Attributes { link: link.as_raw_fd(), flags: 0 };
    bpf(BPF_ITER_CREATE, &mut attributes).map(|fd| File::from(owned(fd)))
}

/// Takes an element out of a hash map (from v5.14 on); `None` if it is not there. `value` is what the kernel writes over.
pub(super) fn take<K: Copy, V: Copy>(map: BorrowedFd<'_>, key: &K, mut value: V) -> io::Result<Option<V>> {
    #[repr(C)]
    struct Attributes {
        map: u64,
        key: u64,
        value: u64,
        flags: u64,
    }
    let mut attributes = Attributes {
        map: map.as_raw_fd() as u64,
        key: std::ptr::from_ref(key) as u64,
        value: std::ptr::from_mut(&mut value) as u64,
        flags: 0,
    };
    match bpf(BPF_MAP_LOOKUP_AND_DELETE_ELEM, &mut attributes) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
        Ok(_) => Ok(Some(value)),
    }
}

/// Whether a batch takes its elements out of the map.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Batch {
    Copy,
    Take,
}

/// Reads a whole hash map in batches. An element that is there during the whole call is returned exactly once; one
/// that comes meanwhile may be left for the next call (__htab_map_lookup_and_delete_batch, kernel/bpf/hashtab.c, v6.1:
/// bucket by bucket, each under its lock).
pub(super) fn read_hash<K: Copy + Default, V: Copy>(
    map: BorrowedFd<'_>,
    how: Batch,
    zero: V,
) -> io::Result<Vec<(K, V)>> {
    #[repr(C)]
    struct Attributes {
        in_batch: u64,
        out_batch: u64,
        keys: u64,
        values: u64,
        count: u32,
        map: u32,
        elem_flags: u64,
        flags: u64,
    }
    let command = if how == Batch::Take { BPF_MAP_LOOKUP_AND_DELETE_BATCH } else { BPF_MAP_LOOKUP_BATCH };
    let mut room = 256_usize;
    let (mut cursor, mut next) = (0_u64, 0_u64);
    let mut started = false;
    let mut all = Vec::new();
    loop {
        let mut keys = vec![K::default(); room];
        let mut values = vec![zero; room];
        let mut attributes = Attributes {
            in_batch: if started { std::ptr::from_mut(&mut cursor) as u64 } else { 0 },
            out_batch: std::ptr::from_mut(&mut next) as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: room as u32,
            map: map.as_raw_fd() as u32,
            elem_flags: 0,
            flags: 0,
        };
        let result = bpf(command, &mut attributes);
        let full = matches!(&result, Err(e) if e.raw_os_error() == Some(libc::ENOSPC));
        let done = matches!(&result, Err(e) if e.raw_os_error() == Some(libc::ENOENT));
        if let Err(error) = result
            && !full
            && !done
        {
            return Err(error);
        }
        let count = attributes.count as usize;
        if full {
            // A bucket holds more than there is room for. Nothing of it was returned or deleted.
            room *= 4;
        }
        all.extend(keys.into_iter().zip(values).take(if full { 0 } else { count }));
        if done {
            return Ok(all);
        }
        if !full {
            cursor = next;
            started = true;
        }
    }
}
