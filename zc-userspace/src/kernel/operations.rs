//! Operations one by one, of the processes that are listened to.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use aya::Ebpf;
use aya::maps::{Array, HashMap, Map, MapData, RingBuf};
use zc_common::record::{ListenedTo, OperationEvent};

use super::load;
use super::tracer::LoadError;

#[derive(Clone, Copy)]
#[repr(transparent)]
struct PlainListenedTo(ListenedTo);
// SAFETY: plain integers without padding.
unsafe impl aya::Pod for PlainListenedTo {}

/// The reading end of the ring of operations, and who is told of in it. At first nobody is.
pub struct Operations {
    map: OwnedFd,
    /// Mapped only while anybody is listened to: its pages, mapped twice, count as ours.
    ring: Option<RingBuf<MapData>>,
    listened_to: HashMap<MapData, u32, PlainListenedTo>,
    streams: Array<MapData, u64>,
    count: u64,
}

impl Operations {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, LoadError> {
        let Some(Map::RingBuf(ring)) = ebpf.take_map("OPERATIONS") else {
            return Err(LoadError::Load("the eBPF object lacks the ring OPERATIONS".to_owned()));
        };
        let map = ring.fd().as_fd().try_clone_to_owned().map_err(|error| LoadError::Load(error.to_string()))?;
        let listened_to = load::take(ebpf, "LISTENED_TO")?;
        Ok(Self { map, ring: None, listened_to, streams: load::take(ebpf, "STREAMS")?, count: 0 })
    }

    /// Has the operations of a process told from now on. `start` is when it started, in ns since boot.
    ///
    /// # Errors
    /// If as many as there can be are listened to already.
    pub fn listen(&mut self, tgid: u32, start: u64) -> io::Result<()> {
        if self.ring.is_none() {
            let map = MapData::from_fd(self.map.try_clone()?).map_err(io::Error::other)?;
            self.ring = Some(RingBuf::try_from(Map::RingBuf(map)).map_err(io::Error::other)?);
        }
        let listened = PlainListenedTo(ListenedTo { process_start: start, ..ListenedTo::default() });
        self.listened_to.insert(tgid, listened, 0).map_err(io::Error::other)?;
        self.count += 1;
        self.streams.set(0, self.count, 0).map_err(io::Error::other)
    }

    /// No longer. What is still in the ring comes yet.
    ///
    /// # Errors
    /// If it was not listened to.
    pub fn stop(&mut self, tgid: u32) -> io::Result<()> {
        self.listened_to.remove(&tgid).map_err(io::Error::other)?;
        self.count -= 1;
        self.streams.set(0, self.count, 0).map_err(io::Error::other)?;
        if self.count == 0 {
            self.ring = None;
        }
        Ok(())
    }

    /// Operations of a process that found the ring full since it was listened to.
    #[must_use]
    pub fn lost(&self, tgid: u32) -> u64 {
        self.listened_to.get(&tgid, 0).map_or(0, |listened| listened.0.lost_operations)
    }

    /// Takes the operations that wait, at most so many.
    pub fn drain(&mut self, most: usize, mut each: impl FnMut(OperationEvent)) {
        let Some(ring) = &mut self.ring else { return };
        for _ in 0..most {
            let Some(item) = ring.next() else { return };
            if item.len() >= size_of::<OperationEvent>() {
                // SAFETY: long enough, and every bit pattern is a valid event.
                each(unsafe { item.as_ptr().cast::<OperationEvent>().read_unaligned() });
            }
        }
    }
}

impl AsFd for Operations {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }
}
