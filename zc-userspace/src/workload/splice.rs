//! splice, tee and vmsplice.

use std::io::IoSlice;

use std::path::Path;

use nix::fcntl::{self, SpliceFFlags};
use nix::unistd;
use zc_common::path::Condition::{MessageSink, MessageSource, NullSink, NullSource};

use super::Workload;
use super::calls::{from, into, returned};
use super::drive::{Moved, Stage};
use super::fixture::Fixture::{
    Disk, File, Mapping, MappingReadOnly, Netlink, Null, Pipe, Proc, Tcp, Tmpfs, Udp, Unix, UnixDatagram, Urandom,
    User, Veth, VethLinear, Zero,
};

pub(super) fn splice(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    Ok(fcntl::splice(stage.source.fd()?, None, stage.sink.fd()?, None, len, SpliceFFlags::empty())?.into())
}

fn splice_from_offset(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    let mut at = stage.source.offset();
    Ok(fcntl::splice(stage.source.fd()?, Some(&mut at), stage.sink.fd()?, None, len, SpliceFFlags::empty())?.into())
}

fn splice_to_offset(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    let mut at = stage.sink.offset();
    Ok(fcntl::splice(stage.source.fd()?, None, stage.sink.fd()?, Some(&mut at), len, SpliceFFlags::empty())?.into())
}

/// Why nothing can be spliced or sent from /dev/zero here: it learned that with copy_splice_read (drivers/char/mem.c,
/// v6.5).
pub(super) fn zero_splices(_: &Path) -> Option<String> {
    let attempt = || -> anyhow::Result<usize> {
        let ((_reader, writer), zero) = (unistd::pipe()?, std::fs::File::open("/dev/zero")?);
        Ok(fcntl::splice(&zero, None, &writer, None, 1, SpliceFFlags::empty())?)
    };
    attempt().err().map(|refused| format!("this kernel does not splice from /dev/zero: {refused}"))
}

/// What is duplicated stays in the first pipe, whence a plain read takes it.
fn tee(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    let n = fcntl::tee(stage.source.fd()?, stage.sink.fd()?, len, SpliceFFlags::empty())?;
    let mut taken = 0;
    while taken < n {
        taken += unistd::read(stage.source.fd()?, stage.second.bytes(n - taken)?)?;
    }
    Ok(n.into())
}

/// vmsplice heeds this flag alone; the other calls heed the pipe's O_NONBLOCK.
const DO_NOT_WAIT: SpliceFFlags = SpliceFFlags::SPLICE_F_NONBLOCK;

fn vmsplice(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    let segment = IoSlice::new(stage.source.bytes(len)?);
    Ok(fcntl::vmsplice(stage.sink.fd()?, &[segment], DO_NOT_WAIT)?.into())
}

fn vmsplice_gift(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    let segment = IoSlice::new(stage.source.bytes(len)?);
    Ok(fcntl::vmsplice(stage.sink.fd()?, &[segment], DO_NOT_WAIT.union(SpliceFFlags::SPLICE_F_GIFT))?.into())
}

fn vmsplice_vector(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    let segments = from(stage.source.bytes(len)?);
    Ok(fcntl::vmsplice(stage.sink.fd()?, &segments, DO_NOT_WAIT)?.into())
}

/// The other way: out of a pipe into memory. nix takes only segments that are not written to.
fn vmsplice_out(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    use std::os::fd::AsRawFd as _;
    let fd = stage.source.fd()?.as_raw_fd();
    let segments = into(stage.sink.bytes(len)?);
    // SAFETY: an IoSliceMut is an iovec, and the segments and their buffers outlive the call.
    returned(unsafe { libc::vmsplice(fd, segments.as_ptr().cast(), segments.len(), DO_NOT_WAIT.bits()) })
}

const fn new(
    id: &'static str,
    source: super::Fixture,
    sink: super::Fixture,
    mover: super::Mover,
    about: &'static str,
) -> Workload {
    Workload::new(id, source, sink, mover, about)
}

/// One for each row.
pub(super) const MAIN: &[Workload] = &[
    new("splice:file:pipe", File, Pipe, splice, "splice a file into a pipe"),
    new("splice:disk:pipe", Disk, Pipe, splice, "splice a file opened with O_DIRECT into a pipe"),
    new("splice:tcp:pipe", Tcp, Pipe, splice, "splice a TCP socket into a pipe"),
    new("splice:udp:pipe", Udp, Pipe, splice, "splice a UDP socket into a pipe"),
    new("splice:unix:pipe", Unix, Pipe, splice, "splice a unix stream socket into a pipe"),
    new("splice:unix:pipe", UnixDatagram, Pipe, splice, "splice a unix datagram socket into a pipe")
        .when(MessageSource),
    new("splice:device:pipe", Urandom, Pipe, splice, "splice /dev/urandom into a pipe"),
    new("splice:device:pipe", Zero, Pipe, splice, "splice /dev/zero into a pipe").when(NullSource).needs(zero_splices),
    new("splice:other:pipe", Proc, Pipe, splice, "splice a file of /proc into a pipe"),
    new("splice:pipe:pipe", Pipe, Pipe, splice, "splice a pipe into another"),
    new("splice:pipe:file", Pipe, File, splice, "splice a pipe into a file"),
    new("splice:pipe:disk", Pipe, Disk, splice, "splice a pipe into a file opened with O_DIRECT"),
    new("splice:pipe:tcp", Pipe, Tcp, splice, "splice a pipe into a TCP socket"),
    new("splice:pipe:udp", Pipe, Udp, splice, "splice a pipe into a UDP socket"),
    new("splice:pipe:unix", Pipe, Unix, splice, "splice a pipe into a unix stream socket"),
    new("splice:pipe:unix", Pipe, UnixDatagram, splice, "splice a pipe into a unix datagram socket").when(MessageSink),
    new("splice:pipe:device", Pipe, Urandom, splice, "splice a pipe into /dev/urandom"),
    new("splice:pipe:device", Pipe, Null, splice, "splice a pipe into /dev/null").when(NullSink),
    new("splice:pipe:other", Pipe, Netlink, splice, "splice a pipe into a netlink socket"),
    new("tee:pipe:pipe", Pipe, Pipe, tee, "duplicate a pipe's content into another"),
    new("vmsplice:user:pipe", User, Pipe, vmsplice, "hand anonymous memory to a pipe"),
    new("vmsplice:mapping:pipe", Mapping, Pipe, vmsplice, "hand a mapping of a file to a pipe"),
    new("vmsplice:pipe:user", Pipe, User, vmsplice_out, "take a pipe's content into anonymous memory"),
    new("vmsplice:pipe:mapping", Pipe, Mapping, vmsplice_out, "take a pipe's content into a mapping of a file"),
];

/// With offsets and flags, and with ends that look like something else.
pub(super) const VARIANTS: &[Workload] = &[
    new("splice:file:pipe", File, Pipe, splice_from_offset, "with an offset").variant("offset"),
    new("splice:file:pipe", Tmpfs, Pipe, splice, "from a file of a tmpfs").variant("tmpfs"),
    new("splice:other:pipe", Netlink, Pipe, splice, "from a netlink socket").variant("netlink"),
    new("splice:pipe:tcp", Pipe, Veth, splice, "through a network device with scatter-gather").variant("veth"),
    new("splice:pipe:tcp", Pipe, VethLinear, splice, "through a network device without scatter-gather")
        .variant("veth-linear"),
    new("splice:pipe:file", Pipe, File, splice_to_offset, "with an offset").variant("offset"),
    new("vmsplice:user:pipe", User, Pipe, vmsplice_gift, "with SPLICE_F_GIFT").variant("gift"),
    new("vmsplice:user:pipe", User, Pipe, vmsplice_vector, "several segments").variant("vector"),
    new("vmsplice:mapping:pipe", Mapping, Pipe, vmsplice_gift, "with SPLICE_F_GIFT").variant("gift"),
    new("vmsplice:mapping:pipe", MappingReadOnly, Pipe, vmsplice, "a private mapping that can't be written")
        .variant("read-only"),
];
