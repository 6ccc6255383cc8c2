//! What people read: times, sizes, tables, words for a shell.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use fsnap_core::Timestamp;
use jiff::Timestamp as Moment;

/// What stands for something that is not known.
pub const UNKNOWN: &str = "-";

/// Now, as `create` takes it.
pub fn timestamp(now: Moment) -> Result<Timestamp, fsnap_core::Error> {
    const SECOND: i128 = 1_000_000_000;
    let (seconds, nanos) = (now.as_nanosecond().div_euclid(SECOND), now.as_nanosecond().rem_euclid(SECOND));
    Timestamp::new(i64::try_from(seconds).unwrap_or(i64::MAX), u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// The name of a snapshot that is taken at this moment: `YYYYMMDDTHHMMSSZ`.
pub fn name_of(now: Moment) -> String {
    now.strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// `SECONDS.NANOS` as `YYYY-MM-DD HH:MM:SSZ`.
pub fn time(timestamp: Option<&str>) -> String {
    let seconds = timestamp.and_then(|text| Some(Timestamp::parse(text).ok()?.seconds()));
    match seconds.and_then(|seconds| Moment::from_second(seconds).ok()) {
        Some(moment) => moment.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
        None => UNKNOWN.into(),
    }
}

/// Bytes, rounded down to three digits or so.
pub fn size(bytes: Option<u64>) -> String {
    let Some(bytes) = bytes else { return UNKNOWN.into() };
    let mut unit = 0;
    while unit < 6 && bytes >> (10 * (unit + 1)) > 0 {
        unit += 1;
    }
    if unit == 0 {
        return format!("{bytes} B");
    }
    let tenths = (u128::from(bytes) * 10) >> (10 * unit);
    format!("{}.{} {}iB", tenths / 10, tenths % 10, ["", "K", "M", "G", "T", "P", "E"][unit])
}

/// Rows below each other, columns two blanks apart.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

/// A path as a word of a shell.
pub fn quoted(path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"/._+-@%=:,".contains(b);
    match path.to_str() {
        Some(text) if !bytes.is_empty() && bytes.iter().all(plain) => text.into(),
        Some(text) if !text.chars().any(char::is_control) => format!("'{}'", text.replace('\'', r"'\''")),
        // For bash and its like only.
        _ => format!("$'{}'", bytes.escape_ascii()),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn times() {
        let moment = Moment::new(1_700_000_000, 42).unwrap();
        assert_eq!(name_of(moment), "20231114T221320Z");
        assert_eq!(timestamp(moment).unwrap().to_string(), "1700000000.000000042");
        for (at, text) in [(-1_000_000_000, "-1.000000000"), (-1, "-0.000000001"), (0, "0.000000000")] {
            assert_eq!(timestamp(Moment::from_nanosecond(at).unwrap()).unwrap().to_string(), text);
        }
        assert_eq!(time(Some("-0.000000001")), "1969-12-31 23:59:59Z");
        assert_eq!(time(Some("-86400.000000000")), "1969-12-31 00:00:00Z");
        assert_eq!(time(Some("1700000000.000000042")), "2023-11-14 22:13:20Z");
        assert_eq!(time(Some("253402207200.999999999")), "9999-12-30 22:00:00Z");
        for no in [None, Some(""), Some("x.y"), Some("99999999999999.000000000")] {
            assert_eq!(time(no), "-");
        }
    }

    #[test]
    fn sizes() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1535, "1.4 KiB"),
            ((1 << 20) - 1, "1023.9 KiB"),
            (1 << 30, "1.0 GiB"),
            (5 << 49, "2.5 PiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            assert_eq!(size(Some(bytes)), text);
        }
        assert_eq!(size(None), "-");
    }

    #[test]
    fn tables() {
        let row = |cells: &[&str]| cells.iter().map(|cell| cell.to_string()).collect::<Vec<_>>();
        assert_eq!(
            table(&[row(&["FILE", "N"]), row(&["a", "bcd"]), row(&["äöü", ""])]),
            "FILE  N\na     bcd\näöü\n"
        );
        assert_eq!(table(&[]), "");
    }

    #[test]
    fn words_for_a_shell() {
        for (path, word) in [
            (&b"/m/f@a"[..], "/m/f@a"),
            (b"a b", "'a b'"),
            (b"it's", r"'it'\''s'"),
            ("ä".as_bytes(), "'ä'"),
            (b"a\n\xff'", r"$'a\n\xff\''"),
            (b"", "''"),
        ] {
            assert_eq!(quoted(Path::new(OsStr::from_bytes(path))), word);
        }
    }
}
