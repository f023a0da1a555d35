//! The machines that are emulated.

use super::cross::Cross;
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
    /// Machine and processor.
    pub(crate) hardware: &'static [&'static str],
    /// The serial console.
    pub(crate) console: &'static str,
    /// The series of kernels that run on it.
    pub(crate) series: &'static [&'static str],
    /// Builds its programs; none for those that the host builds for itself.
    pub(crate) cross: Option<Cross>,
    /// Whether the emulator must stay on one processor, which costs it half its speed: see `qemu.rs`.
    pub(crate) one_processor: bool,
    /// Whether the audit knows its kernels' copy routines.
    pub(crate) audit: bool,
}

/// Every machine, the usual one first.
pub(crate) const MACHINES: [&Machine; 2] = [&X86_64, &AARCH64];

/// The usual one. Without FSRM the kernel's copies are calls of one routine, which the audit counts.
pub(crate) const X86_64: Machine = Machine {
    name: "x86_64",
    debian: "amd64",
    kernel_suffix: "cloud-amd64-unsigned",
    qemu: Package { name: "qemu-system-x86", program: "qemu-system-x86_64", why: "boots other kernels" },
    hardware: &["-machine", "q35", "-cpu", "max,fsrm=off"],
    console: "ttyS0",
    series: &["6.12", "6.1"],
    cross: None,
    one_processor: false,
    audit: true,
};

/// The other one. Pointer authentication by the architecture's cipher would take the emulator most of its time.
pub(crate) const AARCH64: Machine = Machine {
    name: "aarch64",
    debian: "arm64",
    kernel_suffix: "cloud-arm64-unsigned",
    qemu: Package { name: "qemu-system-arm", program: "qemu-system-aarch64", why: "boots kernels of aarch64" },
    hardware: &["-machine", "virt,gic-version=3", "-cpu", "max,pauth-impdef=on"],
    console: "ttyAMA0",
    series: &["6.12"],
    cross: Some(Cross {
        target: "aarch64-unknown-linux-gnu",
        linker: Package { name: "gcc-aarch64-linux-gnu", program: "aarch64-linux-gnu-gcc", why: "links for aarch64" },
        libc: Package {
            name: "libc6-dev-arm64-cross",
            program: "/usr/aarch64-linux-gnu/lib/libc.a",
            why: "what programs for aarch64 are linked with",
        },
    }),
    // Its variants have many requests in flight.
    one_processor: true,
    audit: false,
};
