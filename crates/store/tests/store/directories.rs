//! Directories that are to go, and their `.fsnap`.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use fsnap_core::{Error, Gfid, layout};
use fsnap_store::Store;
use fsnap_testbed::{Fs, getx, removex, setx};

use crate::common::*;
use crate::healing::sound;

fn gone(b: &TestBrick, dir: Gfid) -> bool {
    !b.handle(dir.snap_dir()).is_symlink()
}

#[test]
fn an_empty_fsnap_goes_with_its_directory() {
    on_both(|b| {
        let store = b.store();
        let dir = b.make_dir("d");
        store.snap_dir(dir).unwrap();
        store.clear_snap_dir(dir).unwrap();
        assert!(gone(&b, dir) && names(&b.join("d")).is_empty());
        let before = b.tree();
        store.clear_snap_dir(dir).unwrap();
        assert_eq!(b.tree(), before);

        // DHT's link files count for nothing.
        store.snap_dir(dir).unwrap();
        let elsewhere: Vec<_> = (0..3).map(|_| next_gfid().snap_dir()).collect();
        for (i, &gfid) in elsewhere.iter().enumerate() {
            b.make_link_file(format!("d/.fsnap/f@{i}"), gfid);
        }
        // The handle of one is another file's by now.
        fs::remove_file(b.handle(elsewhere[2])).unwrap();
        fs::write(b.handle(elsewhere[2]), b"another").unwrap();
        store.clear_snap_dir(dir).unwrap();
        assert!(gone(&b, dir) && names(&b.join("d")).is_empty());
        assert!(!b.handle(elsewhere[0]).exists() && !b.handle(elsewhere[1]).exists());
        assert_eq!(fs::read(b.handle(elsewhere[2])).unwrap(), b"another");
        fs::remove_dir(b.join("d")).unwrap();
    });
}

#[test]
fn snapshots_keep_their_directory() {
    on_both(|b| {
        let store = b.store();
        b.make_dir("a b");
        let dir = b.make_dir("a b/d");
        let base = b.make_file("a b/d/f", b"x");
        snap(&store, base, "mon");
        b.make_link_file("a b/d/.fsnap/g@x", next_gfid().snap_dir());
        let before = b.tree();
        store.clear_snap_dir(dir).unwrap();
        assert_eq!(b.tree(), before, "storage/posix itself refuses to remove a directory with other entries");

        // A snapshot whose file has moved away but whose new place was taken.
        b.rename("a b/d/f", "f");
        let error = b.refuses(libc::ENOTEMPTY, || store.clear_snap_dir(dir));
        let text = "setfattr -n glusterfs.fsnap.delete -v mon 'MOUNT/a b/d/.fsnap/f@mon'";
        assert!(error.to_string().contains(text), "{error}");
        store.delete(base, &name("mon")).unwrap();
        store.clear_snap_dir(dir).unwrap();
        assert!(gone(&b, dir));

        // A deleted file and its snapshot: the text is about the snapshot.
        let kept = b.make_file("a b/d/k", b"x");
        snap(&store, kept, "tue");
        store.bury(kept).unwrap();
        b.unlink("a b/d/k");
        let error = b.refuses(libc::ENOTEMPTY, || store.clear_snap_dir(dir));
        assert!(error.to_string().contains("-v tue 'MOUNT/a b/d/.fsnap/k@tue'"), "{error}");
        assert_eq!(store.kept_in(dir), Ok([kept].into()));
        b.make_file("a b/d/another", b"x");
        assert_eq!(store.kept_in(dir), Ok([].into()), "it stays anyway");
        b.unlink("a b/d/another");
        store.delete(kept, &name("tue")).unwrap();
        store.clear_snap_dir(dir).unwrap();
        assert_eq!(store.kept_in(dir), Ok([].into()));

        // Whatever somebody has put there.
        store.snap_dir(dir).unwrap();
        fs::write(b.join("a b/d/.fsnap/note"), b"x").unwrap();
        let error = b.refuses(libc::ENOTEMPTY, || store.clear_snap_dir(dir));
        assert!(error.to_string().contains(".fsnap/note"), "{error}");
        fs::remove_file(b.join("a b/d/.fsnap/note")).unwrap();
        fs::create_dir(b.join("a b/d/.fsnap/dir")).unwrap();
        b.refuses(libc::ENOTEMPTY, || store.clear_snap_dir(dir));
        b.refuses(libc::ENOTEMPTY, || store.kept_in(dir));
    });
}

/// What rm -r does, as the translator goes with it.
fn remove_dir(b: &TestBrick, store: &Store, at: &str) {
    let dir = b.gfid(at);
    store.move_up(dir, &store.kept_in(dir).unwrap()).unwrap();
    store.clear_snap_dir(dir).unwrap();
    fs::remove_dir(b.join(at)).unwrap();
    fs::remove_file(b.handle(dir)).unwrap();
}

fn delete_file(b: &TestBrick, store: &Store, at: &str) -> Gfid {
    let file = b.gfid(at);
    store.bury(file).unwrap();
    b.unlink(at);
    store.follow(file).unwrap();
    store.empty_grave(file).unwrap();
    file
}

#[test]
fn what_is_kept_of_deleted_files_moves_up_with_the_path_that_it_had() {
    on_both(|b| {
        let store = b.store();
        for dir in ["top", "top/d", "top/d/50 %"] {
            b.make_dir(dir);
        }
        let long = "l".repeat(235);
        let files = ["top/f", "top/d/f", "top/d/50 %/f", "top/d/50 %/g", &format!("top/d/50 %/{long}")];
        for at in files {
            let file = b.make_file(at, at.as_bytes());
            fs::set_permissions(b.join(at), fs::Permissions::from_mode(0o664)).unwrap();
            snap(&store, file, "a");
            fs::write(b.join(at), b"more").unwrap();
            snap(&store, file, "b");
        }
        let files = files.map(|at| delete_file(&b, &store, at));
        let [here, f, deep, g, cut] = files;
        remove_dir(&b, &store, "top/d/50 %");
        let below = |path: &str, file: Gfid| {
            [format!("{path}@..{file}"), format!("{path}@a@~{file}"), format!("{path}@b@~{file}")]
        };
        let shown = format!("...%2F{}", &long[..146]);
        let mut all = [below("50 %25%2Ff", deep), below("50 %25%2Fg", g), below(&shown, cut)].concat();
        let digits = &f.to_string()[..8];
        all.extend([format!("f@.{f}"), format!("f@a@{digits}"), format!("f@b@{digits}")]);
        all.sort();
        assert_eq!(names(&b.join("top/d/.fsnap")), all);

        // It is the owner's alone, and can be commanded as before.
        let payload = b.record(deep, "a").gfid;
        assert_eq!(fs::metadata(b.handle(payload)).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(fs::read(b.handle(payload)).unwrap(), b"top/d/50 %/f");
        store.hold(deep, &name("a"), true).unwrap();
        b.refuses(libc::EBUSY, || store.delete(deep, &name("a")));
        store.hold(deep, &name("a"), false).unwrap();
        let error = b.refuses(libc::EOPNOTSUPP, || store.revive(deep, &name("a"), |_, _| Ok(())));
        assert!(error.to_string().contains("fsnap restore --to"), "{error}");
        drop(store);
        let (before, store) = (b.tree(), b.store());
        assert!(files.iter().all(|&file| store.is_deleted(file)));
        store.untidied().into_iter().for_each(|file| store.tidy(file));
        assert_eq!(b.tree(), before, "nothing to do at the next start");

        remove_dir(&b, &store, "top/d");
        let digits = &here.to_string()[..8];
        let shown = format!("...%2F{}", &long[..146]);
        let mut all = [
            below("d%2Ff", f),
            below("d%2F50 %25%2Ff", deep),
            below("d%2F50 %25%2Fg", g),
            below(&shown, cut),
            [format!("f@.{here}"), format!("f@a@{digits}"), format!("f@b@{digits}")],
        ]
        .concat();
        all.sort();
        assert_eq!(names(&b.join("top/.fsnap")), all);
        assert_eq!(b.names_of(payload, &["top/.fsnap"]), [format!("top/.fsnap/d%2F50 %25%2Ff@a@~{deep}")]);
        let was = store.buried_at(deep).unwrap().unwrap();
        assert_eq!((was.dir(), was.path()), (b.gfid("top"), &b"d/50 %/f"[..]));
        sound(&b);

        // All of it can go.
        remove_dir(&b, &store, "top");
        for file in files {
            for snapshot in ["a", "b"] {
                store.delete(file, &name(snapshot)).unwrap();
            }
            assert!(!b.handle(file).exists());
        }
        assert!(names(&b.join(".fsnap")).is_empty() && b.buried().is_empty());
        assert_eq!(store.kept_in(Gfid::ROOT), Ok([].into()));
    });
}

#[test]
fn where_it_can_not_move_up_the_directory_stays() {
    on_both(|b| {
        let store = b.store();
        b.make_dir("top");
        fs::create_dir(b.join("top/.fsnap")).unwrap();
        fs::write(b.join("top/.fsnap/mine"), b"x").unwrap();
        let dir = b.make_dir("top/d");
        snap(&store, b.make_file("top/d/f", b"x"), "a");
        let file = delete_file(&b, &store, "top/d/f");
        let kept = store.kept_in(dir).unwrap();
        assert_eq!(kept, [file].into());
        b.refuses(libc::ENOTEMPTY, || store.move_up(dir, &kept));
    });
}

#[test]
fn what_is_not_ours_is_not_removed() {
    let b = brick(Fs::Xfs);
    let store = b.store();
    let base = b.make_file("f", b"x");
    let dirs: Vec<_> = (0..5).map(|i| b.make_dir(format!("d{i}"))).collect();
    fs::create_dir(b.join("d0/.fsnap")).unwrap();
    fs::create_dir(b.join("d1/.fsnap")).unwrap();
    setx(b.join("d1/.fsnap"), "trusted.gfid", next_gfid().as_bytes()).unwrap();
    fs::write(b.join("d2/.fsnap"), b"mine").unwrap();
    symlink("/tmp", b.join("d3/.fsnap")).unwrap();
    let before = b.tree();
    for dir in dirs.into_iter().chain([base, next_gfid()]) {
        store.clear_snap_dir(dir).unwrap();
    }
    assert_eq!(b.tree(), before);
}

#[test]
fn a_directory_that_is_used_again_at_once() {
    on_both(|b| {
        let store = b.store();
        let dir = b.make_dir("d");
        for i in 0..40 {
            // The `.fsnap` is taken away, slowly, while a file moves in and its snapshots follow.
            let base = b.make_file(format!("f{i}"), b"x");
            snap(&store, base, "a");
            store.snap_dir(dir).unwrap();
            for j in 0..10 {
                b.make_link_file(format!("d/.fsnap/l@{j}"), next_gfid().snap_dir());
            }
            std::thread::scope(|threads| {
                threads.spawn(|| match store.clear_snap_dir(dir) {
                    Ok(()) | Err(Error::NotEmpty(_)) => {}
                    Err(e) => panic!("{e}"),
                });
                std::thread::sleep(std::time::Duration::from_micros(i * 20));
                b.rename(format!("f{i}"), format!("d/f{i}"));
                store.follow(base).unwrap();
            });
            assert!(b.join(format!("d/.fsnap/f{i}@a")).exists());
            store.delete(base, &name("a")).unwrap();
            b.unlink(format!("d/f{i}"));
            store.clear_snap_dir(dir).unwrap();
        }
    });
}

#[test]
fn whole_trees() {
    on_both(|b| {
        let store = b.store();
        let top = b.make_dir("t");
        let has = || store.tree_has_snapshots(top).unwrap();
        assert!(!has());
        let mut at = String::from("t");
        for i in 0..60 {
            at += "/d";
            b.make_dir(&at);
            b.make_dir(format!("{at}/empty{i}"));
            b.make_file(format!("{at}/file"), b"x");
        }
        store.snap_dir(b.gfid(&at)).unwrap();
        b.make_link_file(format!("{at}/.fsnap/g@x"), next_gfid().snap_dir());
        symlink("..", b.join(format!("{at}/loop"))).unwrap();
        symlink("/", b.join(format!("{at}/root"))).unwrap();
        fs::create_dir_all(b.join("t/d/d/.fsnap")).unwrap();
        fs::write(b.join("t/d/d/.fsnap/foreign"), b"x").unwrap();
        snap(&store, b.make_file("f", b"x"), "outside");
        assert!(!has());
        let base = b.gfid(format!("{at}/file"));
        snap(&store, base, "a");
        assert!(has());
        store.delete(base, &name("a")).unwrap();
        assert!(!has());
        let first = b.make_file("t/f", b"x");
        snap(&store, first, "a");
        assert!(has(), "in the directory itself");
        assert_eq!(store.tree_has_snapshots(next_gfid()), Err(Error::Gone));
        let error = store.tree_has_snapshots(first).unwrap_err();
        assert!(matches!(error, Error::Os { errno: libc::ENOTDIR, .. }), "{error}");
    });
}

/// `.fsnap` has the layout of its directory as it is now, or none.
#[test]
fn the_layout_of_a_directory() {
    on_both(|b| {
        let store = b.store();
        let dir = b.make_dir("d");
        let words = |words: [u32; 4]| words.map(u32::to_be_bytes).concat();
        let has = || getx(b.join("d/.fsnap"), layout::XATTR).ok();
        store.snap_dir(dir).unwrap();
        assert_eq!(has(), None);
        for (above, below) in
            [([9, 0, 5, 70], [1, 0, 5, 70]), ([9, 0, 0, 0], [0; 4]), ([7, 0, 71, 99], [1, 0, 71, 99])]
        {
            setx(b.join("d"), layout::XATTR, words(above)).unwrap();
            assert!(store.has_snap_dir(dir).unwrap());
            assert_eq!(has(), Some(words(below)));
        }
        setx(b.join("d"), layout::XATTR, b"nonsense").unwrap();
        assert!(store.has_snap_dir(dir).unwrap());
        assert_eq!(has(), None, "what DHT can't read is none");
        setx(b.join("d"), layout::XATTR, words([9, 0, 5, 70])).unwrap();
        let other = b.make_dir("e");
        setx(b.join("e"), layout::XATTR, words([9, 0, 5, 70])).unwrap();
        store.snap_dir(other).unwrap();
        assert_eq!(getx(b.join("e/.fsnap"), layout::XATTR).ok(), Some(words([1, 0, 5, 70])));
        removex(b.join("d"), layout::XATTR).unwrap();
        assert!(store.has_snap_dir(dir).unwrap());
        assert_eq!(has(), None);
    });
}
