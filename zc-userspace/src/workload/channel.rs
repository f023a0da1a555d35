//! Descriptors as ends of a path: what feeds a source and drains a sink, in the same thread as the operations.
//!
//! Nothing blocks: sockets and pipes are non-blocking, a source is fed when it is empty and a sink drained as it fills.
//! So no thread is needed, and nothing can be lost: a datagram is sent only when the one before has been taken.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::sendfile::sendfile;
use nix::unistd::{self, Whence, lseek};

use super::fixture::PAGE;
use super::memory::Memory;

/// Sinks are drained whenever this much may be waiting in them.
const DRAIN_AT: u64 = 64 << 10;
/// Streams are fed at least this much at a time.
const FEED: u64 = 128 << 10;
/// Streams of pages are fed this much at a time.
const PAGES: usize = 256 << 10;
/// Milliseconds. Nothing on one machine takes this long, unless it never comes.
const PATIENCE: u16 = 10_000;

/// What operations will look like, for what must be sized before.
pub(super) struct Shape {
    /// Bytes of the whole run.
    pub(super) bytes: u64,
    /// Bytes of one operation.
    pub(super) chunk: u64,
    /// Whether the end is the path's source.
    pub(super) is_source: bool,
    /// Datagrams of one operation.
    pub(super) parts: usize,
    /// Bytes that each datagram is longer than what the operation takes of it.
    pub(super) excess: usize,
}

impl Shape {
    /// How long a file is to be, a whole number of chunks: at most `limit` if that holds one.
    pub(super) fn span(&self, limit: u64) -> u64 {
        let chunks = (limit / self.chunk).clamp(1, self.bytes.div_ceil(self.chunk).max(1));
        chunks * self.chunk
    }

    /// How much memory an operation may need: each of its parts is rounded up.
    pub(super) fn memory(&self) -> usize {
        usize::try_from(self.chunk).unwrap_or(usize::MAX) + self.parts
    }

    /// What a stream is fed at a time: a whole number of chunks, two at least.
    pub(super) fn feed(&self) -> usize {
        usize::try_from(FEED.div_ceil(self.chunk).max(2) * self.chunk).unwrap_or(usize::MAX)
    }
}

/// A descriptor and what belongs to it.
pub(super) struct Channel {
    /// What the operations use.
    pub(super) fd: OwnedFd,
    /// The file position.
    pub(super) at: u64,
    /// Where the file position goes back to the start.
    span: Option<u64>,
    /// Whether only whole pages can be moved.
    direct: bool,
    line: Option<Line>,
}

/// The other end of a socket or pipe.
struct Line {
    peer: OwnedFd,
    /// Bytes between the two ends.
    waiting: u64,
    datagrams: bool,
    parts: usize,
    excess: usize,
    spare: Memory,
    feed: Feed,
}

/// What a stream that is a source is fed.
enum Feed {
    /// As much as `spare` holds.
    Spare,
    /// What the next operation is to take, and no more.
    OneByOne,
    /// Pages of a file that nobody else has.
    Pages(File),
}

/// Two connected descriptors: the one that the operations use, and its peer.
pub(super) type Pair = (OwnedFd, OwnedFd);

impl Channel {
    /// A file, of which the first `span` bytes are used again and again.
    pub(super) fn file(file: File, span: u64) -> Self {
        Self { fd: file.into(), at: 0, span: Some(span), direct: false, line: None }
    }

    /// The same with O_DIRECT.
    pub(super) fn disk(file: File, span: u64) -> Self {
        Self { direct: true, ..Self::file(file, span) }
    }

    /// A device or pseudo file: at its end, if it has one, it begins anew.
    pub(super) fn endless(file: File) -> Self {
        Self { fd: file.into(), at: 0, span: None, direct: false, line: None }
    }

    /// A pipe or stream socket.
    pub(super) fn stream(pair: Pair, shape: &Shape) -> anyhow::Result<Self> {
        Self::line(pair, shape, false)
    }

    /// A stream socket that is fed pages that nobody else has: from /dev/urandom (/dev/zero can't be sent before 6.5).
    pub(super) fn stream_of_pages(pair: Pair, shape: &Shape) -> anyhow::Result<Self> {
        let mut channel = Self::stream(pair, shape)?;
        if let Some(line) = &mut channel.line {
            line.feed = Feed::Pages(File::open("/dev/urandom")?);
        }
        Ok(channel)
    }

    /// A stream socket that is fed for one operation at a time.
    pub(super) fn stream_of_chunks(pair: Pair, shape: &Shape) -> anyhow::Result<Self> {
        let mut channel = Self::stream(pair, shape)?;
        if let Some(line) = &mut channel.line {
            line.feed = Feed::OneByOne;
        }
        Ok(channel)
    }

    /// A datagram socket, or whatever keeps messages apart.
    pub(super) fn datagrams(pair: Pair, shape: &Shape) -> anyhow::Result<Self> {
        Self::line(pair, shape, true)
    }

    fn line((fd, peer): Pair, shape: &Shape, datagrams: bool) -> anyhow::Result<Self> {
        for end in [&fd, &peer] {
            let flags = OFlag::from_bits_retain(fcntl(end, FcntlArg::F_GETFL)?);
            fcntl(end, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        }
        let spare = Memory::user(shape.feed())?;
        let line =
            Line { peer, waiting: 0, datagrams, parts: shape.parts, excess: shape.excess, spare, feed: Feed::Spare };
        Ok(Self { fd, at: 0, span: None, direct: false, line: Some(line) })
    }

    /// Before an operation of `len` bytes out of it.
    pub(super) fn before_source(&mut self, len: usize) -> nix::Result<()> {
        self.wrap(len)?;
        let Some(line) = self.line.as_mut().filter(|line| line.waiting == 0) else { return Ok(()) };
        if line.datagrams { line.feed_datagrams(len) } else { line.feed_stream(len) }
    }

    /// Before an operation of `len` bytes into it.
    pub(super) fn before_sink(&mut self, len: usize) -> nix::Result<()> {
        self.wrap(len)
    }

    /// After an operation that took `n` bytes out of it.
    pub(super) fn after_source(&mut self, n: usize) -> nix::Result<()> {
        if let Some(line) = &mut self.line {
            // A datagram is gone even if it was not taken whole.
            let whole = line.datagrams && line.parts == 1;
            line.waiting = if whole { 0 } else { line.waiting.saturating_sub(n as u64) };
        }
        self.advance(n)
    }

    /// After an operation that put `n` bytes into it.
    pub(super) fn after_sink(&mut self, n: usize) -> nix::Result<()> {
        if let Some(line) = &mut self.line {
            line.waiting += n as u64;
            if line.datagrams || line.waiting >= DRAIN_AT {
                line.drain()?;
            }
        }
        self.advance(n)
    }

    /// Waits for all that was put into it to come out: network devices may have it still.
    pub(super) fn finish(&mut self) -> nix::Result<()> {
        let Some(line) = &mut self.line else { return Ok(()) };
        while line.waiting > 0 {
            line.await_peer(PollFlags::POLLIN)?;
            line.drain()?;
        }
        Ok(())
    }

    /// Whether it has a file position.
    pub(super) fn is_file(&self) -> bool {
        self.span.is_some()
    }

    /// Back to the start of a file.
    pub(super) fn rewind(&mut self) -> nix::Result<()> {
        self.at = 0;
        if self.line.is_none() {
            lseek(&self.fd, 0, Whence::SeekSet)?;
        }
        Ok(())
    }

    /// When an operation would have had to wait for bytes to come out of it.
    pub(super) fn await_source(&self) -> nix::Result<()> {
        if self.line.is_none() {
            return Ok(());
        }
        let mut ends = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
        if poll(&mut ends, PollTimeout::from(PATIENCE))? == 0 { Err(Errno::ETIMEDOUT) } else { Ok(()) }
    }

    /// When an operation would have had to wait for room in it.
    pub(super) fn await_sink(&mut self) -> nix::Result<()> {
        let Some(line) = &mut self.line else { return Ok(()) };
        loop {
            line.drain()?;
            let room = PollFd::new(self.fd.as_fd(), PollFlags::POLLOUT);
            let mut ends = [room, PollFd::new(line.peer.as_fd(), PollFlags::POLLIN)];
            if poll(&mut ends, PollTimeout::from(PATIENCE))? == 0 {
                return Err(Errno::ETIMEDOUT);
            }
            if ends[0].any() == Some(true) {
                return Ok(());
            }
        }
    }

    fn wrap(&mut self, len: usize) -> nix::Result<()> {
        let over = self.span.is_some_and(|span| self.at > 0 && self.at + len as u64 > span);
        if over { self.rewind() } else { Ok(()) }
    }

    fn advance(&mut self, n: usize) -> nix::Result<()> {
        self.at += n as u64;
        // A socket that took only part of what was read leaves the position where no direct read may begin.
        if self.direct && !self.at.is_multiple_of(PAGE) { self.rewind() } else { Ok(()) }
    }
}

impl Line {
    /// The feeder of a path's source: always a plain write from anonymous memory.
    fn feed_stream(&mut self, len: usize) -> nix::Result<()> {
        let fed = match &self.feed {
            Feed::Pages(file) => sendfile(&self.peer, file, None, PAGES),
            Feed::OneByOne => unistd::write(&self.peer, self.spare.bytes(len)?),
            Feed::Spare => unistd::write(&self.peer, self.spare.all()?),
        };
        match fed {
            Ok(n) => self.waiting += n as u64,
            Err(Errno::EAGAIN) => {}
            Err(errno) => return Err(errno),
        }
        Ok(())
    }

    fn feed_datagrams(&mut self, len: usize) -> nix::Result<()> {
        for part in parts(len, self.parts).filter(|part| *part > 0) {
            let sent = loop {
                match unistd::write(&self.peer, self.spare.bytes(part + self.excess)?) {
                    Err(Errno::EAGAIN) => self.await_peer(PollFlags::POLLOUT)?,
                    result => break result?,
                }
            };
            self.waiting += sent as u64;
        }
        Ok(())
    }

    /// The drainer of a path's sink: always a plain read into anonymous memory. Datagrams are waited for, for what is
    /// not taken is lost; of a stream it takes what is there.
    fn drain(&mut self) -> nix::Result<()> {
        while self.waiting > 0 {
            match unistd::read(&self.peer, self.spare.all()?) {
                Ok(n) => self.waiting = self.waiting.saturating_sub(n as u64),
                Err(Errno::EAGAIN) if self.datagrams => self.await_peer(PollFlags::POLLIN)?,
                Err(Errno::EAGAIN) => break,
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    fn await_peer(&self, event: PollFlags) -> nix::Result<()> {
        let mut ends = [PollFd::new(self.peer.as_fd(), event)];
        if poll(&mut ends, PollTimeout::from(PATIENCE))? == 0 { Err(Errno::ETIMEDOUT) } else { Ok(()) }
    }
}

/// How `len` bytes are divided into messages; the last may be shorter or empty.
pub(super) fn parts(len: usize, parts: usize) -> impl Iterator<Item = usize> {
    let each = len.div_ceil(parts);
    (0..parts).map(move |i| len.saturating_sub(i * each).min(each))
}

/// The end that the operations use first, its peer second, for a pair that has a direction.
pub(super) fn oriented(read: OwnedFd, write: OwnedFd, is_source: bool) -> Pair {
    if is_source { (read, write) } else { (write, read) }
}
