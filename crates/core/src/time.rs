//! Moments, as fsnap writes them: `SECONDS.NANOS` since the epoch.

use std::fmt;

use crate::{Error, Result};

/// Seconds and nanoseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Timestamp {
    seconds: u64,
    nanos: u32,
}

impl Timestamp {
    /// The last second that is accepted (year 9999): keeps the text at 12 digits and within every `time_t`.
    const MAX_SECONDS: u64 = 253_402_300_799;

    /// [`Error::BadValue`] (`EINVAL`) if `nanos` is a second or more, or the moment lies after the year 9999.
    pub fn new(seconds: u64, nanos: u64) -> Result<Self> {
        match u32::try_from(nanos) {
            Ok(nanos) if nanos < 1_000_000_000 && seconds <= Self::MAX_SECONDS => {
                Ok(Timestamp { seconds, nanos })
            }
            _ => Err(Error::bad("not a moment between 1970 and 9999")),
        }
    }

    /// Reads `SECONDS.NANOS`: 1 to 12 digits, a dot, 9 digits. [`Error::BadValue`] (`EINVAL`) otherwise.
    pub fn parse(text: &str) -> Result<Self> {
        const BAD: Error = Error::bad("a time is SECONDS.NANOS with 9 digits behind the dot");
        let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        let (seconds, nanos) = text.split_once('.').ok_or(BAD)?;
        if !(1..=12).contains(&seconds.len()) || nanos.len() != 9 || !digits(seconds) || !digits(nanos) {
            return Err(BAD);
        }
        Self::new(seconds.parse().map_err(|_| BAD)?, nanos.parse().map_err(|_| BAD)?)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}", self.seconds, self.nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text() {
        assert_eq!(Timestamp::parse("1700000000.000000042").unwrap().to_string(), "1700000000.000000042");
        assert_eq!(Timestamp::parse("0.000000000").unwrap().to_string(), "0.000000000");
        for bad in ["", "1", "1.", ".000000000", "1.0", "+1.000000000", "1.00000000x", "-1.000000000"] {
            assert!(Timestamp::parse(bad).is_err(), "{bad}");
        }
        assert!(Timestamp::parse("253402300800.000000000").is_err());
    }
}
