//! Lifecycle events from the ring buffer.

use aya::maps::{MapData, RingBuf};
use zc_common::record::{EVENT_EXEC, EVENT_EXIT, EVENT_FORK, Identity, LifecycleEvent};

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LifecycleKind {
    /// The process was forked.
    Fork,
    /// It executed this file, named as the caller named it.
    Exec(String),
    /// Its last thread exited.
    Exit,
}

/// One event of a process's life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lifecycle {
    /// The process, after the event.
    pub identity: Identity,
    /// What happened.
    pub kind: LifecycleKind,
}

/// The reading end of the ring.
pub(super) struct Events {
    ring: RingBuf<MapData>,
}

impl Events {
    pub(super) fn new(ring: RingBuf<MapData>) -> Self {
        Self { ring }
    }

    /// Takes all events that wait.
    pub(super) fn drain(&mut self) -> Vec<Lifecycle> {
        let mut all = Vec::new();
        while let Some(item) = self.ring.next() {
            all.extend(decode(&item));
        }
        all
    }
}

fn decode(bytes: &[u8]) -> Option<Lifecycle> {
    let (head, filename) = bytes.split_at_checked(size_of::<LifecycleEvent>())?;
    // SAFETY: long enough, and every bit pattern is a valid event.
    let event = unsafe { head.as_ptr().cast::<LifecycleEvent>().read_unaligned() };
    let kind = match event.kind {
        EVENT_FORK => LifecycleKind::Fork,
        EVENT_EXEC => {
            let length = (event.filename_len as usize).min(filename.len());
            LifecycleKind::Exec(String::from_utf8_lossy(&filename[..length]).into_owned())
        }
        EVENT_EXIT => LifecycleKind::Exit,
        _ => return None,
    };
    Some(Lifecycle { identity: event.identity, kind })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: u32, filename: &[u8]) -> Vec<u8> {
        let mut event = LifecycleEvent { kind, filename_len: filename.len() as u32, ..LifecycleEvent::default() };
        event.identity.tgid = 7;
        // SAFETY: a plain structure seen as bytes.
        let head = unsafe { std::slice::from_raw_parts((&raw const event).cast::<u8>(), size_of::<LifecycleEvent>()) };
        [head, filename].concat()
    }

    #[test]
    fn decodes_each_kind() {
        assert_eq!(decode(&event(EVENT_FORK, b"")).unwrap().kind, LifecycleKind::Fork);
        assert_eq!(decode(&event(EVENT_EXIT, b"")).unwrap().kind, LifecycleKind::Exit);
        let exec = decode(&event(EVENT_EXEC, b"/bin/cat")).unwrap();
        assert_eq!(exec.kind, LifecycleKind::Exec("/bin/cat".to_owned()));
        assert_eq!(exec.identity.tgid, 7);
    }

    #[test]
    fn drops_what_it_does_not_know() {
        assert_eq!(decode(&event(99, b"")), None);
        assert_eq!(decode(&[0; 8]), None);
    }
}
