//! More paths in one thread than its own ledger has places for.

use std::os::fd::{AsRawFd, OwnedFd};

use libc::{SYS_read, SYS_recvfrom, SYS_sendfile, SYS_splice, SYS_tee, SYS_vmsplice, SYS_write};
use zc_tests::memory::{Memory, PAGE, address, address_mut, iovec};
use zc_tests::script::{Script, arg};

use crate::{Scenario, open};

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[("wide", wide)];

fn fd(of: &impl AsRawFd) -> usize {
    arg(of.as_raw_fd())
}

/// Thirty-odd paths, one after the other and again and again, so that those beyond the sixteenth come between others.
fn wide(arguments: &[String]) -> anyhow::Result<()> {
    let file = open::file(open::disk_directory(arguments)?, 2 * PAGE, 0)?;
    let mapping = crate::kernel_moves::mapped(&file)?;
    let memory = Memory::anonymous(PAGE)?;
    let sockets = [("tcp", open::tcp()?), ("udp", open::udp()?), ("unix", open::unix(libc::SOCK_STREAM)?)];
    let mut s = Script::default();
    s.calls_are_exact();
    let (pipe, more, devices) = (open::pipe()?, open::pipe()?, Devices::open()?);
    s.begin()?;
    for _ in 0..20 {
        for (kind, at) in [("user", memory.at(0)), ("mapping", mapping.at(0))] {
            for (name, pair) in &sockets {
                exchange(&mut s, name, kind, pair, at)?;
            }
            devices.use_all(&mut s, kind, at)?;
            s.moves(&format!("write:{kind}:pipe"), 10, SYS_write, &[fd(&pipe.1), at, 10])?;
            s.moves(&format!("read:pipe:{kind}"), 10, SYS_read, &[fd(&pipe.0), at, 10])?;
            let vector = [iovec(at, 20)];
            s.moves(&format!("vmsplice:{kind}:pipe"), 20, SYS_vmsplice, &[fd(&pipe.1), address(&vector), 1, 0])?;
            s.moves("tee:pipe:pipe", 20, SYS_tee, &[fd(&pipe.0), fd(&more.1), 100, 0])?;
            s.moves("splice:pipe:device null_sink", 20, SYS_splice, &[fd(&pipe.0), 0, fd(&devices.null), 0, 100, 0])?;
            let vector = [iovec(memory.at(100), 20)];
            s.moves("vmsplice:pipe:user", 20, SYS_vmsplice, &[fd(&more.0), address(&vector), 1, 0])?;
        }
        let mut offset = 0_u64;
        let null = fd(&devices.null);
        s.moves("sendfile:file:device null_sink", 30, SYS_sendfile, &[null, fd(&file), address_mut(&mut offset), 30])?;
    }
    s.end()
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
