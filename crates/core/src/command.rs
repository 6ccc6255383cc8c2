//! The command grammar: xattr names and values that are commands and questions to fsnap.

use std::ffi::CStr;
use std::fmt;

use crate::{Error, Gfid, Result, SnapName, Timestamp};

/// What every command's xattr name starts with.
pub const PREFIX: &str = "glusterfs.fsnap.";

/// The key in a truncate's xdata that makes it the carrier of the restore whose id is its value.
pub const CARRIER: &CStr = c"glusterfs.fsnap.carrier";

/// The longest value that is looked at, in bytes.
pub const MAX_VALUE: usize = 256;

/// A setxattr that is a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// `create`: take a snapshot.
    Create(Create),
    /// `delete`: remove a snapshot.
    Delete(SnapName),
    /// `restore`: make the file's content that of a snapshot.
    Restore(SnapName),
    /// `hold` (true) and `release` (false): forbid and allow the deletion of a snapshot.
    Hold(SnapName, bool),
    /// `arm`: get ready for a restore that a truncate will carry; of the private client graph.
    Arm(Arming),
    /// `settle`: that restore is over, or will not be.
    Settle(Gfid),
}

impl Command {
    /// The snapshot or the restore that it is about.
    pub fn subject(&self) -> String {
        match self {
            Command::Create(Create { name, .. }) | Command::Arm(Arming { name, .. }) => name.to_string(),
            Command::Delete(name) | Command::Restore(name) | Command::Hold(name, _) => name.to_string(),
            Command::Settle(id) => id.to_string(),
        }
    }
}

/// What `arm` asks for: `NAME;id=UUID`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Arming {
    /// The snapshot that is to be restored.
    pub name: SnapName,
    /// Which restore it is; the truncate that carries it has the same, under [`CARRIER`].
    pub id: Gfid,
}

impl fmt::Display for Arming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{};id={}", self.name, self.id)
    }
}

/// What `create` asks for: `NAME[;created=SECONDS.NANOS][;id=UUID]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Create {
    /// The snapshot's name.
    pub name: SnapName,
    /// When it is taken, by the caller's clock.
    pub created: Option<Timestamp>,
    /// What makes its gfid unique.
    pub id: Option<Gfid>,
}

/// A getxattr that is a question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Question {
    /// `list`: all snapshots of the file.
    List,
    /// `info.NAME`: one snapshot.
    Info(SnapName),
    /// `status`: fsnap itself, on this brick.
    Status,
    /// `armed`: whether this brick takes a restore of the file by a carrier for being under way.
    Armed,
    /// `deleted`: set on a snapshot, the deleted file that it is of, which the connection that asks then finds by its gfid, for a
    /// while, to bring it back.
    Deleted,
    /// `marks.NAME`: the marks of the replicate translator that a snapshot has on this brick.
    Marks(SnapName),
}

/// The command in `setxattr(key, value)`; `None` if the key is not ours.
///
/// [`Error::UnknownCommand`] (`EOPNOTSUPP`) for a verb that there is not, [`Error::BadValue`] (`EINVAL`) for a value
/// that does not follow the grammar.
pub fn parse_set(key: &[u8], value: &[u8]) -> Option<Result<Command>> {
    let verb = key.strip_prefix(PREFIX.as_bytes())?;
    Some(match verb {
        b"create" => short(value).and_then(parse_create).map(Command::Create),
        b"delete" => short(value).and_then(SnapName::parse).map(Command::Delete),
        b"restore" => short(value).and_then(SnapName::parse).map(Command::Restore),
        b"hold" => short(value).and_then(SnapName::parse).map(|n| Command::Hold(n, true)),
        b"release" => short(value).and_then(SnapName::parse).map(|n| Command::Hold(n, false)),
        b"arm" => short(value).and_then(parse_arming).map(Command::Arm),
        b"settle" => short(value).and_then(parse_id).map(Command::Settle),
        other => Err(unknown(other)),
    })
}

/// The question in `getxattr(key)`; `None` if the key is not ours. Errors as in [`parse_set`].
pub fn parse_get(key: &[u8]) -> Option<Result<Question>> {
    let verb = key.strip_prefix(PREFIX.as_bytes())?;
    Some(match verb {
        b"list" => Ok(Question::List),
        b"status" => Ok(Question::Status),
        b"armed" => Ok(Question::Armed),
        b"deleted" => Ok(Question::Deleted),
        other => match (other.strip_prefix(b"info."), other.strip_prefix(b"marks.")) {
            (Some(name), _) => SnapName::parse(name).map(Question::Info),
            (_, Some(name)) => SnapName::parse(name).map(Question::Marks),
            _ => Err(unknown(other)),
        },
    })
}

fn unknown(verb: &[u8]) -> Error {
    Error::UnknownCommand(verb[..verb.len().min(80)].escape_ascii().to_string())
}

fn short(value: &[u8]) -> Result<&[u8]> {
    if value.len() > MAX_VALUE { Err(Error::bad("a value longer than 256 bytes")) } else { Ok(value) }
}

fn parse_create(value: &[u8]) -> Result<Create> {
    let mut parts = value.split(|&b| b == b';');
    let name = SnapName::parse(parts.next().unwrap_or_default())?;
    let mut create = Create { name, created: None, id: None };
    for part in parts {
        let text = std::str::from_utf8(part).map_err(|_| Error::bad("a parameter that is not text"))?;
        match text.split_once('=') {
            Some(("created", time)) if create.created.is_none() => {
                create.created = Some(Timestamp::parse(time)?)
            }
            Some(("id", id)) if create.id.is_none() => create.id = Some(Gfid::parse(id)?),
            _ => return Err(Error::bad("create takes NAME[;created=SECONDS.NANOS][;id=UUID], each once")),
        }
    }
    Ok(create)
}

fn parse_arming(value: &[u8]) -> Result<Arming> {
    match parse_create(value)? {
        Create { name, created: None, id: Some(id) } => Ok(Arming { name, id }),
        _ => Err(Error::bad("arm takes NAME;id=UUID")),
    }
}

/// The id of a restore. [`Error::BadValue`] (`EINVAL`).
pub fn parse_id(value: &[u8]) -> Result<Gfid> {
    Gfid::parse(std::str::from_utf8(value).map_err(|_| Error::bad("an id that is not text"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> SnapName {
        SnapName::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn commands() {
        assert_eq!(parse_set(b"user.x", b"a"), None);
        assert_eq!(parse_set(b"glusterfs.fsnapx", b"a"), None);
        assert_eq!(parse_set(b"glusterfs.fsnap.delete", b"a").unwrap(), Ok(Command::Delete(name("a"))));
        assert_eq!(parse_set(b"glusterfs.fsnap.restore", b"a").unwrap(), Ok(Command::Restore(name("a"))));
        assert_eq!(parse_set(b"glusterfs.fsnap.hold", b"a").unwrap(), Ok(Command::Hold(name("a"), true)));
        assert_eq!(parse_set(b"glusterfs.fsnap.release", b"a").unwrap(), Ok(Command::Hold(name("a"), false)));
        let Command::Create(create) = parse_set(
            b"glusterfs.fsnap.create",
            b"mon;id=11111111-2222-4333-8444-555555555555;created=12.000000034",
        )
        .unwrap()
        .unwrap() else {
            panic!("not a create")
        };
        assert_eq!(create.name, name("mon"));
        assert_eq!(create.created.unwrap().to_string(), "12.000000034");
        assert_eq!(create.id.unwrap().to_string(), "11111111-2222-4333-8444-555555555555");
    }

    #[test]
    fn bad_commands() {
        for bad in [
            "",
            ";",
            "a;",
            "a;b",
            "a;created",
            "a;created=",
            "a;created=1",
            "a;id=",
            "a;id=7",
            "a;x=1",
            "a ;id=7",
            "a;created=1.000000000;created=1.000000000",
            "a\0",
        ] {
            let got = parse_set(b"glusterfs.fsnap.create", bad.as_bytes()).unwrap();
            assert_eq!(got.unwrap_err().errno(), libc::EINVAL, "{bad:?}");
        }
        assert_eq!(
            parse_set(b"glusterfs.fsnap.delete", &[b'a'; 300]).unwrap().unwrap_err().errno(),
            libc::EINVAL
        );
        for verb in
            ["glusterfs.fsnap.", "glusterfs.fsnap.creates", "glusterfs.fsnap.list", "glusterfs.fsnap.\u{fc}"]
        {
            assert_eq!(
                parse_set(verb.as_bytes(), b"a").unwrap().unwrap_err().errno(),
                libc::EOPNOTSUPP,
                "{verb}"
            );
        }
    }

    #[test]
    fn questions() {
        assert_eq!(parse_get(b"trusted.gfid"), None);
        assert_eq!(parse_get(b"glusterfs.fsnap.list").unwrap(), Ok(Question::List));
        assert_eq!(parse_get(b"glusterfs.fsnap.status").unwrap(), Ok(Question::Status));
        assert_eq!(parse_get(b"glusterfs.fsnap.info.a").unwrap(), Ok(Question::Info(name("a"))));
        assert_eq!(parse_get(b"glusterfs.fsnap.info.").unwrap().unwrap_err().errno(), libc::EINVAL);
        assert_eq!(parse_get(b"glusterfs.fsnap.create").unwrap().unwrap_err().errno(), libc::EOPNOTSUPP);
    }
}
