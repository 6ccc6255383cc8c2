//! Taking snapshots.

use fsnap_core::SnapName;
use jiff::Timestamp as Moment;
use nix::errno::Errno;

use crate::cluster::{Graphs, Known};
use crate::entry::{Entry, Owner};
use crate::failure::{Deed, Failure};
use crate::found::Found;
use crate::text;
use crate::volume::{self, Snapshot};

/// How many names are tried: a file has no more snapshots.
const NAMES: usize = 257;

/// The name of a snapshot.
pub enum Wish {
    /// This one.
    Name(SnapName),
    /// One that begins like this and is free.
    Free(String),
}

impl Wish {
    /// The names to try, the best first.
    fn names(&self) -> Vec<SnapName> {
        match self {
            Wish::Name(name) => vec![name.clone()],
            Wish::Free(stem) => (1..=NAMES).filter_map(|n| numbered(stem, n)).collect(),
        }
    }
}

fn numbered(stem: &str, n: usize) -> Option<SnapName> {
    let name = if n == 1 { stem.to_owned() } else { format!("{stem}_{n}") };
    SnapName::parse(name.as_bytes()).ok()
}

/// Takes a snapshot of what this client and those before it have written. If that is `wanted` the volume is asked what it knows of it.
///
/// It goes by way of a private client graph: where the volume keeps copies of files, they are then the same.
pub fn create(graphs: &Graphs, file: &Found, wish: &Wish, wanted: bool) -> Result<Entry, Failure> {
    file.may_change(Deed::Create)?;
    let known = graphs.find(file).map_err(or_by_mount)?;
    create_by(known.as_ref(), file, wish, wanted)
}

/// The same of a file that has been found; by way of the mount if it is not `known`.
pub fn create_by(known: Option<&Known>, file: &Found, wish: &Wish, wanted: bool) -> Result<Entry, Failure> {
    let failed = |deed| move |errno| file.failed(deed, errno);
    if let Some(known) = known {
        known.await_turn(&file.shown).map_err(or_by_mount)?.map_err(failed(Deed::Create))?;
    }
    let mut drained = Some(volume::drain(&file.place).map_err(failed(Deed::Drain))?);
    let mut taken = Err(Errno::EEXIST);
    for name in wish.names() {
        let created = text::timestamp(Moment::now()).map_err(|_| {
            Failure::new(&file.shown, "this machine's clock is not in the years 1 to 9999: set it")
        })?;
        let value = volume::creation(&name, created);
        let set = match known {
            Some(known) => known.create(&file.shown, &value, drained.take())?,
            None => {
                drop(drained.take());
                volume::command(&file.place, "create", &value)
            }
        };
        taken = set.map(|()| (name, created.to_string()));
        if taken != Err(Errno::EEXIST) {
            break;
        }
    }
    let (name, created) = taken.map_err(failed(Deed::Create))?;
    // Whoever may write need not be allowed to look.
    let told = wanted.then(|| volume::info(&file.place, &name).ok()).flatten();
    let snapshot = told.unwrap_or_else(|| just_taken(&name, created));
    Ok(Entry { owner: Owner::File(file.shown.clone()), snapshot })
}

/// What can be done without a private graph on a volume that keeps copies: bricks that are sent the same command at once do not take
/// the snapshot at once.
fn or_by_mount(mut failure: Failure) -> Failure {
    if failure.lacks_graph {
        let way = "setfattr -n glusterfs.fsnap.create -v NAME FILE";
        failure.text.push_str(&format!(". While nobody writes to the file, `{way}` takes one without that"));
    }
    failure
}

fn just_taken(name: &SnapName, created: String) -> Snapshot {
    Snapshot {
        name: name.to_string(),
        created: Some(created),
        size: None,
        mtime: None,
        gfid: None,
        held: false,
        unsettled: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_tried() {
        let names = Wish::Free("20231114T221320Z".into()).names();
        assert_eq!(names.len(), NAMES);
        let [first, second, ..] = &names[..] else { panic!("{names:?}") };
        assert_eq!((first.as_str(), second.as_str()), ("20231114T221320Z", "20231114T221320Z_2"));
        let only = SnapName::parse(b"a").unwrap();
        assert_eq!(Wish::Name(only.clone()).names(), [only]);
    }
}
