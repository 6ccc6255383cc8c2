//! Moments, as fsnap writes them: `SECONDS.NANOS` since the epoch, a decimal number, with a sign before it.

use std::fmt;

use crate::{Error, Result};

const NANOS: u32 = 1_000_000_000;

/// Seconds and nanoseconds since 1970-01-01T00:00:00Z, or before.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Timestamp {
    /// As of a `timespec`: not after the moment.
    seconds: i64,
    nanos: u32,
}

impl Timestamp {
    /// The last second that is accepted (year 9999): keeps the text at 12 digits and within every `time_t`.
    const MAX_SECONDS: i64 = 253_402_300_799;
    /// The first (year 1).
    const MIN_SECONDS: i64 = -62_135_596_800;

    /// Of a `timespec`: `nanos` are added to `seconds`, which may be negative. [`Error::BadValue`] (`EINVAL`) if `nanos` is a second or
    /// more, or the moment is not in the years 1 to 9999.
    pub fn new(seconds: i64, nanos: u64) -> Result<Self> {
        match u32::try_from(nanos) {
            Ok(nanos) if nanos < NANOS && (Self::MIN_SECONDS..=Self::MAX_SECONDS).contains(&seconds) => {
                Ok(Timestamp { seconds, nanos })
            }
            _ => Err(Error::bad("not a moment in the years 1 to 9999")),
        }
    }

    /// The seconds, rounded down.
    pub fn seconds(&self) -> i64 {
        self.seconds
    }

    /// Reads `SECONDS.NANOS`: a sign if it is before the epoch, 1 to 12 digits, a dot, 9 digits. [`Error::BadValue`] (`EINVAL`)
    /// otherwise.
    pub fn parse(text: &str) -> Result<Self> {
        const BAD: Error = Error::bad("a time is SECONDS.NANOS with 9 digits behind the dot");
        let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        let (before, plain) = text.strip_prefix('-').map_or((false, text), |plain| (true, plain));
        let (seconds, nanos) = plain.split_once('.').ok_or(BAD)?;
        if !(1..=12).contains(&seconds.len()) || nanos.len() != 9 || !digits(seconds) || !digits(nanos) {
            return Err(BAD);
        }
        let (seconds, nanos): (i64, u32) =
            (seconds.parse().map_err(|_| BAD)?, nanos.parse().map_err(|_| BAD)?);
        match (before, nanos) {
            (false, _) => Self::new(seconds, nanos.into()),
            // Zero has no sign.
            (true, 0) if seconds == 0 => Err(BAD),
            (true, 0) => Self::new(-seconds, 0),
            (true, _) => Self::new(-seconds - 1, (NANOS - nanos).into()),
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.seconds, self.nanos) {
            (seconds @ ..0, nanos @ 1..) => write!(f, "-{}.{:09}", -(seconds + 1), NANOS - nanos),
            (seconds, nanos) => write!(f, "{seconds}.{nanos:09}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text() {
        for text in
            ["1700000000.000000042", "0.000000000", "-1.000000000", "-0.500000000", "-62135596800.000000000"]
        {
            assert_eq!(Timestamp::parse(text).unwrap().to_string(), text);
        }
        for bad in [
            "",
            "1",
            "1.",
            ".000000000",
            "1.0",
            "+1.000000000",
            "1.00000000x",
            "--1.000000000",
            "-0.000000000",
            "- 1.000000000",
        ] {
            assert!(Timestamp::parse(bad).is_err(), "{bad}");
        }
        assert!(Timestamp::parse("253402300800.000000000").is_err());
        assert!(Timestamp::parse("-62135596800.000000001").is_err());
    }

    #[test]
    fn in_order() {
        let at = |text: &str| Timestamp::parse(text).unwrap();
        assert_eq!(at("-0.250000000"), Timestamp::new(-1, 750_000_000).unwrap());
        let all = ["-2.000000000", "-1.999999999", "-0.000000001", "0.000000000", "0.000000001"].map(at);
        assert!(all.is_sorted() && all[1].seconds() == -2 && all[2].seconds() == -1);
    }
}
