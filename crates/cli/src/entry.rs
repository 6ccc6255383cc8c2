//! Snapshots with their files, for people and as JSON.

use std::path::PathBuf;

use fsnap_check::escaped;
use serde::Serialize;

use crate::failure::Failure;
use crate::target::argument;
use crate::text;
use crate::volume::Snapshot;

/// The version of the JSON forms.
pub const VERSION: u32 = 1;

/// A snapshot and where it belongs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The file.
    pub owner: Owner,
    /// The snapshot.
    pub snapshot: Snapshot,
}

/// Whose a snapshot is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Owner {
    /// This file's.
    File(PathBuf),
    /// A deleted file's.
    Deleted {
        /// The path that it had.
        file: PathBuf,
        /// The path of the snapshot.
        path: PathBuf,
    },
    /// A file's that is not beside it: the path of the snapshot.
    Elsewhere(PathBuf),
}

impl Entry {
    /// What commands take for it.
    pub fn argument(&self) -> PathBuf {
        match &self.owner {
            Owner::File(file) => argument(file, &self.snapshot.name),
            Owner::Deleted { path, .. } | Owner::Elsewhere(path) => path.clone(),
        }
    }

    /// The file, as far as it is known.
    pub fn file(&self) -> Option<String> {
        match &self.owner {
            Owner::File(file) | Owner::Deleted { file, .. } => Some(escaped(file)),
            Owner::Elsewhere(_) => None,
        }
    }

    fn is_deleted(&self) -> bool {
        matches!(self.owner, Owner::Deleted { .. })
    }

    fn form(&self) -> Form<'_> {
        Form {
            snapshot: escaped(&self.argument()),
            file: self.file(),
            deleted: self.is_deleted(),
            about: &self.snapshot,
        }
    }

    /// What is to be said besides.
    fn state(&self) -> String {
        let Snapshot { held, unsettled, .. } = self.snapshot;
        let words = [(self.is_deleted(), "deleted"), (held, "held"), (unsettled, "unsettled")];
        words.iter().filter(|(said, _)| *said).map(|(_, word)| *word).collect::<Vec<_>>().join(",")
    }

    fn row(&self) -> Vec<String> {
        let file = match &self.owner {
            Owner::File(file) => file,
            Owner::Deleted { path, .. } | Owner::Elsewhere(path) => path,
        };
        let Snapshot { name, created, size, mtime, .. } = &self.snapshot;
        vec![
            escaped(file),
            name.clone(),
            text::time(created.as_deref()),
            text::size(*size),
            text::time(mtime.as_deref()),
            self.state(),
        ]
    }

    /// One snapshot, a line for each of its properties.
    pub fn properties(&self) -> String {
        let Snapshot { name, created, size, mtime, gfid, held, unsettled } = &self.snapshot;
        let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
        let bytes = size.map(|bytes| format!(" ({bytes} bytes)")).unwrap_or_default();
        let deleted = if self.is_deleted() { " (deleted)" } else { "" };
        let rows = [
            ("snapshot", escaped(&self.argument())),
            ("file", self.file().unwrap_or_else(|| text::UNKNOWN.into()) + deleted),
            ("name", name.clone()),
            ("created", text::time(created.as_deref())),
            ("size", text::size(*size) + &bytes),
            ("modified", text::time(mtime.as_deref())),
            ("gfid", gfid.clone().unwrap_or_else(|| text::UNKNOWN.into())),
            ("held", yes(*held)),
            ("unsettled", yes(*unsettled)),
        ];
        text::table(&rows.map(|(key, value)| vec![key.to_owned(), value]))
    }
}

/// All of them, a row for each; nothing if there are none.
pub fn table(entries: &[Entry]) -> String {
    if entries.is_empty() {
        return String::new();
    }
    let head = ["FILE", "NAME", "CREATED", "SIZE", "MODIFIED", "STATE"].map(String::from).to_vec();
    let rows: Vec<_> = std::iter::once(head).chain(entries.iter().map(Entry::row)).collect();
    text::table(&rows)
}

// The forms that docs/command.md describes.

#[derive(Serialize)]
struct Form<'a> {
    snapshot: String,
    file: Option<String>,
    deleted: bool,
    #[serde(flatten)]
    about: &'a Snapshot,
}

#[derive(Serialize)]
struct ShowForm<'a> {
    version: u32,
    #[serde(flatten)]
    entry: Form<'a>,
}

#[derive(Serialize)]
struct ListForm<'a> {
    version: u32,
    snapshots: Vec<Form<'a>>,
    errors: Vec<ErrorForm<'a>>,
}

#[derive(Serialize)]
struct ErrorForm<'a> {
    path: &'a str,
    errno: Option<String>,
    text: &'a str,
}

/// One snapshot.
pub fn show_json(entry: &Entry) -> String {
    json(&ShowForm { version: VERSION, entry: entry.form() })
}

/// All of them and what failed.
pub fn list_json(entries: &[Entry], failures: &[Failure]) -> String {
    let snapshots = entries.iter().map(Entry::form).collect();
    json(&ListForm { version: VERSION, snapshots, errors: failures.iter().map(error_form).collect() })
}

fn error_form(failure: &Failure) -> ErrorForm<'_> {
    let errno = failure.errno.map(|errno| format!("{errno:?}"));
    ErrorForm { path: &failure.subject, errno, text: &failure.text }
}

/// A form as a line.
pub fn json<T: Serialize>(form: &T) -> String {
    // Structs of strings, numbers and booleans: nothing in them can fail to serialise.
    serde_json::to_string(form).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use nix::errno::Errno;
    use serde_json::Value;

    use super::*;

    fn entry() -> Entry {
        let snapshot = Snapshot {
            name: "a".into(),
            created: Some("1700000000.000000042".into()),
            size: Some(1024),
            mtime: None,
            gfid: Some("00000000-0000-0000-0000-000000000001".into()),
            held: true,
            unsettled: false,
        };
        Entry { owner: Owner::File("d/f\n".into()), snapshot }
    }

    #[test]
    fn forms() {
        let alive = entry();
        let path = PathBuf::from("d/.fsnap/f\n@a@00000000");
        let gone = Entry { owner: Owner::Deleted { file: "d/f\n".into(), path }, ..entry() };
        assert_eq!(gone.argument(), Path::new("d/.fsnap/f\n@a@00000000"));
        let failure = Failure::answered(Path::new("d"), Errno::EACCES);
        let text = list_json(&[alive, gone], &[failure]);
        let place = r#"{"snapshot":"d/f\\x0a@a","file":"d/f\\x0a","deleted":false,"#;
        let rest = "\"name\":\"a\",\"created\":\"1700000000.000000042\",\"size\":1024,\"mtime\":null,\
                    \"gfid\":\"00000000-0000-0000-0000-000000000001\",\"held\":true,\"unsettled\":false}";
        let first = format!("{place}{rest}");
        assert!(text.starts_with(&format!("{{\"version\":1,\"snapshots\":[{first},")), "{text}");
        assert_eq!(show_json(&entry()), format!("{{\"version\":1,{}\n", &first[1..]));
        let list: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(list["snapshots"][1]["snapshot"], "d/.fsnap/f\\x0a@a@00000000");
        assert_eq!(list["snapshots"][1]["deleted"], true);
        let stray = Entry { owner: Owner::Elsewhere("d/.fsnap/g@a".into()), ..entry() };
        assert_eq!((stray.argument(), stray.form().file), ("d/.fsnap/g@a".into(), None));
        assert_eq!(
            (&list["errors"][0]["path"], &list["errors"][0]["errno"]),
            (&"d".into(), &"EACCES".into())
        );
    }

    #[test]
    fn tables() {
        assert_eq!(table(&[]), "");
        let text = table(&[entry()]);
        let [head, row] = text.lines().collect::<Vec<_>>()[..] else { panic!("{text}") };
        assert!(head.starts_with("FILE ") && head.ends_with("STATE"), "{head}");
        assert_eq!(row, "d/f\\x0a  a     2023-11-14 22:13:20Z  1.0 KiB  -         held");
        assert!(entry().properties().contains("size       1.0 KiB (1024 bytes)\n"));
    }
}
