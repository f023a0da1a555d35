//! With whom processes talk: the kernel's counters by peer, as text, process by process.

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv6Addr, SocketAddr};

use zc_common::peers::{PeerKey, PeerTraffic, TCP, UDP, UnixName};

use super::identity::ProcessKey;
use crate::kernel::PeersReading;

/// The other side of sockets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    /// tcp, udp or unix.
    pub protocol: &'static str,
    /// Where it is; None where that is not known, or it has no name.
    pub address: Option<String>,
}

/// What each process has sent to its peers and received from them since it was first seen.
#[derive(Debug, Clone, Default)]
pub struct Peers(HashMap<ProcessKey, BTreeMap<Peer, PeerTraffic>>);

impl Peers {
    /// From a reading.
    #[must_use]
    pub fn of(reading: &PeersReading) -> Self {
        let mut all = Self::default();
        for (key, traffic) in &reading.traffic {
            let peers = all.0.entry(process_of(key)).or_default();
            add(peers.entry(peer_of(key, &reading.names)).or_default(), traffic);
        }
        all
    }

    /// The peers of several processes together, those with most bytes first.
    #[must_use]
    pub fn sum(&self, processes: impl Iterator<Item = ProcessKey>) -> Vec<(Peer, PeerTraffic)> {
        let mut sum = BTreeMap::<Peer, PeerTraffic>::new();
        for (peer, traffic) in processes.filter_map(|key| self.0.get(&key)).flatten() {
            add(sum.entry(peer.clone()).or_default(), traffic);
        }
        let mut sum: Vec<_> = sum.into_iter().filter(|(_, traffic)| traffic.operations != 0).collect();
        sum.sort_by_key(|(_, traffic)| std::cmp::Reverse(traffic.sent + traffic.received));
        sum
    }

    /// What came since an earlier state. A peer that was forgotten meanwhile has only what came after that.
    #[must_use]
    pub fn since(mut self, before: &Self) -> Self {
        for (process, peers) in &mut self.0 {
            for (peer, traffic) in peers {
                let Some(then) = before.0.get(process).and_then(|then| then.get(peer)) else { continue };
                // All or nothing: counters that went back began anew.
                if then.operations <= traffic.operations {
                    traffic.sent = traffic.sent.saturating_sub(then.sent);
                    traffic.received = traffic.received.saturating_sub(then.received);
                    traffic.operations -= then.operations;
                }
            }
        }
        self
    }
}

/// The process of a key.
pub(super) fn process_of(key: &PeerKey) -> ProcessKey {
    ProcessKey { tgid: key.tgid, start: key.process_start }
}

fn add(sum: &mut PeerTraffic, more: &PeerTraffic) {
    sum.sent += more.sent;
    sum.received += more.received;
    sum.operations += more.operations;
}

fn peer_of(key: &PeerKey, names: &HashMap<[u64; 2], UnixName>) -> Peer {
    match key.protocol {
        TCP => Peer { protocol: "tcp", address: internet(key) },
        UDP => Peer { protocol: "udp", address: internet(key) },
        _ => Peer { protocol: "unix", address: names.get(&key.address).map(unix) },
    }
}

/// `127.0.0.1:80`, `[::1]:80`; IPv4 is IPv4 over sockets of IPv6, too.
fn internet(key: &PeerKey) -> Option<String> {
    if key.address == [0; 2] {
        return None;
    }
    let mut octets = [0; 16];
    // The kernel half is as little-endian as we are, and keeps the order of the network's bytes.
    octets[..8].copy_from_slice(&key.address[0].to_ne_bytes());
    octets[8..].copy_from_slice(&key.address[1].to_ne_bytes());
    Some(SocketAddr::new(Ipv6Addr::from(octets).to_canonical(), key.port).to_string())
}

/// A path, or an abstract name with an `@` in front. Bytes that are no UTF-8 are replaced.
fn unix(name: &UnixName) -> String {
    let bytes: Vec<u8> = name.text.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let length = usize::try_from(name.length).unwrap_or(usize::MAX).min(bytes.len());
    let bytes = &bytes[..length];
    match bytes.split_first() {
        Some((0, name)) => format!("@{}", String::from_utf8_lossy(name)),
        _ => String::from_utf8_lossy(bytes.split(|&byte| byte == 0).next().unwrap_or_default()).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use zc_common::peers::{NAME_WORDS, UNIX};

    use super::*;

    const ME: ProcessKey = ProcessKey { tgid: 7, start: 70 };

    fn key(protocol: u16, address: [u64; 2], port: u16) -> PeerKey {
        PeerKey { process_start: ME.start, address, tgid: ME.tgid, port, protocol }
    }

    fn at(address: &str, port: u16) -> PeerKey {
        let octets = match address.parse().unwrap() {
            IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
            IpAddr::V6(address) => address.octets(),
        };
        let word = |at: usize| u64::from_ne_bytes(octets[at..at + 8].try_into().unwrap());
        key(TCP, [word(0), word(8)], port)
    }

    fn named(bytes: &[u8]) -> UnixName {
        let mut text = [0; NAME_WORDS];
        for (word, part) in text.iter_mut().zip(bytes.chunks(8)) {
            let mut whole = [0; 8];
            whole[..part.len()].copy_from_slice(part);
            *word = u64::from_ne_bytes(whole);
        }
        UnixName { key: [1, 2], length: bytes.len() as u64, text }
    }

    fn traffic(sent: u64, received: u64) -> PeerTraffic {
        PeerTraffic { sent, received, operations: 1 }
    }

    #[test]
    fn addresses_are_written_as_usual_and_mapped_ones_as_what_they_are() {
        assert_eq!(internet(&at("127.0.0.1", 80)).unwrap(), "127.0.0.1:80");
        assert_eq!(internet(&at("::ffff:10.1.2.3", 65535)).unwrap(), "10.1.2.3:65535");
        assert_eq!(internet(&at("::1", 8080)).unwrap(), "[::1]:8080");
        assert_eq!(internet(&at("2001:db8::a", 1)).unwrap(), "[2001:db8::a]:1");
        assert_eq!(internet(&key(UDP, [0; 2], 0)), None);
    }

    #[test]
    fn unix_names_are_paths_or_abstract_and_whatever_is_in_them() {
        assert_eq!(unix(&named(b"/run/x.sock\0")), "/run/x.sock");
        assert_eq!(unix(&named(&[b'a'; 108])), "a".repeat(108));
        assert_eq!(unix(&named(b"\0abstract")), "@abstract");
        assert_eq!(unix(&named(b"\0a\0b")), "@a\0b");
        assert_eq!(unix(&named(b"/\xff\"\n\x1b[2J\0")), "/\u{fffd}\"\n\u{1b}[2J");
    }

    #[test]
    fn peers_are_summed_over_processes_and_sorted_by_bytes() {
        let other = PeerKey { tgid: 8, ..at("::1", 1) };
        let unix = key(UNIX, [1, 2], 0);
        let nameless = key(UNIX, [3, 4], 0);
        let reading = PeersReading {
            traffic: vec![
                (at("::1", 1), traffic(1, 2)),
                (other, traffic(10, 20)),
                (unix, traffic(0, 5)),
                (nameless, traffic(4, 0)),
                (key(UNIX, [0; 2], 0), traffic(2, 0)),
            ],
            names: HashMap::from([([1, 2], named(b"/s\0"))]),
        };
        let peers = Peers::of(&reading);
        let sum = |keys: &[ProcessKey]| {
            let all = peers.sum(keys.iter().copied()).into_iter();
            all.map(|(peer, it)| (peer.address.unwrap_or_default(), it.sent, it.received, it.operations))
                .collect::<Vec<_>>()
        };
        let mine = vec![(String::new(), 6, 0, 2), ("/s".to_owned(), 0, 5, 1), ("[::1]:1".to_owned(), 1, 2, 1)];
        assert_eq!(sum(&[ME]), mine);
        let both = sum(&[ME, ProcessKey { tgid: 8, start: 70 }]);
        assert_eq!(both[0], ("[::1]:1".to_owned(), 11, 22, 2));
        assert!(sum(&[ProcessKey { tgid: 9, start: 70 }]).is_empty());
    }

    #[test]
    fn a_window_has_what_came_within_it() {
        let of = |sent, operations| {
            let traffic = PeerTraffic { sent, received: 0, operations };
            Peers::of(&PeersReading { traffic: vec![(at("::1", 1), traffic)], names: HashMap::new() })
        };
        let window = |end: Peers, start: &Peers| end.since(start).sum([ME].into_iter());
        assert_eq!(window(of(10, 2), &of(4, 1))[0].1, PeerTraffic { sent: 6, received: 0, operations: 1 });
        assert_eq!(window(of(10, 2), &of(10, 2)), []);
        assert_eq!(window(of(3, 1), &of(10, 2))[0].1.sent, 3, "it had been forgotten");
    }
}
