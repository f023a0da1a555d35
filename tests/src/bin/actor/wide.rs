//! More paths in one thread than its own ledger has places for.

use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context as _, ensure};
use libc::{SYS_read, SYS_recvfrom, SYS_sendfile, SYS_splice, SYS_tee, SYS_vmsplice, SYS_write};
use zc_tests::memory::{Memory, PAGE, address, address_mut, iovec};
use zc_tests::script::{Script, arg, fork, raw};

use crate::{Scenario, open};

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[("wide", wide), ("wide_crowd", wide_crowd)];

fn fd(of: &impl AsRawFd) -> usize {
    arg(of.as_raw_fd())
}

/// Thirty-odd paths, one after the other and again and again, so that those beyond the sixteenth come between others.
fn wide(arguments: &[String]) -> anyhow::Result<()> {
    let ends = Ends::open(arguments)?;
    let mut s = Script::default();
    s.calls_are_exact();
    s.begin()?;
    for _ in 0..20 {
        ends.use_all(&mut s)?;
    }
    s.end()
}

/// The same once, after so many children have done it: `wide_crowd DIRECTORY CHILDREN`.
fn wide_crowd(arguments: &[String]) -> anyhow::Result<()> {
    let ends = Ends::open(arguments)?;
    let children: usize = arguments.get(1).context("a number of children")?.parse()?;
    let mut s = Script::default();
    for _ in 0..children {
        let child = fork()?;
        if child == 0 {
            let status = usize::from(ends.use_all(&mut s).is_err());
            let _ = raw(libc::SYS_exit_group, &[status]);
        }
        let mut status = 0_i32;
        raw(libc::SYS_wait4, &[child, address_mut(&mut status), 0, 0])?;
        ensure!(status == 0, "a child failed: {status:#x}");
    }
    s.calls_are_exact();
    s.begin()?;
    ends.use_all(&mut s)?;
    s.end()
}

/// What the bytes go through.
struct Ends {
    file: std::fs::File,
    mapping: Memory,
    memory: Memory,
    sockets: [(&'static str, (OwnedFd, OwnedFd)); 3],
    pipe: (OwnedFd, OwnedFd),
    more: (OwnedFd, OwnedFd),
    devices: Devices,
}

impl Ends {
    fn open(arguments: &[String]) -> anyhow::Result<Self> {
        let file = open::file(open::disk_directory(arguments)?, 2 * PAGE, 0)?;
        Ok(Self {
            mapping: crate::kernel_moves::mapped(&file)?,
            file,
            memory: Memory::anonymous(PAGE)?,
            sockets: [("tcp", open::tcp()?), ("udp", open::udp()?), ("unix", open::unix(libc::SOCK_STREAM)?)],
            pipe: open::pipe()?,
            more: open::pipe()?,
            devices: Devices::open()?,
        })
    }

    fn use_all(&self, s: &mut Script) -> anyhow::Result<()> {
        for (kind, at) in [("user", self.memory.at(0)), ("mapping", self.mapping.at(0))] {
            for (name, pair) in &self.sockets {
                exchange(s, name, kind, pair, at)?;
            }
            self.devices.use_all(s, kind, at)?;
            self.pipes(s, kind, at)?;
        }
        let mut offset = 0_u64;
        let arguments = [fd(&self.devices.null), fd(&self.file), address_mut(&mut offset), 30];
        s.moves("sendfile:file:device null_sink", 30, SYS_sendfile, &arguments)
    }

    fn pipes(&self, s: &mut Script, kind: &str, at: usize) -> anyhow::Result<()> {
        let (rx, tx, null) = (fd(&self.pipe.0), fd(&self.pipe.1), fd(&self.devices.null));
        s.moves(&format!("write:{kind}:pipe"), 10, SYS_write, &[tx, at, 10])?;
        s.moves(&format!("read:pipe:{kind}"), 10, SYS_read, &[rx, at, 10])?;
        let vector = [iovec(at, 20)];
        s.moves(&format!("vmsplice:{kind}:pipe"), 20, SYS_vmsplice, &[tx, address(&vector), 1, 0])?;
        s.moves("tee:pipe:pipe", 20, SYS_tee, &[rx, fd(&self.more.1), 100, 0])?;
        s.moves("splice:pipe:device null_sink", 20, SYS_splice, &[rx, 0, null, 0, 100, 0])?;
        let vector = [iovec(self.memory.at(100), 20)];
        s.moves("vmsplice:pipe:user", 20, SYS_vmsplice, &[fd(&self.more.0), address(&vector), 1, 0])
    }
}

fn exchange(
    s: &mut Script,
    name: &str,
    kind: &str,
    (one, other): &(OwnedFd, OwnedFd),
    at: usize,
) -> anyhow::Result<()> {
    s.moves(&format!("write:{kind}:{name}"), 40, SYS_write, &[fd(one), at, 40])?;
    s.moves(
        &format!("read:{name}:{kind} peek"),
        40,
        SYS_recvfrom,
        &[fd(other), at, 40, libc::MSG_PEEK as usize, 0, 0],
    )?;
    s.moves(&format!("read:{name}:{kind}"), 40, SYS_read, &[fd(other), at, 40])
}

struct Devices {
    null: std::fs::File,
    zero: std::fs::File,
    random: std::fs::File,
    event: OwnedFd,
}

impl Devices {
    fn open() -> anyhow::Result<Self> {
        Ok(Self {
            null: open::device("/dev/null")?,
            zero: open::device("/dev/zero")?,
            random: open::device("/dev/urandom")?,
            event: open::eventfd()?,
        })
    }

    fn use_all(&self, s: &mut Script, kind: &str, at: usize) -> anyhow::Result<()> {
        s.moves(&format!("write:{kind}:device null_sink"), 3, SYS_write, &[fd(&self.null), at, 3])?;
        s.moves(&format!("read:device:{kind}"), 5, SYS_read, &[fd(&self.random), at, 5])?;
        s.moves(&format!("read:device:{kind} null_source"), 8, SYS_read, &[fd(&self.zero), at, 8])?;
        let one = 1_u64;
        s.moves("write:user:other", 8, SYS_write, &[fd(&self.event), address(&one), 8])?;
        s.moves(&format!("read:other:{kind}"), 8, SYS_read, &[fd(&self.event), at, 8])
    }
}
