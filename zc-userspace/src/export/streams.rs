//! Who listens to which process: hands out the operations that the kernel tells one by one.
//!
//! One thread takes them off the ring, every five milliseconds or when much waits, and only while somebody listens. A
//! listener that is too slow misses some, which is counted, and holds nobody up.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use tokio::sync::mpsc;
use zc_common::record::OperationEvent;

use crate::kernel::Operations;
use crate::ledger::ProcessKey;

/// How long operations wait in the ring, unless much does, in milliseconds.
const PAUSE: u8 = 5;
/// Operations that are taken at once, so that others get at the state in between.
const AT_ONCE: usize = 1 << 16;
/// Operations that may wait for a listener, 1 MiB: a third of a second at 100,000 a second.
const WAITING: usize = 1 << 15;
/// Operations that are handed out, or missed, together.
const BATCH: usize = 1 << 12;
/// Rounds in which what is in the ring is taken to its end: more than it holds.
const ROUNDS: usize = 8;
/// Listeners at once, to whichever processes.
const MAX_LISTENERS: usize = 32;
/// How often it is looked whether processes still run.
const LOOK: Duration = Duration::from_millis(500);
/// A process that nobody knows any more has ended, unless it was not known yet.
const KNOWN: Duration = Duration::from_secs(3);

/// The listeners.
pub struct Streams {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    operations: Operations,
    streams: HashMap<u32, Stream>,
    /// The last listener's number.
    last: u64,
    /// How many there are, those included whose processes have ended and that have not left yet.
    listeners: usize,
    is_closed: bool,
}

/// A process that is listened to.
struct Stream {
    key: ProcessKey,
    since: Instant,
    listeners: Vec<Listener>,
}

struct Listener {
    number: u64,
    batches: mpsc::UnboundedSender<Arc<[OperationEvent]>>,
    shared: Arc<Shared>,
}

/// What a listener has missed, and what waits for it.
#[derive(Debug, Default)]
struct Shared {
    /// Operations that wait.
    waiting: AtomicUsize,
    /// What the ring had lost of the process when the listener came.
    before: u64,
    /// What it has lost by now.
    ring: AtomicU64,
    /// Operations for which the listener was too slow.
    slow: AtomicU64,
}

/// Why nobody more can listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// There are enough.
    #[error("{MAX_LISTENERS} clients listen to operations already: try again when one has left")]
    TooMany,
    /// The daemon stops.
    #[error("the daemon stops")]
    Closed,
    /// The kernel refused.
    #[error("can't listen: {0}")]
    Kernel(#[from] io::Error),
}

/// One client's ear. Dropping it ends the listening.
pub struct Subscription {
    streams: Arc<Streams>,
    key: ProcessKey,
    number: u64,
    batches: mpsc::UnboundedReceiver<Arc<[OperationEvent]>>,
    /// What was handed out last, which waits no longer when the next is asked for.
    last: usize,
    shared: Arc<Shared>,
}

impl Subscription {
    /// The next operations; none when the process has ended, or the daemon stops.
    pub async fn next(&mut self) -> Option<Arc<[OperationEvent]>> {
        self.shared.waiting.fetch_sub(std::mem::take(&mut self.last), Ordering::AcqRel);
        let batch = self.batches.recv().await;
        self.last = batch.as_ref().map_or(0, |batch| batch.len());
        batch
    }

    /// Operations that are missing so far: for lack of room in the ring, and because the client was too slow.
    #[must_use]
    pub fn lost(&self) -> (u64, u64) {
        let Shared { before, ring, slow, .. } = &*self.shared;
        (ring.load(Ordering::Acquire).saturating_sub(*before), slow.load(Ordering::Acquire))
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.streams.lock().leave(self.key, self.number);
    }
}

impl Streams {
    /// Nobody listens yet.
    #[must_use]
    pub fn new(operations: Operations) -> Self {
        let state = State { operations, streams: HashMap::new(), last: 0, listeners: 0, is_closed: false };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Listens to a process from now on.
    ///
    /// # Errors
    /// If there are enough listeners, or the kernel refuses.
    pub fn listen(self: &Arc<Self>, key: ProcessKey) -> Result<Subscription, ListenError> {
        let mut state = self.lock();
        let (number, shared, batches) = state.join(key)?;
        self.changed.notify_one();
        Ok(Subscription { streams: Arc::clone(self), key, number, batches, last: 0, shared })
    }

    /// Ends all that listens, now and later, and [`Self::run`].
    pub fn close(&self) {
        let mut state = self.lock();
        state.hand_out_all();
        state.is_closed = true;
        for stream in state.streams.values_mut() {
            stream.listeners.clear();
        }
        self.changed.notify_one();
    }

    /// Hands operations out until [`Self::close`]. `is_gone` tells whether a process has ended, or is not known.
    ///
    /// # Errors
    /// If the kernel does not let us wait for the ring.
    pub fn run(&self, is_gone: impl Fn(ProcessKey) -> bool) -> io::Result<()> {
        // The edge: that something is in the ring wakes nobody, that the kernel half says so does.
        let waker = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        waker.add(&self.lock().operations, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, 0))?;
        let mut looked = Instant::now();
        loop {
            let nobody = |state: &mut State| state.streams.is_empty() && !state.is_closed;
            let state = self.changed.wait_while(self.lock(), nobody).unwrap_or_else(PoisonError::into_inner);
            if state.is_closed {
                return Ok(());
            }
            drop(state);
            // Woken early if much waits; by a signal it does no harm.
            let _ = waker.wait(&mut [EpollEvent::empty()], PAUSE);
            let mut gone = Vec::new();
            if looked.elapsed() >= LOOK {
                looked = Instant::now();
                gone = self.lock().streams.values().map(|stream| (stream.key, stream.since)).collect();
                // Who has ended by now has told everything.
                gone.retain(|(key, since)| since.elapsed() > KNOWN && is_gone(*key));
            }
            let mut state = self.lock();
            state.hand_out();
            for (key, _) in gone {
                state.end(key);
            }
        }
    }
}

type Joined = (u64, Arc<Shared>, mpsc::UnboundedReceiver<Arc<[OperationEvent]>>);

impl State {
    fn join(&mut self, key: ProcessKey) -> Result<Joined, ListenError> {
        if self.is_closed {
            return Err(ListenError::Closed);
        }
        if self.listeners >= MAX_LISTENERS {
            return Err(ListenError::TooMany);
        }
        // One that had the pid before has ended, though nobody has looked since.
        if let Some(other) = self.streams.get(&key.tgid).map(|stream| stream.key).filter(|other| *other != key) {
            self.end(other);
        }
        if !self.streams.contains_key(&key.tgid) {
            self.operations.listen(key.tgid, key.start)?;
            self.streams.insert(key.tgid, Stream { key, since: Instant::now(), listeners: Vec::new() });
        }
        // What is in the ring was done before.
        self.hand_out_all();
        self.last += 1;
        self.listeners += 1;
        let before = self.operations.lost(key.tgid);
        let shared = Arc::new(Shared { before, ring: AtomicU64::new(before), ..Shared::default() });
        let (sender, batches) = mpsc::unbounded_channel();
        if let Some(stream) = self.streams.get_mut(&key.tgid) {
            let listener = Listener { number: self.last, batches: sender, shared: Arc::clone(&shared) };
            stream.listeners.push(listener);
        }
        Ok((self.last, shared, batches))
    }

    /// Takes what waits off the ring, and gives it to those who listen; tells how much it was.
    fn hand_out(&mut self) -> usize {
        // Few are listened to, and one does much in a row.
        let mut by_process: Vec<(u32, Vec<OperationEvent>)> = Vec::new();
        let (mut taken, mut last) = (0, 0);
        self.operations.drain(AT_ONCE, |event| {
            taken += 1;
            if by_process.get(last).is_none_or(|(tgid, _)| *tgid != event.tgid) {
                last = by_process.iter().position(|(tgid, _)| *tgid == event.tgid).unwrap_or_else(|| {
                    by_process.push((event.tgid, Vec::new()));
                    by_process.len() - 1
                });
            }
            by_process[last].1.push(event);
        });
        for (tgid, stream) in &mut self.streams {
            let ring = self.operations.lost(*tgid);
            let events = by_process.iter().find(|(of, _)| of == tgid).map_or(&[][..], |(_, events)| events);
            for batch in events.chunks(BATCH).map(Arc::from) {
                stream.listeners.iter().for_each(|listener| listener.hear(&batch));
            }
            for listener in &stream.listeners {
                listener.shared.ring.store(ring, Ordering::Release);
            }
        }
        taken
    }

    /// The same until nothing waits.
    fn hand_out_all(&mut self) {
        for _ in 0..ROUNDS {
            if self.hand_out() < AT_ONCE {
                return;
            }
        }
    }

    fn leave(&mut self, key: ProcessKey, number: u64) {
        self.listeners -= 1;
        let Some(stream) = self.streams.get_mut(&key.tgid).filter(|stream| stream.key == key) else { return };
        stream.listeners.retain(|listener| listener.number != number);
        if stream.listeners.is_empty() {
            self.end(key);
        }
    }

    /// Nobody listens to a process any more: its listeners get what waits for them, and then their end.
    fn end(&mut self, key: ProcessKey) {
        if self.streams.get(&key.tgid).is_some_and(|stream| stream.key == key) {
            self.hand_out_all();
            self.streams.remove(&key.tgid);
            // It is there as long as the stream is.
            let _ = self.operations.stop(key.tgid);
        }
    }
}

impl Listener {
    fn hear(&self, batch: &Arc<[OperationEvent]>) {
        let Shared { waiting, slow, .. } = &*self.shared;
        if waiting.load(Ordering::Acquire) + batch.len() <= WAITING {
            waiting.fetch_add(batch.len(), Ordering::AcqRel);
            // One that has left needs nothing.
            let _ = self.batches.send(Arc::clone(batch));
        } else {
            let operations: u64 = batch.iter().map(|event| u64::from(event.operations)).sum();
            slow.fetch_add(operations, Ordering::AcqRel);
        }
    }
}
