//! Debian's cloud kernels: the newest of a series.

use std::path::PathBuf;

use super::archive::Archive;
use super::machine::Machine;
use crate::stop::Stop;

/// A kernel, unpacked.
pub(crate) struct Kernel {
    /// As the package has it: `6.12.117`.
    pub(crate) version: String,
    /// As the kernel itself has it: `6.12.117+deb12-cloud-amd64`.
    pub(crate) release: String,
    /// Where its package lies unpacked.
    pub(crate) directory: PathBuf,
}

impl Kernel {
    /// The newest of a series (`6.12`) that can be had.
    pub(crate) fn newest(machine: &Machine, series: &str, archive: &Archive) -> anyhow::Result<Self> {
        let ending = format!("-{}", machine.kernel_suffix);
        let Some((package, directory)) = archive.newest(&format!("linux-image-{series}."), &ending)? else {
            return Err(Stop::Cannot(format!(
                "Debian's archive has no cloud kernel {series} for {} here: on Debian, `apt-get update`",
                machine.name
            ))
            .into());
        };
        let release = package.name.trim_start_matches("linux-image-").trim_end_matches("-unsigned").to_owned();
        let version = package.version.split(['-', '~']).next().unwrap_or_default().to_owned();
        Ok(Self { version, release, directory })
    }

    /// The image to boot.
    pub(crate) fn image(&self) -> PathBuf {
        self.directory.join(format!("boot/vmlinuz-{}", self.release))
    }

    /// Where its modules are.
    pub(crate) fn modules(&self) -> PathBuf {
        self.directory.join("lib/modules").join(&self.release)
    }
}
