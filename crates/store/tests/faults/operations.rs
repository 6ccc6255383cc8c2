//! What is tried, with a fault at each step.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use fsnap_core::acl::Caller;
use fsnap_core::record::Record;
use fsnap_core::{Gfid, Result};
use fsnap_store::Store;
use fsnap_store::check::ProblemKind;
use fsnap_testbed::{Errno, content, getx, setx};

use crate::common::*;
use crate::view::sound_but;

type Finish = fn(&TestBrick, &Store, &[Gfid]) -> Result<()>;

/// What is tried: on the files that `prepare` made.
pub struct Operation {
    pub name: &'static str,
    pub prepare: fn(&TestBrick) -> Vec<Gfid>,
    pub run: fn(&TestBrick, &Store, &[Gfid]) -> Result<()>,
    /// What finishes it when it was cut short after storage/posix had done its part.
    pub finish: Option<Finish>,
}

pub const OPERATIONS: [Operation; 27] = [
    Operation {
        name: "the first snapshot of a brick",
        prepare: |b| vec![file(b, "d/f", 1)],
        run: |_, store, files| store.create(files[0], &bare("new"), &PLENTY).map(drop),
        finish: None,
    },
    Operation {
        name: "another snapshot",
        prepare: |b| vec![snapped(b, "d/f")],
        run: |_, store, files| store.create(files[0], &bare("new"), &PLENTY).map(drop),
        finish: None,
    },
    Operation {
        name: "delete",
        prepare: |b| vec![snapped(b, "d/f")],
        run: |_, store, files| store.delete(files[0], &name("a")),
        finish: None,
    },
    Operation {
        name: "hold",
        prepare: |b| vec![snapped(b, "d/f")],
        run: |_, store, files| store.hold(files[0], &name("a"), true),
        finish: None,
    },
    Operation {
        name: "the file's rights change",
        prepare: |b| vec![snapped(b, "d/f")],
        run: |b, store, files| {
            fs::set_permissions(b.path.join("d/f"), fs::Permissions::from_mode(0o600)).unwrap();
            store.follow_rights(files[0])
        },
        // Whoever looks at a snapshot.
        finish: Some(|_, store, files| {
            store
                .list(files[0])?
                .iter()
                .try_for_each(|snapshot| store.is_readable(snapshot.gfid, None).map(drop))
        }),
    },
    Operation {
        name: "restore a smaller content",
        prepare: |b| vec![snapped(b, "d/f")],
        run: |_, store, files| store.restore(files[0], &name("a")).map(drop),
        finish: None,
    },
    Operation {
        name: "restore a larger content",
        prepare: |b| vec![snapped(b, "d/f")],
        run: |_, store, files| store.restore(files[0], &name("b")).map(drop),
        finish: None,
    },
    Operation {
        name: "arm for a restore",
        prepare: |b| vec![snapped(b, "d/f")],
        run: |_, store, files| store.arm(files[0], &name("a"), id(1)),
        finish: None,
    },
    Operation {
        name: "a restore that a carrier brings",
        prepare: |b| vec![armed(b, "d/f")],
        run: |_, store, files| store.carry(files[0], id(1)).map(drop),
        finish: None,
    },
    Operation {
        name: "arm again for a fragment that is half restored",
        prepare: |b| vec![half_restored(b, "d/f")],
        run: |_, store, files| store.arm(files[0], &name("b"), id(2)),
        finish: None,
    },
    Operation {
        name: "settle",
        prepare: |b| vec![half_restored(b, "d/f")],
        run: |_, store, files| store.conclude(files[0], id(1)),
        finish: None,
    },
    Operation {
        name: "rename to another directory",
        prepare: |b| vec![snapped(b, "d/f")],
        run: |b, store, files| {
            b.rename("d/f", "e/g");
            store.follow(files[0])
        },
        finish: Some(|_, store, files| store.follow(files[0])),
    },
    Operation {
        name: "rename over a file with snapshots",
        prepare: |b| vec![snapped(b, "d/f"), snapped(b, "e/g")],
        run: |b, store, files| {
            store.bury(files[1])?;
            b.rename("d/f", "e/g");
            store.follow(files[1])?;
            store.follow(files[0])?;
            store.empty_grave(files[1])
        },
        finish: Some(|_, store, files| match store.is_deleted(files[1]) {
            true => store.follow(files[0]),
            false => Ok(()),
        }),
    },
    Operation {
        name: "unlink, kept",
        prepare: |b| vec![snapped(b, "d/f")],
        run: |b, store, files| {
            store.bury(files[0])?;
            b.unlink("d/f");
            store.follow(files[0])?;
            store.empty_grave(files[0])
        },
        finish: Some(|_, store, files| store.follow(files[0])),
    },
    Operation {
        name: "unlink of one of two names",
        prepare: |b| {
            let files = vec![snapped(b, "d/f")];
            b.link("d/f", "e/g");
            files
        },
        run: |b, store, files| {
            b.unlink("d/f");
            store.follow(files[0])
        },
        finish: Some(|_, store, files| store.follow(files[0])),
    },
    Operation {
        name: "unlink, given up by storage/posix",
        prepare: |b| vec![snapped(b, "d/f")],
        run: |_, store, files| store.bury(files[0]).and_then(|()| store.unbury(files[0])).map(drop),
        finish: Some(|_, store, files| store.unbury(files[0]).map(drop)),
    },
    Operation {
        name: "delete the last snapshot of a deleted file",
        prepare: |b| vec![deleted(b, "d/f", 1)],
        run: |_, store, files| store.delete(files[0], &name("a")),
        finish: None,
    },
    Operation {
        name: "bring a deleted file back",
        prepare: |b| vec![deleted(b, "d/f", 2)],
        run: |_, store, files| store.revive(files[0], &name("b"), |_, _| Ok(())).map(drop),
        finish: None,
    },
    Operation {
        name: "restore by somebody who must not keep what it ran with",
        prepare: |b| {
            let files = vec![snapped(b, "d/f")];
            fs::set_permissions(b.join("d/f"), fs::Permissions::from_mode(0o4755)).unwrap();
            setx(b.join("d/f"), "security.capability", CAPABILITY).unwrap();
            files
        },
        run: |_, store, files| {
            store.strip_privileges(files[0], &Caller { uid: 1, gid: 1, groups: vec![] })?;
            store.restore(files[0], &name("a")).map(drop)
        },
        finish: Some(|b, _, _| {
            let now = fs::metadata(b.join("d/f")).unwrap();
            if now.len() == 30_000 {
                assert_eq!(now.mode() & 0o7777, 0o755);
                assert_eq!(getx(b.join("d/f"), "security.capability"), Err(Errno::ENODATA));
            }
            Ok(())
        }),
    },
    Operation {
        name: "put handles back",
        prepare: |b| {
            let (whole, dir) = (file(b, "d/f", 1), b.make_dir("d/lost"));
            let inside = b.make_file("d/lost/g", b"g");
            for gfid in [whole, dir, inside] {
                fs::remove_file(b.handle(gfid)).unwrap();
            }
            vec![]
        },
        run: put_all_back,
        finish: Some(put_all_back),
    },
    Operation {
        name: "snapshots of a file that nobody can tell the place of",
        prepare: |b| vec![snapped(b, "d/f")],
        run: |b, store, files| {
            store.follow_away(files[0], b.gfid("d"), b"f")?;
            store.follow(files[0])
        },
        finish: Some(|_, store, files| store.follow(files[0])),
    },
    Operation {
        name: "look into .fsnap",
        prepare: |b| {
            file(b, "d/f", 1);
            vec![]
        },
        run: |b, store, _| store.snap_dir(b.gfid("d")).map(drop),
        finish: None,
    },
    Operation {
        name: "clear an empty .fsnap",
        prepare: |b| {
            file(b, "d/f", 1);
            let empty = b.make_dir("d/empty");
            b.store().snap_dir(empty).unwrap();
            vec![]
        },
        run: |b, store, _| store.clear_snap_dir(b.gfid("d/empty")),
        finish: None,
    },
    Operation {
        name: "adopt",
        prepare: |b| vec![away(b, "d/f")],
        run: |b, store, files| adopt(b, store, files[0]),
        finish: Some(|b, store, files| {
            // Before self-heal comes again. Of what is missing heal is not told until its note is made.
            sound_but(b, "what adopt has left", &[ProblemKind::PayloadMissing]);
            assert_eq!(store.info(files[0], &name("a"))?.size, Some(30_000));
            for snapshot in store.list(files[0])?.iter().filter(|snapshot| snapshot.size.is_none()) {
                let now = b.record(files[0], snapshot.name.as_str());
                assert!(truth(b, files[0]).contains(&(snapshot.name.as_str(), now)), "{snapshot:?}");
            }
            adopt(b, store, files[0])
        }),
    },
    Operation {
        name: "adopt that a deleted file has no snapshots any more",
        prepare: |b| vec![deleted(b, "d/f", 2)],
        run: |b, store, files| no_snapshots(b, store, files[0]),
        finish: Some(|b, store, files| {
            // Its last snapshot may have taken it along.
            if b.handle(files[0]).exists() { no_snapshots(b, store, files[0]) } else { Ok(()) }
        }),
    },
    Operation {
        name: "make a snapshot that is missing",
        prepare: |b| {
            let file = away(b, "d/f");
            adopt(b, &b.store(), file).unwrap();
            vec![file]
        },
        run: |b, store, files| make_missing(b, store, files[0]),
        finish: Some(|b, store, files| {
            let payload = taken(files[0], "new", 7).gfid;
            if !b.handle(payload).exists() {
                return make_missing(b, store, files[0]);
            }
            // Self-heal goes on with its xattrs and its content, and with those of the file.
            store.seed(payload, files[0])?;
            fs::write(b.handle(payload), fs::read(b.join("d/f")).unwrap()).unwrap();
            store.healed(payload)?;
            adopt(b, store, files[0])
        }),
    },
    Operation {
        name: "the directory of deleted files goes",
        prepare: |b| {
            b.make_dir("d");
            b.make_dir("d/sub");
            vec![deleted(b, "d/sub/f", 1), deleted(b, "d/sub/g", 1)]
        },
        run: move_up,
        // Whoever removes it comes again.
        finish: Some(move_up),
    },
];

/// Before the rmdir of the directory that a file was deleted in.
fn move_up(b: &TestBrick, store: &Store, _: &[Gfid]) -> Result<()> {
    let dir = b.gfid("d/sub");
    store.move_up(dir, &store.kept_in(dir)?).map(drop)?;
    store.clear_snap_dir(dir)
}

/// `struct vfs_cap_data`: CAP_NET_RAW, permitted and effective.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn put_all_back(_: &TestBrick, store: &Store, _: &[Gfid]) -> Result<()> {
    ["d/f", "d/lost/g"].into_iter().try_for_each(|path| put_back(store, path))
}

/// What the translator does before a fop that needs the handles on the way to `path`.
pub fn put_back(store: &Store, path: &str) -> Result<()> {
    store.without_handles(path.as_bytes())?.iter().try_for_each(|lost| store.put_back(lost))
}

/// A file that has missed, with its brick, what [`truth`] says: b and c are there no more, d is another, new was taken.
fn away(b: &TestBrick, at: &str) -> Gfid {
    let gfid = snapped(b, at);
    let store = b.store();
    for name in ["c", "d"] {
        snap(&store, gfid, name);
    }
    gfid
}

fn truth(b: &TestBrick, file: Gfid) -> Vec<(&'static str, Record)> {
    let held = Record { held: true, ..b.record(file, "a") };
    vec![("a", held), ("d", taken(file, "d", 6)), ("new", taken(file, "new", 7))]
}

/// All that follows when self-heal brings the catalogue.
fn adopt(b: &TestBrick, store: &Store, file: Gfid) -> Result<()> {
    let missing = heal(b, store, file, 7, &truth(b, file))?.missing;
    let here = |name: &str| b.handle(b.record(file, name).gfid).exists();
    let names = ["d", "new"].into_iter().filter(|name| !here(name));
    let names: BTreeSet<_> = names.map(|name| format!("f@{name}").into_bytes()).collect();
    assert_eq!(missing.into_values().next().unwrap_or_default(), names);
    Ok(())
}

fn no_snapshots(b: &TestBrick, store: &Store, file: Gfid) -> Result<()> {
    heal(b, store, file, 2, &[]).map(drop)
}

fn make_missing(b: &TestBrick, store: &Store, file: Gfid) -> Result<()> {
    let payload = taken(file, "new", 7).gfid;
    let nowhere = fsnap_core::gfid2path::Link { parent: b.gfid("d").snap_dir(), name: b"x".to_vec() };
    assert_eq!(store.wanted(payload, &nowhere), Ok(file));
    b.make_as("d/.fsnap/f@new", payload);
    store.seed(payload, file)?;
    store.healed(payload)
}

fn file(b: &TestBrick, at: &str, seed: u64) -> Gfid {
    for dir in ["d", "e"] {
        if !b.join(dir).exists() {
            b.make_dir(dir);
        }
    }
    b.make_file(at, &content(70_000, seed))
}

/// A file with a smaller snapshot a and a larger one b.
pub fn snapped(b: &TestBrick, at: &str) -> Gfid {
    let gfid = file(b, at, 1);
    take_both(b, at, gfid);
    gfid
}

fn take_both(b: &TestBrick, at: &str, gfid: Gfid) {
    let store = b.store();
    for (name, size) in [("a", 30_000), ("b", 150_000), ("", 70_001)] {
        fs::write(b.join(at), content(size, size as u64)).unwrap();
        if !name.is_empty() {
            snap(&store, gfid, name);
        }
    }
}

/// One that is armed for restore 1, to a; of a disperse volume.
fn armed(b: &TestBrick, at: &str) -> Gfid {
    let gfid = file(b, at, 1);
    setx(b.join(at), "trusted.ec.size", 70_001_u64.to_be_bytes()).unwrap();
    take_both(b, at, gfid);
    b.store().arm(gfid, &name("a"), id(1)).unwrap();
    gfid
}

/// One on which that restore's carrier has come, and no more.
fn half_restored(b: &TestBrick, at: &str) -> Gfid {
    let gfid = armed(b, at);
    b.store().carry(gfid, id(1)).unwrap();
    gfid
}

/// A deleted one with so many of these.
fn deleted(b: &TestBrick, at: &str, snapshots: usize) -> Gfid {
    let gfid = snapped(b, at);
    let store = b.store();
    if snapshots == 1 {
        store.delete(gfid, &name("b")).unwrap();
    }
    store.bury(gfid).unwrap();
    b.unlink(at);
    store.follow(gfid).unwrap();
    store.empty_grave(gfid).unwrap();
    gfid
}
