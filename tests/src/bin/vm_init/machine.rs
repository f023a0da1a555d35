//! The machine: its file systems, kernel modules, disks, and the port to the host.

use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::mount::{MsFlags, mount};
use xtask::vm::plan::{Mount, PORT};

/// How long devices may take to appear.
const PATIENCE: Duration = Duration::from_secs(20);

/// What programs expect, in the order in which it is mounted. /tmp is as it is: the programs themselves may be there.
const FILE_SYSTEMS: [(&str, &str); 8] = [
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("devtmpfs", "/dev"),
    ("devpts", "/dev/pts"),
    ("tmpfs", "/dev/shm"),
    ("tmpfs", "/run"),
    ("bpf", "/sys/fs/bpf"),
    ("cgroup2", "/sys/fs/cgroup"),
];

/// Mounts them, and the tracing file system.
pub(crate) fn file_systems() -> Result<()> {
    for (kind, directory) in FILE_SYSTEMS {
        fs::create_dir_all(directory).with_context(|| directory.to_owned())?;
        attach(kind, kind, directory)?;
    }
    attach("tracefs", "tracefs", "/sys/kernel/tracing")
}

/// Mounts a disk when it has appeared.
pub(crate) fn mount_disk(disk: &Mount) -> Result<()> {
    fs::create_dir_all(&disk.directory).with_context(|| disk.directory.clone())?;
    let device = wait_for(&disk.serial, || device(&disk.serial))?;
    attach(&disk.kind, &device, &disk.directory)
}

/// The device of the disk with a serial number.
fn device(serial: &str) -> Option<String> {
    let mut devices = fs::read_dir("/sys/block").ok()?.flatten();
    let found = devices.find(|device| {
        fs::read_to_string(device.path().join("device/serial")).is_ok_and(|text| text.trim() == serial)
    })?;
    let node = format!("/dev/{}", found.file_name().to_str()?);
    Path::new(&node).exists().then_some(node)
}

fn attach(kind: &str, device: &str, directory: &str) -> Result<()> {
    mount(Some(device), directory, Some(kind), MsFlags::empty(), None::<&str>)
        .with_context(|| format!("mounting {device} ({kind}) on {directory}"))
}

/// Loads modules in the order given.
pub(crate) fn modules(files: &[String]) -> Result<()> {
    for path in files {
        let file = File::open(path).with_context(|| path.clone())?;
        // SAFETY: the descriptor is open and the parameters end in NUL.
        let result = unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), c"".as_ptr(), 0) };
        if result != 0 {
            bail!("loading {path}: {}", std::io::Error::last_os_error());
        }
    }
    Ok(())
}

/// The port that the host reads.
pub(crate) fn port() -> Result<File> {
    let device = wait_for(PORT, || {
        let ports = fs::read_dir("/sys/class/virtio-ports").ok()?.flatten();
        let named = |path: &Path| fs::read_to_string(path.join("name")).is_ok_and(|name| name.trim() == PORT);
        let found = ports.map(|port| port.path()).find(|path| named(path))?;
        Some(Path::new("/dev").join(found.file_name()?))
    })?;
    File::options().write(true).open(&device).with_context(|| device.display().to_string())
}

fn wait_for<T>(what: &str, look: impl Fn() -> Option<T>) -> Result<T> {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if Instant::now() > end {
            bail!("{what} has not appeared");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
