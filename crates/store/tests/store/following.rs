//! Snapshots follow their file.

use std::fs;
use std::os::unix::fs::MetadataExt;

use fsnap_core::Gfid;
use fsnap_core::gfid2path::Link;
use fsnap_testbed::{Fs, content, getx, removex, setx};

use crate::common::*;

#[test]
fn within_a_directory_and_across() {
    on_both(|b| {
        let store = b.store();
        b.make_dir("d");
        b.make_dir("e");
        let base = b.make_file("d/f", &content(20_000, 1));
        let gfids = ["a", "b"].map(|n| snap(&store, base, n).gfid);
        let inode = fs::metadata(b.handle(gfids[0])).unwrap().ino();
        for (from, to) in [("d/f", "d/g"), ("d/g", "e/g"), ("e/g", "h"), ("h", "d/f")] {
            b.rename(from, to);
            store.follow(base).unwrap();
            let (dir, file) = to.rsplit_once('/').map_or(("", to), |(dir, file)| (dir, file));
            let snaps = format!("{dir}/.fsnap").trim_start_matches('/').to_owned();
            assert_eq!(names(&b.join(&snaps)), [format!("{file}@a"), format!("{file}@b")], "{to}");
            assert_eq!(b.names_of(gfids[0], &[&snaps]), [format!("{snaps}/{file}@a")]);
            assert_eq!(b.names_of(gfids[1], &[&snaps]), [format!("{snaps}/{file}@b")]);
            let before = b.tree();
            store.follow(base).unwrap();
            assert_eq!(b.tree(), before, "nothing to do the second time");
        }
        assert_eq!(fs::metadata(b.join("d/.fsnap/f@a")).unwrap().ino(), inode);
        assert!(fs::read(b.join("d/.fsnap/f@a")).unwrap() == content(20_000, 1));
        assert_eq!(listed(&store, base), ["a", "b"]);
        store.restore(base, &name("a")).unwrap();
        store.delete(base, &name("a")).unwrap();
        assert_eq!(names(&b.join("d/.fsnap")), ["f@b"]);
        assert!(names(&b.join("e/.fsnap")).is_empty() && names(&b.join(".fsnap")).is_empty());
    });
}

#[test]
fn there_is_nothing_to_do_for_others() {
    let b = brick(Fs::Xfs);
    let store = b.store();
    let dir = b.make_dir("d");
    let base = b.make_file("d/f", b"x");
    let before = b.tree();
    store.follow(base).unwrap();
    assert_eq!(b.tree(), before, "no snapshots");
    b.refuses(libc::ESTALE, || store.follow(next_gfid()));
    b.refuses(libc::EINVAL, || store.follow(dir));
    snap(&store, base, "a");
    // A directory takes its `.fsnap` along.
    b.rename_dir("d", "e");
    let before = b.tree();
    store.follow(base).unwrap();
    assert_eq!(b.tree(), before, "it is the same directory");
    assert!(b.join("e/.fsnap/f@a").exists());
}

#[test]
fn hard_links() {
    on_both(|b| {
        let store = b.store();
        for dir in ["d", "e", "g"] {
            b.make_dir(dir);
        }
        let base = b.make_file("d/f", b"x");
        let gfid = snap(&store, base, "a").gfid;
        b.link("d/f", "e/f");
        b.link("d/f", "g/f");
        let before = b.tree();
        store.follow(base).unwrap();
        assert_eq!(b.tree(), before, "beside any name is good");

        // Without the name that it lies beside it goes to the smallest of the others.
        let mut rest = ["e/f", "g/f"];
        rest.sort_by_key(|at| b.link_of(at.as_ref()));
        b.unlink("d/f");
        store.follow(base).unwrap();
        let place = |at: &str| at.replace("/f", "/.fsnap/f@a");
        assert!(b.join(place(rest[0])).exists() && !b.join("d/.fsnap/f@a").exists());
        assert_eq!(b.names_of(gfid, &["e/.fsnap", "g/.fsnap"]), [place(rest[0])]);

        // An xattr of a name that is another file's counts for nothing: a rename over one of several leaves it so.
        b.make_file("other", b"y");
        b.rename("other", rest[0]);
        store.follow(base).unwrap();
        assert!(b.join(place(rest[1])).exists() && !b.join(place(rest[0])).exists());
        assert_eq!(listed(&store, base), ["a"]);
    });
}

#[test]
fn places_that_are_taken() {
    on_both(|b| {
        let store = b.store();
        b.make_dir("d");
        let first = b.make_file("f", b"first");
        let second = b.make_file("g", b"second");
        for (base, n) in [(first, "a"), (first, "b"), (second, "a"), (second, "c")] {
            snap(&store, base, n);
        }
        b.rename("g", "d/g");
        store.follow(second).unwrap();
        b.rename("f", "d/x");
        // g takes the place of f, and its snapshot that of one which did not follow.
        b.rename("d/g", "f");
        store.follow(second).unwrap();
        assert_eq!(names(&b.join(".fsnap")), ["f@a", "f@b", "f@c"]);
        assert_eq!(names(&b.join("d/.fsnap")), ["g@a"]);
        assert_eq!(fs::read(b.join(".fsnap/f@a")).unwrap(), b"first");
        assert_eq!(listed(&store, second), ["a", "c"]);
        fs::write(b.join("f"), b"changed").unwrap();
        store.restore(second, &name("a")).unwrap();
        assert_eq!(fs::read(b.join("f")).unwrap(), b"second");
        // As soon as the place is free it goes there.
        store.follow(first).unwrap();
        store.follow(second).unwrap();
        assert_eq!(names(&b.join(".fsnap")), ["f@a", "f@c"]);
        assert_eq!(names(&b.join("d/.fsnap")), ["x@a", "x@b"]);
        assert_eq!(fs::read(b.join(".fsnap/f@a")).unwrap(), b"second");
    });
}

#[test]
fn names_that_are_too_long() {
    let b = brick(Fs::Xfs);
    let store = b.store();
    let base = b.make_file("f", b"x");
    snap(&store, base, "s");
    snap(&store, base, "longer");
    let long = "n".repeat(252);
    b.rename("f", &long);
    store.follow(base).unwrap();
    assert_eq!(names(&b.join(".fsnap")), ["f@longer", &format!("{long}@s")]);
    b.rename(&long, "g");
    store.follow(base).unwrap();
    assert_eq!(names(&b.join(".fsnap")), ["g@longer", "g@s"]);
}

/// All states that a crash can leave a move in.
#[test]
fn half_done_moves() {
    on_both(|b| {
        let store = b.store();
        b.make_dir("d");
        b.make_dir("e");
        store.snap_dir(b.gfid("e")).unwrap();
        for step in 0..4 {
            eprintln!("step {step}");
            let (from, to) = (format!("d/f{step}"), format!("e/f{step}"));
            let (old, new) = (format!("d/.fsnap/f{step}@a"), format!("e/.fsnap/f{step}@a"));
            let base = b.make_file(&from, b"x");
            let gfid = snap(&store, base, "a").gfid;
            b.rename(&from, &to);
            let link = Link { parent: b.gfid("e/.fsnap"), name: format!("f{step}@a").into_bytes() };
            if step > 0 {
                setx(b.handle(gfid), link.key(), link.encode()).unwrap();
            }
            match step {
                2 => fs::rename(b.join(&old), b.join(&new)).unwrap(),
                // Two names, as a file system may leave of a rename.
                3 => fs::hard_link(b.join(&old), b.join(&new)).unwrap(),
                _ => {}
            }
            store.follow(base).unwrap();
            assert!(b.join(&new).exists() && !b.join(&old).exists());
            assert_eq!(b.names_of(gfid, &["e/.fsnap"]), [new.as_str()]);
            assert_eq!(fs::metadata(b.join(&new)).unwrap().nlink(), 2);

            // And when the file went back after the crash.
            setx(b.handle(gfid), link.key(), link.encode()).unwrap();
            b.rename(&to, &from);
            store.follow(base).unwrap();
            assert_eq!(b.names_of(gfid, &["d/.fsnap"]), [old.as_str()]);
            let ghost = Link { name: b"ghost".to_vec(), ..link };
            setx(b.handle(gfid), ghost.key(), ghost.encode()).unwrap();
            store.follow(base).unwrap();
            assert_eq!(b.names_of(gfid, &["d/.fsnap"]), [old.as_str()]);
        }
    });
}

#[test]
fn pgfid_counts_follow() {
    let b = brick(Fs::Xfs);
    let store = b.store();
    let (d, e) = (b.make_dir("d"), b.make_dir("e"));
    let base = b.make_file("d/f", b"x");
    let key = |dir: Gfid| format!("trusted.pgfid.{dir}");
    setx(b.join("d/f"), key(d), 1u32.to_be_bytes()).unwrap();
    let gfid = snap(&store, base, "a").gfid;
    assert_eq!(getx(b.handle(gfid), key(d.snap_dir())).unwrap(), [0, 0, 0, 1]);
    b.rename("d/f", "d/g");
    store.follow(base).unwrap();
    assert_eq!(getx(b.handle(gfid), key(d.snap_dir())).unwrap(), [0, 0, 0, 1]);
    b.rename("d/g", "e/g");
    store.follow(base).unwrap();
    assert_eq!(getx(b.handle(gfid), key(e.snap_dir())).unwrap(), [0, 0, 0, 1]);
    assert!(getx(b.handle(gfid), key(d.snap_dir())).is_err());
}

#[test]
fn what_is_damaged_stays() {
    let b = brick(Fs::Xfs);
    let store = b.store();
    b.make_dir("d");
    let base = b.make_file("f", b"x");
    let gfids = ["a", "b", "c", "d"].map(|n| snap(&store, base, n).gfid);
    setx(b.handle(gfids[1]), "trusted.fsnap.record", b"garbage").unwrap();
    fs::remove_file(b.join(".fsnap/f@c")).unwrap();
    let key = b.link_of(".fsnap/f@d".as_ref()).key();
    setx(b.handle(gfids[3]), &key, b"garbage").unwrap();
    b.rename("f", "d/f");
    assert_eq!(store.follow(base).unwrap_err().errno(), libc::EIO);
    assert_eq!(
        names(&b.join("d/.fsnap")),
        ["f@a", "f@c"],
        "the others are not kept by it; what had lost its name has one again"
    );
    assert_eq!(names(&b.join(".fsnap")), ["f@b", "f@d"]);
    removex(b.handle(gfids[3]), key).unwrap();

    // A foreign .fsnap where they are to go.
    b.make_dir("e");
    fs::create_dir(b.join("e/.fsnap")).unwrap();
    b.rename("d/f", "e/f");
    let error = store.follow(base).unwrap_err();
    assert!(matches!(error.errno(), libc::EIO | libc::EOPNOTSUPP), "{error}");
    assert_eq!(names(&b.join("d/.fsnap")), ["f@a", "f@c"]);
    assert!(names(&b.join("e/.fsnap")).is_empty());
}

#[test]
fn many_at_once() {
    on_both(|b| {
        let store = b.store();
        b.make_dir("d");
        b.make_dir("e");
        let bases: Vec<_> = (0..6).map(|i| b.make_file(format!("d/f{i}"), &content(9000, i))).collect();
        std::thread::scope(|threads| {
            for (i, &base) in bases.iter().enumerate() {
                let (store, b) = (&store, &b);
                threads.spawn(move || {
                    for n in 0..5 {
                        let (from, to) = if n % 2 == 0 { ("d", "e") } else { ("e", "d") };
                        snap(store, base, &format!("s{n}"));
                        b.rename(format!("{from}/f{i}"), format!("{to}/f{i}"));
                        store.follow(base).unwrap();
                    }
                });
            }
        });
        assert_eq!(names(&b.join("e/.fsnap")).len(), 30);
        assert!(names(&b.join("d/.fsnap")).is_empty());
        assert!(fs::read(b.join("e/.fsnap/f3@s2")).unwrap() == content(9000, 3));
    });
}
