//! Where snapshots go: `.fsnap`, its rights, and the ways to files.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

use fsnap_core::{Error, Gfid};
use fsnap_testbed::{Fs, content, getx, setx};

use crate::common::*;

fn rights(path: impl AsRef<std::path::Path>) -> (u32, u32, u32) {
    let meta = fs::metadata(path).unwrap();
    (meta.mode() & 0o7777, meta.uid(), meta.gid())
}

#[test]
fn fsnap_has_its_parents_rights() {
    on_both(|b| {
        let store = b.store();
        let dir = b.make_dir("d");
        let (parent, snaps) = (b.join("d"), b.join("d/.fsnap"));
        chown(&parent, Some(11), Some(22)).unwrap();
        fs::set_permissions(&parent, fs::Permissions::from_mode(0o3751)).unwrap();
        tool("setfacl", &["-d", "-m", "u:5:rwx"], &parent);
        let gfid = store.snap_dir(dir).unwrap();
        assert_eq!(gfid, dir.snap_dir());
        assert_eq!(rights(&snaps), (0o551, 11, 22));
        assert_eq!(getx(&snaps, "trusted.gfid").unwrap(), gfid.as_bytes());
        assert_eq!(tool("getfacl", &["-cnEp"], &snaps).trim(), "user::r-x\ngroup::r-x\nother::--x");
        let [x, y, ..] = dir.as_bytes();
        let target = fs::read_link(b.handle(gfid)).unwrap();
        assert_eq!(target.to_str().unwrap(), format!("../../{x:02x}/{y:02x}/{dir}/.fsnap"));
        let before = b.tree();
        store.snap_dir(dir).unwrap();
        assert_eq!(b.tree(), before, "nothing to do the second time");

        tool("setfacl", &["-m", "u:5:rwx,m::rwx"], &parent);
        chown(&parent, Some(33), Some(44)).unwrap();
        store.snap_dir(dir).unwrap();
        assert_eq!(rights(&snaps), (0o551, 33, 44));
        let acl = "user::r-x\nuser:5:r-x\ngroup::r-x\nmask::r-x\nother::--x";
        assert_eq!(tool("getfacl", &["-cnEp"], &snaps).trim(), acl);
        let before = b.tree();
        store.snap_dir(dir).unwrap();
        assert_eq!(b.tree(), before, "nothing to do with an ACL either");

        tool("setfacl", &["-b"], &parent);
        tool("setfacl", &["-d", "-m", "u:6:rwx"], &snaps);
        fs::set_permissions(&parent, fs::Permissions::from_mode(0o700)).unwrap();
        fs::remove_file(b.handle(gfid)).unwrap();
        store.snap_dir(dir).unwrap();
        assert_eq!(rights(&snaps), (0o500, 33, 44));
        assert_eq!(tool("getfacl", &["-cnEp"], &snaps).trim(), "user::r-x\ngroup::---\nother::---");
        assert_eq!(fs::read_link(b.handle(gfid)).unwrap(), target);
    });
}

#[test]
fn looking_makes_no_fsnap() {
    on_both(|b| {
        let store = b.store();
        let dir = b.make_dir("d");
        let before = b.tree();
        assert_eq!(store.has_snap_dir(dir), Ok(false));
        assert_eq!(b.tree(), before);
        store.snap_dir(dir).unwrap();
        // But what is there is set right.
        fs::set_permissions(b.join("d"), fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(store.has_snap_dir(dir), Ok(true));
        assert_eq!(rights(b.join("d/.fsnap")).0, 0o500);
    });
}

#[test]
fn there_is_no_fsnap_in_fsnap() {
    let b = brick(Fs::Xfs);
    let store = b.store();
    let dir = b.make_dir("d");
    let base = b.make_file("d/f", b"x");
    let payload = snap(&store, base, "a").gfid;
    let stray = b.make_file("d/.fsnap/stray", b"x");
    let below = b.make_dir("d/.fsnap/below");
    b.refuses(libc::EROFS, || store.snap_dir(dir.snap_dir()));
    b.refuses(libc::EROFS, || store.snap_dir(below));
    b.refuses(libc::EROFS, || store.create(payload, &bare("b"), &PLENTY));
    b.refuses(libc::EROFS, || store.restore(payload, &name("a")));
    b.refuses(libc::EROFS, || store.create(stray, &bare("b"), &PLENTY));
    // storage/posix never gives .glusterfs a gfid; somebody might.
    let glusterfs = next_gfid();
    setx(b.join(".glusterfs"), "trusted.gfid", glusterfs.as_bytes()).unwrap();
    fs::create_dir_all(b.handle(glusterfs).parent().unwrap()).unwrap();
    symlink(format!("../../00/00/{}/.glusterfs", Gfid::ROOT), b.handle(glusterfs)).unwrap();
    b.refuses(libc::EOPNOTSUPP, || store.snap_dir(glusterfs));
}

#[test]
fn a_foreign_fsnap_is_left_alone() {
    let b = brick(Fs::Xfs);
    let store = b.store();
    let make: [&dyn Fn(&std::path::Path); 5] = [
        &|at| fs::create_dir(at).unwrap(),
        &|at| {
            fs::create_dir(at).unwrap();
            setx(at, "trusted.gfid", next_gfid().as_bytes()).unwrap();
        },
        &|at| fs::write(at, b"mine").unwrap(),
        &|at| symlink("/tmp", at).unwrap(),
        &|at| {
            fs::create_dir(at).unwrap();
            setx(at, "trusted.gfid", b"short").unwrap();
        },
    ];
    for (i, make) in make.iter().enumerate() {
        let dir = b.make_dir(format!("d{i}"));
        let base = b.make_file(format!("d{i}/f"), b"x");
        make(&b.join(format!("d{i}/.fsnap")));
        let error = b.refuses(libc::EOPNOTSUPP, || store.snap_dir(dir));
        assert!(error.to_string().contains("foreign"), "{error}");
        b.refuses(libc::EOPNOTSUPP, || store.create(base, &bare("a"), &PLENTY));
    }
    let dir = b.make_dir("taken");
    fs::create_dir_all(b.handle(dir.snap_dir()).parent().unwrap()).unwrap();
    symlink("../../..", b.handle(dir.snap_dir())).unwrap();
    assert_eq!(store.snap_dir(dir).unwrap_err().errno(), libc::EIO);
    assert_eq!(fs::read_link(b.handle(dir.snap_dir())).unwrap().to_str(), Some("../../.."));
}

#[test]
fn one_fsnap_for_many_threads() {
    on_both(|b| {
        let store = b.store();
        for round in 0..20 {
            let dir = b.make_dir(format!("d{round}"));
            std::thread::scope(|threads| {
                for _ in 0..8 {
                    threads.spawn(|| assert_eq!(store.snap_dir(dir).unwrap(), dir.snap_dir()));
                }
            });
        }
        assert_eq!(
            names(&b.join(".glusterfs/fsnap")),
            ["armed", "awaited", "buried", "format", "intents", "lost", "pending"]
        );
    });
}

#[test]
fn sixty_directories_deep() {
    on_both(|b| {
        let store = b.store();
        let mut at = String::from("d");
        b.make_dir(&at);
        for _ in 1..60 {
            at += "/d";
            b.make_dir(&at);
        }
        let base = b.make_file(format!("{at}/f"), &content(9000, 1));
        snap(&store, base, "a");
        fs::write(b.join(format!("{at}/f")), b"changed").unwrap();
        assert!(fs::read(b.join(format!("{at}/.fsnap/f@a"))).unwrap() == content(9000, 1));
        store.restore(base, &name("a")).unwrap();
        store.delete(base, &name("a")).unwrap();
        assert!(names(&b.join(format!("{at}/.fsnap"))).is_empty());
    });
}

#[test]
fn of_hard_links_the_smallest_is_taken() {
    let b = brick(Fs::Xfs);
    let store = b.store();
    b.make_dir("d1");
    b.make_dir("d2");
    let base = b.make_file("d1/m", b"x");
    for other in ["d2/a", "d1/z", "d1/b"] {
        fs::hard_link(b.join("d1/m"), b.join(other)).unwrap();
        b.note_link(other);
    }
    let all = ["d1/m", "d2/a", "d1/z", "d1/b"];
    let place = |of: &[&str]| {
        let least = of.iter().min_by_key(|at| b.link_of(at.as_ref())).unwrap();
        let (dir, file) = least.split_once('/').unwrap();
        format!("{dir}/.fsnap/{file}")
    };
    snap(&store, base, "one");
    assert!(b.join(format!("{}@one", place(&all))).exists());
    // An xattr that tells of a name that is another file's is passed over.
    let gone = all.iter().min_by_key(|at| b.link_of(at.as_ref())).unwrap();
    let rest: Vec<_> = all.iter().filter(|at| at != &gone).copied().collect();
    fs::remove_file(b.join(gone)).unwrap();
    fs::write(b.join(gone), b"another file").unwrap();
    snap(&store, base, "two");
    assert!(b.join(format!("{}@two", place(&rest))).exists());
    assert_eq!(listed(&store, base), ["one", "two"]);
}

#[test]
fn names_that_are_not_text() {
    use std::os::unix::ffi::OsStrExt;
    let b = brick(Fs::Xfs);
    let store = b.store();
    let file = std::ffi::OsStr::from_bytes(b"\xff\xfe \n@x");
    let base = b.make_file(file, b"x");
    snap(&store, base, "a");
    let leaf = std::ffi::OsStr::from_bytes(b".fsnap/\xff\xfe \n@x@a");
    assert_eq!(fs::read(b.join(leaf)).unwrap(), b"x");
    store.delete(base, &name("a")).unwrap();
    assert!(!b.join(leaf).exists());
}

#[test]
fn directories_are_found_while_they_move() {
    let b = brick(Fs::Xfs);
    let store = b.store();
    let (one, two) = (b.make_dir("one"), b.make_dir("two"));
    let dir = b.make_dir("one/d");
    let handle = b.handle(dir);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let mut here = (one, "one/d");
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let there = if here.0 == one { (two, "two/d") } else { (one, "one/d") };
                fs::rename(b.join(here.1), b.join(there.1)).unwrap();
                let [x, y, ..] = there.0.as_bytes();
                symlink(format!("../../{x:02x}/{y:02x}/{}/d", there.0), b.join("new")).unwrap();
                fs::rename(b.join("new"), &handle).unwrap();
                here = there;
                std::thread::sleep(std::time::Duration::from_micros(300));
            }
        });
        for _ in 0..300 {
            match store.snap_dir(dir) {
                Ok(gfid) => assert_eq!(gfid, dir.snap_dir()),
                Err(e) => assert_eq!(e, Error::Gone),
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(store.snap_dir(dir).unwrap(), dir.snap_dir());
}

/// A rename from one hard link to another does nothing, but storage/posix takes the old name's xattr away.
#[test]
fn a_name_that_was_forgotten_is_noted_again() {
    on_both(|b| {
        let store = b.store();
        let root = b.gfid("");
        let file = b.make_file("f", &content(100, 1));
        b.link("f", "g");
        b.rename("f", "g");
        assert_eq!(b.names_of(file, &[""]), ["/g"], "f is there, and nobody knows");
        store.note_name(file, root, b"f").unwrap();
        assert_eq!(b.names_of(file, &[""]), ["/f", "/g"]);
        // Only names that it has.
        store.note_name(file, root, b"h").unwrap();
        assert_eq!(b.names_of(file, &[""]), ["/f", "/g"]);
        b.unlink("g");
        store.create(file, &bare("s"), &PLENTY).unwrap();
        assert!(b.join(".fsnap/f@s").exists());
    });
}

/// Its handle may outlive the last name of a file, as long as somebody has it open.
#[test]
fn a_file_without_a_name_is_gone() {
    on_both(|b| {
        let store = b.store();
        let file = b.make_file("f", &content(100, 1));
        fs::remove_file(b.join("f")).unwrap();
        b.refuses(libc::ESTALE, || store.create(file, &bare("s"), &PLENTY));
    });
}

/// Of several names the owner's decide, and not those that somebody else has given his file.
#[test]
fn no_stranger_decides_where_snapshots_lie() {
    const OWNER: u32 = 11;
    on_both(|b| {
        let store = b.store();
        for (dir, uid, mode) in
            [("mine", OWNER, 0o755), ("roots", 0, 0o755), ("all", 0, 0o1777), ("theirs", 22, 0o700)]
        {
            b.make_dir(dir);
            chown(b.join(dir), Some(uid), Some(uid)).unwrap();
            fs::set_permissions(b.join(dir), fs::Permissions::from_mode(mode)).unwrap();
        }
        let long = "l".repeat(250);
        // Whichever of the names is the smallest.
        for n in 0..6 {
            let (mine, theirs) = (format!("mine/f{n}"), format!("theirs/{}{n}", &long[..249]));
            let base = b.make_file(&mine, b"x");
            chown(b.join(&mine), Some(OWNER), Some(OWNER)).unwrap();
            for to in [&theirs, &format!("all/g{n}"), &format!("roots/h{n}")] {
                b.link(&mine, to);
            }
            snap(&store, base, "snapshot");
            assert!(b.join(format!("mine/.fsnap/f{n}@snapshot")).exists(), "{n}");
            // Without his own, root's.
            b.unlink(&mine);
            store.follow(base).unwrap();
            assert!(b.join(format!("roots/.fsnap/h{n}@snapshot")).exists(), "{n}");
            // There they stay together, also when a better name comes, or the directory is not root's any more.
            b.link(format!("roots/h{n}"), &mine);
            snap(&store, base, "another");
            store.follow(base).unwrap();
            assert!(b.join(format!("roots/.fsnap/h{n}@another")).exists(), "{n}");
            // What is too long is no place as long as there is another.
            b.unlink(&mine);
            b.unlink(format!("roots/h{n}"));
            b.unlink(format!("all/g{n}"));
            store.follow(base).unwrap();
            assert!(b.join(format!("roots/.fsnap/h{n}@another")).exists(), "{n}: nowhere to go");
            b.refuses(libc::ENAMETOOLONG, || store.create(base, &bare("third"), &PLENTY));
            b.link(&theirs, &mine);
            store.follow(base).unwrap();
            assert_eq!(names(&b.join("roots/.fsnap")), Vec::<String>::new(), "{n}");
            assert!(b.join(format!("mine/.fsnap/f{n}@another")).exists(), "{n}");
            for snapshot in ["snapshot", "another"] {
                store.delete(base, &name(snapshot)).unwrap();
            }
        }
        assert!(!b.join("theirs/.fsnap").exists() && !b.join("all/.fsnap").exists());
    });
}
