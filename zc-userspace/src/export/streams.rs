//! Who listens to which process: hands out the operations that the kernel tells one by one.
//!
//! One thread takes them off the ring, every few milliseconds or when much waits, and only while somebody listens. A
//! listener that is too slow misses some, which is counted, and holds nobody up.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::mpsc;
use zc_common::record::OperationEvent;

use crate::kernel::Operations;
use crate::ledger::ProcessKey;

/// How long operations wait in the ring, in milliseconds.
const PAUSE: u8 = 5;
/// Operations that are taken at once, so that others get at the state in between.
const AT_ONCE: usize = 1 << 16;
/// Batches that may wait for a listener: about a third of a second.
const BATCHES: usize = 64;
/// Listeners at once, to whichever processes.
const MAX_LISTENERS: usize = 32;
/// How often it is looked whether processes still run.
const LOOK: Duration = Duration::from_millis(500);

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
    is_closed: bool,
}

/// A process that is listened to.
struct Stream {
    key: ProcessKey,
    listeners: Vec<Listener>,
}

struct Listener {
    number: u64,
    batches: mpsc::Sender<Arc<[OperationEvent]>>,
    lost: Arc<Lost>,
}

/// What a listener has missed.
#[derive(Debug, Default)]
struct Lost {
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
    batches: mpsc::Receiver<Arc<[OperationEvent]>>,
    lost: Arc<Lost>,
}

impl Subscription {
    /// The next operations; none when the process has ended, or the daemon stops.
    pub async fn next(&mut self) -> Option<Arc<[OperationEvent]>> {
        self.batches.recv().await
    }

    /// Operations that are missing so far: for lack of room in the ring, and because the client was too slow.
    #[must_use]
    pub fn lost(&self) -> (u64, u64) {
        let Lost { before, ring, slow } = &*self.lost;
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
        let state = State { operations, streams: HashMap::new(), last: 0, is_closed: false };
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
        let (number, lost, batches) = state.join(key)?;
        self.changed.notify_one();
        Ok(Subscription { streams: Arc::clone(self), key, number, batches, lost })
    }

    /// Ends all that listens, now and later, and [`Self::run`].
    pub fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        for stream in state.streams.values_mut() {
            stream.listeners.clear();
        }
        self.changed.notify_one();
    }

    /// Hands operations out until [`Self::close`]. `is_gone` tells whether a process has ended.
    pub fn run(&self, is_gone: impl Fn(ProcessKey) -> bool) {
        let mut looked = Instant::now();
        loop {
            let listened = |state: &mut State| state.streams.is_empty() && !state.is_closed;
            let state = self.changed.wait_while(self.lock(), listened).unwrap_or_else(PoisonError::into_inner);
            if state.is_closed {
                return;
            }
            let ring = state.operations.as_fd().try_clone_to_owned();
            drop(state);
            if let Ok(ring) = &ring {
                // Woken early if much waits.
                let _ = poll(&mut [PollFd::new(ring.as_fd(), PollFlags::POLLIN)], PollTimeout::from(PAUSE));
            }
            let look = looked.elapsed() >= LOOK;
            let keys: Vec<_> = self.lock().streams.values().map(|stream| stream.key).collect();
            // Who has ended by now has told everything.
            let gone: Vec<_> = keys.into_iter().filter(|key| look && is_gone(*key)).collect();
            if look {
                looked = Instant::now();
            }
            let mut state = self.lock();
            let mut taken = state.hand_out();
            if !gone.is_empty() {
                while taken == AT_ONCE {
                    taken = state.hand_out();
                }
            }
            gone.into_iter().for_each(|key| state.end(key));
        }
    }
}

type Joined = (u64, Arc<Lost>, mpsc::Receiver<Arc<[OperationEvent]>>);

impl State {
    fn join(&mut self, key: ProcessKey) -> Result<Joined, ListenError> {
        if self.is_closed {
            return Err(ListenError::Closed);
        }
        if self.streams.values().map(|stream| stream.listeners.len()).sum::<usize>() >= MAX_LISTENERS {
            return Err(ListenError::TooMany);
        }
        // One that had the pid before has ended, though nobody has looked since.
        if let Some(other) = self.streams.get(&key.tgid).map(|stream| stream.key).filter(|other| *other != key) {
            self.end(other);
        }
        if !self.streams.contains_key(&key.tgid) {
            self.operations.listen(key.tgid, key.start)?;
            self.streams.insert(key.tgid, Stream { key, listeners: Vec::new() });
        }
        // What is in the ring was done before.
        self.hand_out();
        self.last += 1;
        let before = self.operations.lost(key.tgid);
        let lost = Arc::new(Lost { before, ring: AtomicU64::new(before), slow: AtomicU64::new(0) });
        let (sender, batches) = mpsc::channel(BATCHES);
        if let Some(stream) = self.streams.get_mut(&key.tgid) {
            let listener = Listener { number: self.last, batches: sender, lost: Arc::clone(&lost) };
            stream.listeners.push(listener);
        }
        Ok((self.last, lost, batches))
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
            let batch = by_process.iter_mut().find(|(of, _)| of == tgid);
            let batch = batch.map(|(_, events)| Arc::from(std::mem::take(events)));
            for listener in &stream.listeners {
                listener.hear(batch.as_ref(), ring);
            }
        }
        taken
    }

    fn leave(&mut self, key: ProcessKey, number: u64) {
        let Some(stream) = self.streams.get_mut(&key.tgid).filter(|stream| stream.key == key) else { return };
        stream.listeners.retain(|listener| listener.number != number);
        if stream.listeners.is_empty() {
            self.end(key);
        }
    }

    /// Nobody listens to a process any more: its listeners get what waits for them, and then their end.
    fn end(&mut self, key: ProcessKey) {
        if self.streams.get(&key.tgid).is_some_and(|stream| stream.key == key) {
            self.streams.remove(&key.tgid);
            // It is there as long as the stream is.
            let _ = self.operations.stop(key.tgid);
        }
    }
}

impl Listener {
    fn hear(&self, batch: Option<&Arc<[OperationEvent]>>, lost_by_ring: u64) {
        self.lost.ring.store(lost_by_ring, Ordering::Release);
        if let Some(batch) = batch
            && self.batches.try_send(Arc::clone(batch)).is_err()
        {
            let operations: u64 = batch.iter().map(|event| u64::from(event.operations)).sum();
            self.lost.slow.fetch_add(operations, Ordering::AcqRel);
        }
    }
}
