//! Reading the kernel's structures: through pointers whose type the verifier knows (a plain load), and through
//! addresses whose type it lost (a helper call).

use core::ffi::c_void;
use core::mem::MaybeUninit;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::generated::{bpf_probe_read_kernel, bpf_probe_read_user};
use aya_ebpf::programs::BtfTracePointContext;
use zc_common::config::RDONLY_CAST;

use crate::maps::{config, offset};

/// A pointer to a kernel structure whose type the verifier knows. Loads through it at load-time constant offsets
/// yield such pointers again, or numbers. A bad address reads as zero (the kernel's exception table).
///
/// The fastest way, and for the hot path alone: for each load of a pointer the verifier searches all types of the
/// kernel by name several times (btf_nested_type_is_trusted, kernel/bpf/btf.c, v6.12), milliseconds at load time.
#[derive(Clone, Copy)]
pub struct Known(*const u8);

impl Known {
    #[inline(always)]
    pub fn new(pointer: *const c_void) -> Self {
        Self(pointer.cast())
    }

    #[inline(always)]
    pub fn address(self) -> *const c_void {
        self.0.cast()
    }

    /// Loads a field.
    #[inline(always)]
    pub fn load<T: Copy>(self, offset: u64) -> T {
        // SAFETY: the verifier checks type and offset of each such load.
        unsafe { core::ptr::read_volatile(self.0.add(offset as usize).cast::<T>()) }
    }

    /// Loads a field that points to another structure.
    #[inline(always)]
    pub fn follow(self, offset: u64) -> Self {
        Self(self.load::<*const u8>(offset))
    }

    /// The structure's address, for a helper that reads it.
    #[inline(always)]
    pub fn at(self) -> u64 {
        self.0 as u64
    }
}

/// A `task_struct`.
#[derive(Clone, Copy)]
pub struct Task(Known);

impl Task {
    #[inline(always)]
    pub fn new(task: *const c_void) -> Self {
        Self(Known::new(task))
    }

    /// The task that runs now.
    #[inline(always)]
    pub fn current() -> Self {
        // SAFETY: no arguments; always a valid task.
        Self::new(unsafe { aya_ebpf::helpers::generated::bpf_get_current_task_btf() }.cast_const().cast())
    }

    #[inline(always)]
    pub fn as_ptr(self) -> *mut c_void {
        self.0.address().cast_mut()
    }

    /// Its address, for a helper that reads it.
    #[inline(always)]
    pub fn at(self) -> u64 {
        self.0.at()
    }

    /// The task for loads of pointers: through it the verifier does not search (see [`Known`]).
    #[inline(always)]
    pub fn untrusted(self) -> At {
        At::new(self.at(), config!(types.task))
    }

    #[inline(always)]
    pub fn known(self) -> Known {
        self.0
    }

    /// The same for a task of which only the address is known.
    #[inline(always)]
    pub fn at_address(address: u64) -> At {
        At::new(address, config!(types.task))
    }

    #[inline(always)]
    pub fn tgid(self) -> u32 {
        self.0.load(offset!(task_tgid))
    }
}

/// A structure at an address whose type the verifier lost. A bad address reads as zero.
#[derive(Clone, Copy)]
pub struct At(u64);

impl At {
    /// The structure with this BTF id at an address. Where the kernel has `bpf_rdonly_cast` (v6.2) its fields are
    /// loaded like those of [`Known`], without a helper call for each.
    #[inline(always)]
    pub fn new(address: u64, type_id: u64) -> Self {
        Self(if config!(casts) != 0 { cast(address, type_id) } else { address })
    }

    /// Loads a field.
    #[inline(always)]
    pub fn load<T: Copy + Default>(self, offset: u64) -> T {
        if config!(casts) != 0 {
            Known(self.0 as *const u8).load(offset)
        } else {
            read(self.0 + offset).unwrap_or_default()
        }
    }
}

/// Calls the kernel function `bpf_rdonly_cast`. Neither LLVM nor aya knows of it: the agent turns the call of a helper
/// with this number into the call of the function, or into nothing (`kernel/object.rs`).
#[inline(always)]
fn cast(address: u64, type_id: u64) -> u64 {
    let result;
    // SAFETY: the function only changes what the verifier thinks of its first argument.
    unsafe {
        core::arch::asm!(
            "call {number}",
            number = const RDONLY_CAST,
            inlateout("r1") address => _,
            inlateout("r2") type_id => _,
            lateout("r0") result,
            lateout("r3") _,
            lateout("r4") _,
            lateout("r5") _,
        );
    }
    result
}

/// Reads kernel memory at an address; `None` if it can't be read.
#[inline(always)]
pub fn read<T: Copy>(address: u64) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the helper writes size_of::<T>() bytes or fails.
    let failed =
        unsafe { bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, address as *const c_void) };
    // SAFETY: written, since the helper did not fail (and it zeroes the buffer when it does).
    if failed == 0 { Some(unsafe { value.assume_init() }) } else { None }
}

/// Reads a number from kernel memory to a place; 0 if it can't be read.
#[inline(always)]
pub fn read_to(to: *mut u64, address: u64) {
    // SAFETY: callers pass a live word; the helper writes it, zero if it fails.
    unsafe { bpf_probe_read_kernel(to.cast(), size_of::<u64>() as u32, address as *const c_void) };
}

/// A number or pointer in kernel memory; 0 if it can't be read. Reads eight bytes; narrower fields are the lower ones
/// (every supported architecture is little-endian).
#[inline(always)]
pub fn number(address: u64) -> u64 {
    read(address).unwrap_or(0)
}

/// Reads a control structure (iovec, msghdr, offset) of the calling process; never payload.
#[inline(always)]
pub fn read_user<T: Copy>(address: u64) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the helper writes size_of::<T>() bytes or fails.
    let failed =
        unsafe { bpf_probe_read_user(value.as_mut_ptr().cast(), size_of::<T>() as u32, address as *const c_void) };
    // SAFETY: written, since the helper did not fail.
    if failed == 0 { Some(unsafe { value.assume_init() }) } else { None }
}

/// An argument of a tracepoint as a number: where its type tells the verifier that it is a pointer, functions that take numbers refuse
/// it.
#[inline(always)]
pub fn argument(ctx: &BtfTracePointContext, n: u64) -> u64 {
    number(ctx.as_ptr() as u64 + n * 8)
}
