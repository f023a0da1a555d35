//! A ring of io_uring: submits requests, waits for all of them, adds up what they say they moved.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use io_uring::squeue::{Entry, Flags};
use io_uring::types::BufRingEntry;
use io_uring::{IoUring, cqueue, opcode, types};
use nix::errno::Errno;

use super::memory::Memory;

/// How requests are submitted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    /// Requests in flight.
    pub(super) depth: usize,
    /// Threads that submit to the ring; 1 is the caller's.
    pub(super) threads: usize,
    /// Each request is left to a worker thread (IOSQE_ASYNC).
    pub(super) asynchronous: bool,
    /// A kernel thread takes requests from the queue (IORING_SETUP_SQPOLL).
    pub(super) polled: bool,
    /// Each request waits for the one before (IOSQE_IO_LINK).
    pub(super) linked: bool,
    /// Completions are posted when the submitter asks for them (IORING_SETUP_DEFER_TASKRUN).
    pub(super) deferred: bool,
    /// What provides buffers, where the kernel chooses one.
    pub(super) provided: Provided,
}

/// How buffers are provided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Provided {
    /// Each request names its own.
    None,
    /// A ring of buffers, shared with the kernel.
    Ring,
    /// Requests that provide buffers.
    Requests,
}

impl Plan {
    /// One request after the other.
    pub(super) const PLAIN: Self = Self {
        depth: 1,
        threads: 1,
        asynchronous: false,
        polled: false,
        linked: false,
        deferred: false,
        provided: Provided::None,
    };
}

/// Where one request's vector or message is.
#[repr(C)]
pub(super) struct Header {
    pub(super) message: libc::msghdr,
    pub(super) segments: [libc::iovec; 3],
}

/// The user_data of requests that complete twice: the second time says that the peer has acknowledged what was sent,
/// which may take it 40 ms, and is not waited for.
pub(super) const NOTIFIES: u64 = 1;
/// The group of provided buffers.
pub(super) const GROUP: u16 = 70;
/// A ring of provided buffers has this many entries: one is in it at a time.
const BUFFERS: u16 = 8;

/// A ring.
pub(super) struct Ring {
    ring: IoUring,
    pub(super) plan: Plan,
    pub(super) headers: Vec<Header>,
    buffers: Option<Memory>,
    /// The next entry in the ring of provided buffers.
    tail: u16,
}

/// What a batch of requests did.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Batch {
    /// Requests that moved at least one byte.
    pub(super) operations: usize,
    /// What they moved.
    pub(super) bytes: usize,
    /// The last failure, if any failed.
    pub(super) failure: Option<Errno>,
}

impl Batch {
    fn add(&mut self, result: i32) {
        match usize::try_from(result) {
            Ok(0) => {}
            Ok(bytes) => {
                self.operations += 1;
                self.bytes += bytes;
            }
            // The rest of a chain whose first links came up short.
            Err(_) if result == -libc::ECANCELED => {}
            Err(_) => self.failure = Some(Errno::from_raw(-result)),
        }
    }
}

/// Milliseconds for which a polling thread goes on without work.
const IDLE: u32 = 50;
/// No batch takes this long, unless it never ends.
const PATIENCE: Duration = Duration::from_secs(20);

impl Ring {
    pub(super) fn open(plan: Plan) -> anyhow::Result<Self> {
        let mut builder = IoUring::builder();
        if plan.polled {
            builder.setup_sqpoll(IDLE);
        }
        if plan.deferred {
            builder.setup_single_issuer().setup_defer_taskrun();
        }
        let entries = u32::try_from(plan.depth.max(4).next_power_of_two())?;
        let ring = builder.build(entries).context("making an io_uring")?;
        // SAFETY: headers of zeros are ones without addresses and segments.
        let headers = (0..plan.depth).map(|_| unsafe { std::mem::zeroed() }).collect();
        let mut ring = Self { ring, plan, headers, buffers: None, tail: 0 };
        if plan.provided == Provided::Ring {
            ring.register_buffer_ring()?;
        }
        if plan.threads > 1 {
            // The C library reads the number of CPUs when it first allocates memory in another thread.
            ring.run_in_threads(&vec![opcode::Nop::new().build(); plan.threads])?;
        }
        Ok(ring)
    }

    /// Registers a buffer of the process under the number 0.
    pub(super) fn register(&self, buffer: &mut [u8]) -> anyhow::Result<()> {
        let segment = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        // SAFETY: the stage keeps the buffer as long as the ring.
        unsafe { self.ring.submitter().register_buffers(&[segment]) }.context("registering a buffer")
    }

    fn register_buffer_ring(&mut self) -> anyhow::Result<()> {
        let mut buffers = Memory::user(usize::from(BUFFERS) * size_of::<BufRingEntry>())?;
        let all = buffers.all()?;
        all.fill(0);
        // SAFETY: the memory is page-aligned, zeroed, and kept as long as the ring.
        unsafe { self.ring.submitter().register_buf_ring_with_flags(all.as_ptr() as u64, BUFFERS, GROUP, 0) }
            .context("registering a ring of buffers")?;
        self.buffers = Some(buffers);
        Ok(())
    }

    /// Provides one buffer for the next request that takes one.
    pub(super) fn provide(&mut self, buffer: *mut u8, len: usize) -> nix::Result<()> {
        let length = u32::try_from(len).map_err(|_| Errno::EINVAL)?;
        let Some(memory) = &mut self.buffers else {
            let len = i32::try_from(len).map_err(|_| Errno::EINVAL)?;
            let entry = opcode::ProvideBuffers::new(buffer, len, 1, GROUP, 0).build();
            return self.run(vec![entry]).map(drop);
        };
        let entries: *mut BufRingEntry = memory.all()?.as_mut_ptr().cast();
        // SAFETY: the index is within the ring of entries, which the kernel only reads; the tail is written last.
        unsafe {
            let entry = &mut *entries.add(usize::from(self.tail % BUFFERS));
            entry.set_addr(buffer as u64);
            entry.set_len(length);
            entry.set_bid(self.tail % BUFFERS);
            self.tail = self.tail.wrapping_add(1);
            let tail = BufRingEntry::tail(entries).cast_mut();
            std::sync::atomic::fence(Ordering::Release);
            tail.write_volatile(self.tail);
        }
        Ok(())
    }

    /// Submits requests in the ring's way and waits for all of them.
    pub(super) fn run(&mut self, mut entries: Vec<Entry>) -> nix::Result<Batch> {
        let last = entries.len().saturating_sub(1);
        for (at, entry) in entries.iter_mut().enumerate() {
            let mut flags = Flags::empty();
            flags.set(Flags::ASYNC, self.plan.asynchronous);
            flags.set(Flags::IO_LINK, self.plan.linked && at != last);
            *entry = entry.clone().flags(flags);
        }
        if self.plan.threads > 1 { self.run_in_threads(&entries) } else { self.run_here(&entries) }
    }

    /// Submits one request as it is and waits for all of its completions but that of [`NOTIFIES`].
    pub(super) fn run_one(&mut self, entry: Entry) -> nix::Result<Batch> {
        self.run_here(&[entry])
    }

    fn run_here(&mut self, entries: &[Entry]) -> nix::Result<Batch> {
        let start = Instant::now();
        // A polling thread may still have to say that it has taken the last ones.
        // SAFETY: what the requests point to belongs to the stage, which waits for them here.
        while unsafe { self.ring.submission().push_multiple(entries) }.is_err() {
            if start.elapsed() > PATIENCE {
                return Err(Errno::EBUSY);
            }
            std::thread::yield_now();
        }
        let mut batch = Batch::default();
        let mut expected = entries.len();
        while expected > 0 {
            match self.ring.submit_and_wait(1) {
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
                Err(error) => return Err(errno(&error)),
            }
            for completion in self.ring.completion() {
                if cqueue::notif(completion.flags()) {
                    continue;
                }
                batch.add(completion.result());
                if completion.user_data() == NOTIFIES || !cqueue::more(completion.flags()) {
                    expected -= 1;
                }
            }
        }
        Ok(batch)
    }

    /// The same from several threads at once. Each stays until all are done: requests of a thread that exits are
    /// cancelled.
    fn run_in_threads(&mut self, entries: &[Entry]) -> nix::Result<Batch> {
        let batch = Mutex::new(Batch::default());
        let lock = Mutex::new(());
        let expected = AtomicUsize::new(entries.len());
        let (ring, batch_of, lock_of, expected_of) = (&self.ring, &batch, &lock, &expected);
        let start = Instant::now();
        let each = entries.len().div_ceil(self.plan.threads).max(1);
        std::thread::scope(|scope| {
            let work = |entries| {
                move || {
                    submit_shared(ring, lock_of, entries);
                    while expected_of.load(Ordering::Acquire) > 0 && start.elapsed() < PATIENCE {
                        reap_shared(ring, lock_of, batch_of, expected_of);
                        std::thread::yield_now();
                    }
                }
            };
            let threads: Vec<_> = entries.chunks(each).map(|entries| scope.spawn(work(entries))).collect();
            // The scope's end waits for what the threads do, not for them to be gone: one that still dismisses its
            // workers would keep the process from stopping at the next gate.
            threads.into_iter().for_each(|thread| drop(thread.join()));
        });
        if expected.load(Ordering::Acquire) > 0 {
            return Err(Errno::ETIMEDOUT);
        }
        batch.into_inner().map_err(|_| Errno::EIO)
    }
}

fn submit_shared(ring: &IoUring, lock: &Mutex<()>, entries: &[Entry]) {
    let Ok(_guard) = lock.lock() else { return };
    // SAFETY: the lock keeps every other thread from the queue; what the requests point to outlives the threads.
    let pushed = unsafe { ring.submission_shared().push_multiple(entries) };
    // What is not pushed or submitted is missed in the end.
    if pushed.is_ok() {
        let _ = ring.submit();
    }
}

fn reap_shared(ring: &IoUring, lock: &Mutex<()>, batch: &Mutex<Batch>, expected: &AtomicUsize) {
    /// IORING_ENTER_GETEVENTS (include/uapi/linux/io_uring.h, v6.1): run what waits for this thread.
    const GETEVENTS: u32 = 1;
    // SAFETY: no argument is given.
    let _ = unsafe { ring.submitter().enter::<libc::sigset_t>(0, 0, GETEVENTS, None) };
    let (Ok(_guard), Ok(mut batch)) = (lock.lock(), batch.lock()) else { return };
    // SAFETY: the lock keeps every other thread from the queue.
    for completion in unsafe { ring.completion_shared() } {
        batch.add(completion.result());
        expected.fetch_sub(1, Ordering::AcqRel);
    }
}

fn errno(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// Why rings can't be had here.
pub(super) fn unavailable() -> Option<String> {
    IoUring::new(4).err().map(|error| format!("no io_uring: {error} (see /proc/sys/kernel/io_uring_disabled)"))
}

/// A descriptor for requests.
pub(super) fn fd(fd: std::os::fd::BorrowedFd<'_>) -> types::Fd {
    use std::os::fd::AsRawFd as _;
    types::Fd(fd.as_raw_fd())
}
