//! The translator's options. Lenient: what can't be read is reported and the default is used, because a brick must
//! start whatever `gluster volume set` was given (glusterd stores the values of user translators unchecked).

use serde::Serialize;

use crate::volume::VolumeType;

/// The hard limit of `max-snapshots`: a list of as many fits into an xattr of 64 KiB.
pub const MAX_SNAPSHOTS: u16 = 256;

/// Options in force.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Options {
    /// Off: commands are refused, everything else goes on.
    pub enabled: bool,
    /// Snapshots that one file may have, 1 to [`MAX_SNAPSHOTS`].
    pub max_snapshots: u16,
    /// Percent of the brick that must be free for a new snapshot, 0 to 99.
    pub min_free: u8,
    /// Whether `.fsnap` can be looked into.
    pub browse: bool,
    /// What becomes of the snapshots of a file whose last name goes.
    pub on_unlink: OnUnlink,
    /// For how long the snapshots of a deleted file are kept that are not held, in seconds. 0: until somebody deletes them.
    pub keep_deleted: u64,
    /// How `restore` as a bare setxattr is treated.
    pub direct_restore: DirectRestore,
    /// The type of the volume, where no glusterd tells it (hand-written volfiles).
    #[serde(skip)]
    pub volume_type: Option<VolumeType>,
}

/// What becomes of the snapshots of a file whose last name goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnUnlink {
    /// They stay, and the file can be brought back.
    Keep,
    /// They go with it.
    Purge,
    /// The file does not go.
    Refuse,
}

/// When the brick restores at the word of a bare setxattr.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DirectRestore {
    /// Where it is safe: on pure distribute volumes.
    Auto,
    /// Never.
    Off,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            enabled: true,
            max_snapshots: MAX_SNAPSHOTS,
            min_free: 5,
            browse: true,
            on_unlink: OnUnlink::Keep,
            keep_deleted: 0,
            direct_restore: DirectRestore::Auto,
            volume_type: None,
        }
    }
}

/// The names of all options, as in `gluster volume set VOL user.xlator.fsnap.NAME VALUE`.
pub const NAMES: [&str; 8] = [
    "enabled",
    "max-snapshots",
    "min-free",
    "browse",
    "on-unlink",
    "keep-deleted",
    "direct-restore",
    "volume-type",
];

impl Options {
    /// Reads the options that `get` finds by name. What can't be read is left at its default and returned as a text
    /// for the log.
    pub fn read(get: impl Fn(&str) -> Option<Vec<u8>>) -> (Self, Vec<String>) {
        let mut options = Options::default();
        let mut complaints = Vec::new();
        for name in NAMES {
            let Some(value) = get(name) else { continue };
            let text =
                String::from_utf8_lossy(value.strip_suffix(b"\0").unwrap_or(&value)).trim().to_string();
            if let Err(wanted) = options.set(name, &text) {
                let shown: String = text.chars().take(80).collect();
                complaints.push(format!("option {name}: {shown:?} is not {wanted}; its default is used"));
            }
        }
        (options, complaints)
    }

    fn set(&mut self, name: &str, text: &str) -> Result<(), &'static str> {
        match name {
            "enabled" => self.enabled = switch(text)?,
            "max-snapshots" => {
                self.max_snapshots = number(text, 1..=MAX_SNAPSHOTS).ok_or("a number from 1 to 256")?
            }
            "min-free" => {
                let percent = number(text.strip_suffix('%').unwrap_or(text).trim_end(), 0..=99);
                self.min_free =
                    percent.and_then(|p| u8::try_from(p).ok()).ok_or("a percentage from 0 to 99")?;
            }
            "browse" => self.browse = switch(text)?,
            "on-unlink" => {
                self.on_unlink = match text {
                    "keep" => OnUnlink::Keep,
                    "purge" => OnUnlink::Purge,
                    "refuse" => OnUnlink::Refuse,
                    _ => return Err("keep, purge or refuse"),
                }
            }
            "keep-deleted" => {
                self.keep_deleted = seconds(text).ok_or("a time (30d, 12h, 90m, 45s, 2w), or 0 for ever")?;
            }
            "direct-restore" => {
                self.direct_restore = match text {
                    "auto" => DirectRestore::Auto,
                    "off" => DirectRestore::Off,
                    // A value that was meant to forbid something must not allow it.
                    _ => {
                        self.direct_restore = DirectRestore::Off;
                        return Err("auto or off (until then it is off)");
                    }
                }
            }
            "volume-type" => self.volume_type = Some(VolumeType::parse(text).ok_or("the type of a volume")?),
            _ => {}
        }
        Ok(())
    }
}

fn switch(text: &str) -> Result<bool, &'static str> {
    match text.to_ascii_lowercase().as_str() {
        "on" | "yes" | "true" | "enable" | "1" => Ok(true),
        "off" | "no" | "false" | "disable" | "0" => Ok(false),
        _ => Err("on or off"),
    }
}

/// A number and its unit: s (or none), m, h, d or w.
fn seconds(text: &str) -> Option<u64> {
    let (number, unit) = match text.strip_suffix(['s', 'm', 'h', 'd', 'w']) {
        Some(number) => (number, text.as_bytes()[text.len() - 1]),
        None => (text, b's'),
    };
    let unit = match unit {
        b'w' => 7 * 86_400,
        b'd' => 86_400,
        b'h' => 3600,
        b'm' => 60,
        _ => 1,
    };
    let number: u64 = number.parse().ok().filter(|_| number.bytes().all(|b| b.is_ascii_digit()))?;
    number.checked_mul(unit)
}

fn number(text: &str, range: std::ops::RangeInclusive<u16>) -> Option<u16> {
    text.parse().ok().filter(|n| range.contains(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> (Options, usize) {
        let get = |name: &str| pairs.iter().find(|p| p.0 == name).map(|p| p.1.as_bytes().to_vec());
        let (options, complaints) = Options::read(get);
        (options, complaints.len())
    }

    #[test]
    fn good_values() {
        assert_eq!(read(&[]), (Options::default(), 0));
        let (o, bad) = read(&[
            ("enabled", "off\0"),
            ("max-snapshots", "3"),
            ("min-free", "10%"),
            ("browse", "No"),
            ("on-unlink", "purge"),
            ("keep-deleted", "30d"),
            ("direct-restore", "off"),
            ("volume-type", "replicate"),
            ("something-else", "x"),
        ]);
        assert_eq!(bad, 0);
        assert_eq!((o.enabled, o.max_snapshots, o.min_free, o.browse), (false, 3, 10, false));
        assert_eq!((o.on_unlink, o.keep_deleted), (OnUnlink::Purge, 30 * 86_400));
        for (text, seconds) in
            [("0", 0), ("90", 90), ("45s", 45), ("2m", 120), ("12h", 43_200), ("1w", 604_800)]
        {
            assert_eq!(read(&[("keep-deleted", text)]).0.keep_deleted, seconds, "{text}");
        }
        assert_eq!((o.direct_restore, o.volume_type), (DirectRestore::Off, Some(VolumeType::Replicate)));
    }

    #[test]
    fn nonsense_leaves_the_default() {
        for (name, value) in [
            ("enabled", "maybe"),
            ("enabled", ""),
            ("max-snapshots", "0"),
            ("max-snapshots", "257"),
            ("max-snapshots", "-1"),
            ("min-free", "100"),
            ("min-free", "five"),
            ("browse", "2"),
            ("on-unlink", "Keep"),
            ("keep-deleted", "d"),
            ("keep-deleted", "-1d"),
            ("keep-deleted", "+1"),
            ("keep-deleted", "1y"),
            ("keep-deleted", "99999999999999999999"),
            ("keep-deleted", "9999999999999999999w"),
            ("volume-type", "x"),
        ] {
            assert_eq!(read(&[(name, value)]), (Options::default(), 1), "{name}={value}");
        }
        assert_eq!(read(&[("direct-restore", "of")]).0.direct_restore, DirectRestore::Off);
    }
}
