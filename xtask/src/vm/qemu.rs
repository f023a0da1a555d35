//! One run of the emulator: its command line, its clock, and what it leaves.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

use super::disks::Disk;
use super::kernels::Kernel;
use super::machine::Machine;
use super::plan::Message;
use super::serial;
use crate::process;
use crate::signals::Held;
use crate::stop::Stop;

/// Longer than any run should take, even beside other work on the machine.
const LIMIT: Duration = Duration::from_secs(420);
/// After trouble on the console: what else comes there is worth keeping.
const GRACE: Duration = Duration::from_secs(3);

/// Where a run's files are.
pub(crate) struct Files {
    pub(crate) initramfs: PathBuf,
    pub(crate) serial: PathBuf,
    pub(crate) results: PathBuf,
}

impl Files {
    pub(crate) fn within(directory: &Path) -> Self {
        let at = |name: &str| directory.join(name);
        Self { initramfs: at("initramfs.cpio"), serial: at("serial.log"), results: at("results.jsonl") }
    }
}

/// Boots the kernel and waits until the guest has turned itself off. Returns what it reported.
pub(crate) fn run(
    machine: &Machine,
    kernel: &Kernel,
    disks: &[(&Disk, PathBuf)],
    files: &Files,
) -> anyhow::Result<Vec<Message>> {
    let mut command = command(machine, kernel, disks, files)?;
    let said = files.serial.with_extension("qemu");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&said)?);
    // Dropped last: Ctrl-C takes effect when the emulator is gone.
    let signals = Held::new()?;
    let mut guard = Guard(command.spawn().with_context(|| format!("starting {}", machine.qemu.program))?);
    let ended = watch(&mut guard.0, &files.serial, &signals);
    drop(guard);
    if signals.came() {
        return Err(Stop::Status(130).into());
    }
    ended.with_context(|| format!("{} (its console: {})", kernel.release, files.serial.display()))?;
    let text = fs::read_to_string(&files.results).unwrap_or_default();
    if text.is_empty() {
        let said = fs::read_to_string(&said).unwrap_or_default();
        bail!("{} reported nothing; its console: {}; {}", kernel.release, files.serial.display(), said.trim());
    }
    // A guest that died in the middle of a line leaves a part of one.
    text.lines().map(|line| serde_json::from_str(line).with_context(|| format!("the guest's line {line:?}"))).collect()
}

fn command(machine: &Machine, kernel: &Kernel, disks: &[(&Disk, PathBuf)], files: &Files) -> anyhow::Result<Command> {
    let program = process::find(machine.qemu.program).with_context(|| format!("no {}", machine.qemu.program))?;
    let mut command = Command::new("taskset");
    command
        .args(["--cpu-list", &processors(machine)?])
        .arg(program)
        // One thread for both processors: with one each, a processor may run a breakpoint that the other, patching the
        // kernel's code (arch/x86/kernel/alternative.c, v6.12), has taken away already (QEMU 7.2: an oops at int3).
        .args(["-accel", "tcg,thread=single", "-smp", "2", "-m", "2048", "-nodefaults", "-no-user-config"])
        .args(machine.hardware)
        .args(["-display", "none", "-no-reboot", "-kernel"])
        .arg(kernel.image())
        .arg("-initrd")
        .arg(&files.initramfs)
        .args(["-append", &format!("console={} panic=-1 oops=panic loglevel=5", machine.console)])
        .arg("-serial")
        .arg(format!("file:{}", files.serial.display()))
        .args(["-device", "virtio-serial-pci", "-chardev"])
        .arg(format!("file,id=results,path={}", files.results.display()))
        .args(["-device", &format!("virtserialport,chardev=results,name={}", super::plan::PORT)]);
    for (disk, path) in disks {
        command.args(["-device", &format!("nvme,drive={0},serial={0}", disk.kind), "-drive"]).arg(format!(
            "if=none,id={},format=raw,cache=unsafe,file={}",
            disk.kind,
            path.display()
        ));
    }
    // A network between two devices of one machine. Without checksums there is no scatter-gather.
    let no_gather = "virtio-net-pci,netdev=a,romfile=,csum=off,gso=off,guest_csum=off,guest_tso4=off,guest_tso6=off";
    command.args(["-netdev", "hubport,id=a,hubid=0", "-device", no_gather]).args([
        "-netdev",
        "hubport,id=b,hubid=0",
        "-device",
        "vmxnet3,netdev=b,romfile=",
    ]);
    Ok(command)
}

/// On which processors the emulator may run. On one alone where much direct I/O is in flight: the emulated NVMe controller
/// (hw/nvme/ctrl.c, QEMU 7.2, nvme_process_sq) says which doorbell it waits for and looks at the doorbell again without a
/// barrier between, and misses it where the guest really runs at the same time. Its queue then stands still until the
/// kernel's timeout of 30 s.
fn processors(machine: &Machine) -> anyhow::Result<String> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).context("asking for the processors")?;
    let mut allowed: Vec<_> = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false)).collect();
    if machine.one_processor {
        allowed.drain(..allowed.len().saturating_sub(1));
    }
    Ok(allowed.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
}

/// Waits for the emulator's end; an error if it takes too long, or the console says that the kernel is in trouble.
fn watch(qemu: &mut Child, console: &Path, signals: &Held) -> anyhow::Result<()> {
    let mut end = Instant::now() + LIMIT;
    let mut trouble = None;
    loop {
        let ended = qemu.try_wait()?.is_some();
        let said = fs::read(console).unwrap_or_default();
        if trouble.is_none()
            && let Some(found) = serial::trouble(&String::from_utf8_lossy(&said))
        {
            trouble = Some(found);
            end = end.min(Instant::now() + GRACE);
        }
        match &trouble {
            Some(found) if ended || Instant::now() > end => bail!("the kernel is in trouble: {found}"),
            None if ended => return Ok(()),
            None if Instant::now() > end => bail!("not done after {} s", LIMIT.as_secs()),
            _ if signals.came() => return Ok(()),
            _ => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// Ends the emulator if it is still there.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
