//! The first process of the virtual machines that `cargo xtask vm` boots: makes the machine ready, runs what the plan
//! says, reports each step over a virtio port, and turns the machine off.

mod machine;
mod steps;

use std::fs::File;
use std::io::Write as _;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::wait::wait;
use nix::unistd::Pid;
use xtask::vm::plan::{Message, PLAN, Plan};

/// The argument that makes it run the steps.
const STEPS: &str = "steps";

fn main() -> Result<()> {
    if std::env::args().nth(1).as_deref() == Some(STEPS) {
        return steps();
    }
    // Elsewhere it would mount over the user's directories and turn the machine off.
    ensure!(std::process::id() == 1, "only for the virtual machines of `cargo xtask vm`, as their first process");
    if let Err(error) = machine() {
        // Nobody else can be told; the serial console is what the host keeps.
        eprintln!("vm_init: {error:#}");
    }
    nix::unistd::sync();
    reboot(RebootMode::RB_POWER_OFF).context("turning the machine off")?;
    Ok(())
}

/// Makes the machine ready, and has another process run the steps: children of the first process have no job control,
/// and get a SIGHUP when one of their group ends while another is stopped (will_become_orphaned_pgrp, kernel/exit.c,
/// v6.1).
fn machine() -> Result<()> {
    machine::file_systems()?;
    machine::modules(&plan()?.modules)?;
    let steps = Command::new("/proc/self/exe").arg(STEPS).spawn().context("starting the steps")?;
    let steps = Pid::from_raw(steps.id().cast_signed());
    // The first process is also everybody's parent whose own is gone.
    while wait()?.pid() != Some(steps) {}
    Ok(())
}

fn plan() -> Result<Plan> {
    serde_json::from_slice(&std::fs::read(PLAN).context(PLAN)?).context(PLAN)
}

fn steps() -> Result<()> {
    nix::unistd::setsid().context("a session")?;
    let plan = plan()?;
    let mut port = machine::port()?;
    match all(&plan, &mut port) {
        Ok(()) => tell(&mut port, &Message::End),
        Err(error) => tell(&mut port, &Message::Failed(format!("{error:#}"))),
    }
}

fn all(plan: &Plan, port: &mut File) -> Result<()> {
    plan.mounts.iter().try_for_each(machine::mount_disk)?;
    plan.setup.iter().try_for_each(|command| steps::must_succeed(command))?;
    let release = nix::sys::utsname::uname()?.release().to_string_lossy().into_owned();
    tell(port, &Message::Ready(release))?;
    plan.steps.iter().try_for_each(|step| tell(port, &Message::Done(steps::run(step)?)))
}

fn tell(port: &mut File, message: &Message) -> Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    port.write_all(&line).context("the host's port")
}
