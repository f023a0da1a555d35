//! Values as people write them.

use std::time::Duration;

use zc_common::path::{Endpoint, Mechanism};

/// `10s`, `1m 30s`; more than nothing.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| format!("{error}; write it as 500ms, 10s or 2m"))?;
    if duration.is_zero() { Err("must be more than nothing".to_owned()) } else { Ok(duration) }
}

/// `64MiB`, `64KiB`, `4096`; more than nothing.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let size: bytesize::ByteSize =
        text.parse().map_err(|error| format!("{error}; write it as 64MiB, 64KiB or plain bytes"))?;
    if size.as_u64() == 0 { Err("must be more than nothing".to_owned()) } else { Ok(size.as_u64()) }
}

/// A share from 0 to 1.
pub(super) fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("must be a number from 0 to 1, as 0.95".to_owned()),
    }
}

/// The name of a mechanism.
pub(super) fn mechanism(text: &str) -> Result<Mechanism, String> {
    Mechanism::parse(text).ok_or_else(|| one_of(Mechanism::ALL))
}

/// The name of a source or sink.
pub(super) fn endpoint(text: &str) -> Result<Endpoint, String> {
    Endpoint::parse(text).ok_or_else(|| one_of(Endpoint::ALL))
}

fn one_of(all: &[impl ToString]) -> String {
    let names: Vec<_> = all.iter().map(ToString::to_string).collect();
    format!("must be one of {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size("64MiB"), Ok(67_108_864));
        assert_eq!(size("64KiB"), Ok(65_536));
        assert_eq!(size("4097"), Ok(4097));
        for bad in ["", "0", "-1", "many", "64 MiX"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert!(duration("0s").is_err());
        assert!(duration("10").unwrap_err().contains("10s"));
    }

    #[test]
    fn shares() {
        assert_eq!(share("0.95"), Ok(0.95));
        assert_eq!(share("1"), Ok(1.0));
        for bad in ["1.01", "-0.1", "NaN", "95%"] {
            assert!(share(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn unknown_names_list_the_known_ones() {
        assert_eq!(mechanism("sendfile"), Ok(Mechanism::Sendfile));
        assert!(mechanism("sendfil").unwrap_err().contains("sendfile, splice"));
        assert_eq!(endpoint("tcp"), Ok(Endpoint::Tcp));
        assert!(endpoint("TCP").unwrap_err().contains("tcp, udp"));
    }
}
