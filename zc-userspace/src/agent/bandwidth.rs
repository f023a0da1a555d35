//! How fast this machine's processors copy memory: what copied bytes cost is modelled with it.

use std::hint::black_box;
use std::time::Instant;

/// Larger than what a core has for itself, as a file or a socket's data mostly are; small enough for a few
/// milliseconds.
const BYTES: usize = 4 << 20;
/// The fastest counts: whatever disturbs makes it slower.
const ROUNDS: usize = 4;

/// Bytes that one processor copies in a second. Takes about five milliseconds.
#[must_use]
pub(super) fn measure() -> u64 {
    // Written to, so that each page is memory of its own.
    let (from, mut to) = (vec![1_u8; BYTES], vec![2_u8; BYTES]);
    let round = || {
        let begun = Instant::now();
        black_box(&mut to[..]).copy_from_slice(black_box(&from));
        begun.elapsed()
    };
    let fastest = std::iter::repeat_with(round).take(ROUNDS).min().unwrap_or_default();
    // A clock that stands still measures nothing.
    let nanoseconds = u64::try_from(fastest.as_nanos()).unwrap_or(u64::MAX).max(1);
    BYTES as u64 * 1_000_000_000 / nanoseconds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_that_of_a_computer() {
        let gigabytes = measure() / 1_000_000_000;
        assert!(gigabytes < 1000, "{gigabytes} GB/s");
        assert!(measure() > 50_000_000);
    }
}
