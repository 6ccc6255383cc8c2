//! What the questions are answered with: JSON, the same bytes on every brick of a set.

use serde::{Serialize, Serializer};

use crate::record::Record;
use crate::volume::VolumeType;
use crate::{Gfid, SnapName, Timestamp};

/// The version of the JSON forms, their first member.
pub const VERSION: u32 = 1;

/// One snapshot, as `list` and `info` show it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Snapshot {
    /// Its name.
    #[serde(serialize_with = "text")]
    pub name: SnapName,
    /// When it was taken: what the caller said, else the file's mtime then; `null` if neither is known.
    #[serde(serialize_with = "maybe_text")]
    pub created: Option<Timestamp>,
    /// Bytes of content; `null` if this brick lacks the payload.
    pub size: Option<u64>,
    /// The file's mtime when the snapshot was taken; `null` on volumes without the `ctime` feature.
    #[serde(serialize_with = "maybe_text")]
    pub mtime: Option<Timestamp>,
    /// The gfid of the snapshot file.
    #[serde(serialize_with = "text")]
    pub gfid: Gfid,
    /// Deletion is forbidden.
    pub held: bool,
    /// The bricks of a replicate volume may have different contents until they are healed.
    pub unsettled: bool,
}

impl Snapshot {
    /// From a catalogue entry, without what only the payload tells.
    pub fn from_record(name: SnapName, record: &Record) -> Self {
        Snapshot {
            name,
            created: record.created,
            size: None,
            mtime: None,
            gfid: record.gfid,
            held: record.held,
            unsettled: false,
        }
    }
}

/// The answer to `list`; `snapshots` are oldest first. At most 256 of the longest entries fit into the 64 KiB of an
/// xattr.
pub fn list(snapshots: &[Snapshot]) -> String {
    #[derive(Serialize)]
    struct List<'a> {
        version: u32,
        snapshots: &'a [Snapshot],
    }
    json(&List { version: VERSION, snapshots })
}

/// The answer to `info.NAME`.
pub fn info(snapshot: &Snapshot) -> String {
    #[derive(Serialize)]
    struct Info<'a> {
        version: u32,
        #[serde(flatten)]
        snapshot: &'a Snapshot,
    }
    json(&Info { version: VERSION, snapshot })
}

/// What `status` shows.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Status {
    /// The version of the JSON forms.
    pub version: u32,
    /// The version of fsnap.
    pub fsnap: &'static str,
    /// How the volume keeps its files, if that is known on the brick's server.
    pub r#type: Option<VolumeType>,
    /// Whether the brick's file system can share blocks.
    pub reflink: bool,
    /// The options in force.
    pub options: crate::options::Options,
}

/// The answer to `armed`: whether a restore of the file by who asks would be refused because one may be under way, or was just now, and, on a disperse volume, the id of the one that has
/// come to its end on this brick, until its command ends it too.
pub fn armed(live: bool, over: Option<Gfid>) -> String {
    #[derive(Serialize)]
    struct Answer {
        version: u32,
        live: bool,
        over: Option<String>,
    }
    json(&Answer { version: VERSION, live, over: over.map(|id| id.to_string()) })
}

/// The answer to `deleted`: the gfid of the file.
pub fn deleted(file: Gfid) -> String {
    #[derive(Serialize)]
    struct Answer {
        version: u32,
        file: String,
    }
    json(&Answer { version: VERSION, file: file.to_string() })
}

/// The answer to `marks.NAME`: names of xattrs.
pub fn marks(marks: &[String]) -> String {
    #[derive(Serialize)]
    struct Answer<'a> {
        version: u32,
        marks: &'a [String],
    }
    json(&Answer { version: VERSION, marks })
}

/// The answer to `status`.
pub fn status(status: &Status) -> String {
    json(status)
}

fn json<T: Serialize>(value: &T) -> String {
    // Structs of strings, numbers and booleans: nothing in them can fail to serialise.
    serde_json::to_string(value).unwrap_or_default()
}

fn text<T: std::fmt::Display, S: Serializer>(value: &T, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(value)
}

fn maybe_text<T: std::fmt::Display, S: Serializer>(value: &Option<T>, s: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => s.collect_str(value),
        None => s.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn longest() -> Snapshot {
        let time = Timestamp::new(253_402_300_799, 999_999_999).unwrap();
        Snapshot {
            name: SnapName::parse(&[b'n'; 64]).unwrap(),
            created: Some(time),
            size: Some(u64::MAX),
            mtime: Some(time),
            gfid: Gfid::ROOT,
            held: false,
            unsettled: false,
        }
    }

    #[test]
    fn forms() {
        let mut snapshot = longest();
        snapshot.name = SnapName::parse(b"mon").unwrap();
        snapshot.size = Some(7);
        snapshot.mtime = None;
        let inner = "\"name\":\"mon\",\"created\":\"253402300799.999999999\",\"size\":7,\"mtime\":null,\
                     \"gfid\":\"00000000-0000-0000-0000-000000000001\",\"held\":false,\"unsettled\":false}";
        assert_eq!(list(&[]), "{\"version\":1,\"snapshots\":[]}");
        assert_eq!(list(&[snapshot.clone()]), format!("{{\"version\":1,\"snapshots\":[{{{inner}]}}"));
        assert_eq!(info(&snapshot), format!("{{\"version\":1,{inner}"));
    }

    #[test]
    fn the_longest_list_fits_into_an_xattr() {
        let most = vec![longest(); crate::options::MAX_SNAPSHOTS as usize];
        assert!(list(&most).len() <= 65_536, "{}", list(&most).len());
    }
}
