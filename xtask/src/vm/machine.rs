//! The machines that are emulated.

use crate::debian::Package;

/// One architecture's.
pub(crate) struct Machine {
    /// As `uname -m` has it.
    pub(crate) name: &'static str,
    /// As Debian has it.
    pub(crate) debian: &'static str,
    /// How the names of its kernels' packages end.
    pub(crate) kernel_suffix: &'static str,
    /// The emulator.
    pub(crate) qemu: Package,
    /// Machine and processor. Without FSRM the kernel's copies are calls of one routine, which the audit counts.
    pub(crate) hardware: &'static [&'static str],
    /// The serial console.
    pub(crate) console: &'static str,
    /// The series of kernels that run on it.
    pub(crate) series: &'static [&'static str],
}

/// The usual one.
pub(crate) const X86_64: Machine = Machine {
    name: "x86_64",
    debian: "amd64",
    kernel_suffix: "cloud-amd64-unsigned",
    qemu: Package { name: "qemu-system-x86", program: "qemu-system-x86_64", why: "boots other kernels" },
    hardware: &["-machine", "q35", "-cpu", "max,fsrm=off"],
    console: "ttyS0",
    series: &["6.12", "6.1"],
};
