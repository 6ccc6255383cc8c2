//! Snapshots come, are looked at, and go.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use fsnap_core::command::Create;
use fsnap_core::{Gfid, mdata};
use fsnap_store::Watch;
use fsnap_testbed::{Fs, content, df_used, getx, listx, removex, setx};

use crate::common::*;

#[test]
fn three_snapshots_of_a_changing_file() {
    on_both(|b| {
        let store = b.store();
        assert!(store.reflink());
        let dir = b.make_dir("d");
        let versions: Vec<_> = (0..4).map(|i| content(3 * MIB + 777 * i, i as u64)).collect();
        let base = b.make_file("d/vm.img", &versions[0]);
        let ino = fs::metadata(b.join("d/vm.img")).unwrap().ino();
        for (i, n) in ["one", "two", "three"].iter().enumerate() {
            let cloned = snap(&store, base, n);
            assert_eq!(cloned.gfid, base.payload(&name(n), None, i as u64 + 1));
            fs::write(b.join("d/vm.img"), &versions[i + 1]).unwrap();
        }
        let at = |n: &str| b.join(format!("d/.fsnap/vm.img@{n}"));
        for (i, n) in ["one", "two", "three"].iter().enumerate() {
            assert!(fs::read(at(n)).unwrap() == versions[i], "{n}");
        }
        assert_eq!(listed(&store, base), ["one", "two", "three"]);
        assert_eq!(getx(b.join("d/.fsnap"), "trusted.gfid").unwrap(), dir.snap_dir().as_bytes());

        let two = b.record(base, "two").gfid;
        store.delete(base, &name("two")).unwrap();
        assert!(!at("two").exists() && !b.handle(two).exists());
        assert_eq!(listed(&store, base), ["one", "three"]);
        assert_eq!(store.delete(base, &name("two")).unwrap_err().errno(), libc::ENODATA);

        for (n, i) in [("three", 2), ("one", 0), ("three", 2)] {
            store.restore(base, &name(n)).unwrap();
            assert!(fs::read(b.join("d/vm.img")).unwrap() == versions[i], "{n}");
            assert!(
                fs::read(at("one")).unwrap() == versions[0] && fs::read(at("three")).unwrap() == versions[2]
            );
        }
        assert_eq!(fs::metadata(b.join("d/vm.img")).unwrap().ino(), ino);
        assert_eq!((b.intents().len(), b.lost().len()), (0, 0));

        // A name that is free again gets another gfid: seq never goes back.
        assert_ne!(snap(&store, base, "two").gfid, two);
        assert_eq!(b.record(base, "two").seq, 4);
        assert_eq!(listed(&store, base), ["one", "three", "two"]);
    });
}

/// What is told of the catalogue is never the middle of a change.
#[test]
fn questions_amid_changes() {
    on_both(|b| {
        let store = b.store();
        b.make_dir("d");
        let base = b.make_file("d/f", &content(MIB, 1));
        snap(&store, base, "stays");
        let (over, mut seen) = (AtomicBool::new(false), [0; 2]);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..300 {
                    snap(&store, base, "a");
                    store.delete(base, &name("a")).unwrap();
                }
                over.store(true, Ordering::Relaxed);
            });
            while !over.load(Ordering::Relaxed) {
                let list = store.list(base).unwrap();
                assert!(list.iter().all(|snapshot| snapshot.size == Some(MIB as u64)), "{list:?}");
                assert_eq!(list[0].name, name("stays"));
                seen[list.len() - 1] += 1;
                match store.info(base, &name("a")) {
                    Ok(snapshot) => assert_eq!(snapshot.size, Some(MIB as u64)),
                    Err(e) => assert_eq!(e.errno(), libc::ENODATA, "{e}"),
                }
            }
        });
        assert!(seen.iter().all(|&times| times > 0), "{seen:?}");
    });
}

/// Who watches is told of each file that is locked, and of its end: also of one that fails.
#[test]
fn what_is_locked_is_told() {
    type Told = Vec<(Gfid, Option<bool>)>;
    struct Book(Arc<Mutex<Told>>);
    impl Watch for Book {
        fn begins(&self, file: Gfid, readers: bool) {
            self.0.lock().unwrap().push((file, Some(readers)));
        }
        fn ends(&self, file: Gfid) {
            self.0.lock().unwrap().push((file, None));
        }
    }
    on_both(|b| {
        let store = b.store();
        let told = Arc::new(Mutex::new(Vec::new()));
        store.watch(Book(Arc::clone(&told)));
        let base = b.make_file("f", &content(MIB, 1));
        let cloned = snap(&store, base, "a");
        let took = std::mem::take(&mut *told.lock().unwrap());
        let [(file, Some(_)), (same, None)] = took[..] else { panic!("{took:?}") };
        assert_eq!((file, same), (base, base));
        store.create(base, &bare("a"), &PLENTY).unwrap_err();
        assert!(told.lock().unwrap().is_empty(), "nothing was cloned");
        fs::write(b.join("f"), content(2 * MIB, 2)).unwrap();
        store.restore(base, &name("a")).unwrap();
        let took = std::mem::take(&mut *told.lock().unwrap());
        assert!(took.contains(&(base, Some(true))), "who reads it waits: {took:?}");
        for file in [base, cloned.gfid] {
            let of = |begins: bool| took.iter().filter(|t| t.0 == file && t.1.is_some() == begins).count();
            assert!(of(true) > 0 && of(true) == of(false), "{took:?}");
        }
    });
}

#[test]
fn blocks_are_shared() {
    for fs in reflink() {
        let (_disk, b) = own_disk(fs, 400 << 20);
        let store = b.store();
        let base = b.make_file("big", &content(64 * MIB, 1));
        // With the first snapshot on a brick comes the reserve for a full disk.
        let first = b.make_file("first", b"");
        snap(&store, first, "a");
        let before = df_used(&b.path);
        snap(&store, base, "a");
        let grown = df_used(&b.path).saturating_sub(before);
        assert!(grown < 8 * MIB as u64, "{grown} bytes for a snapshot of 64 MiB");
        let extents = tool("filefrag", &["-v"], b.join(".fsnap/big@a"));
        assert!(extents.contains("shared"), "{extents}");
        fs::write(b.join("big"), b"small").unwrap();
        store.restore(base, &name("a")).unwrap();
        let grown = df_used(&b.path).saturating_sub(before);
        assert!(grown < 8 * MIB as u64, "{grown} bytes after the restore");
        assert!(fs::read(b.join("big")).unwrap() == content(64 * MIB, 1));
    }
}

#[test]
fn records_are_as_documented() {
    let b = brick(Fs::Xfs);
    let store = b.store();
    let base = b.make_file("f", b"x");
    let id = next_gfid();
    let what = Create { name: name("m"), created: Some(time("1700000000.000000001")), id: Some(id) };
    let gfid = store.create(base, &what, &PLENTY).unwrap().gfid;
    let digits = |gfid: Gfid| gfid.to_string().replace('-', "");
    let text = |path, key| String::from_utf8(getx(path, key).unwrap()).unwrap();
    let entry = format!("m 1 {} 1700000000.000000001 -\n", digits(id));
    let page = format!("{entry}{}", "\n".repeat(256 - entry.len()));
    assert_eq!(text(b.handle(base), "trusted.fsnap.catalogue.0"), page);
    assert_eq!(text(b.handle(base), "trusted.fsnap.seq"), "00000000000000000001");
    assert_eq!(text(b.handle(gfid), "trusted.fsnap.record"), format!("{} m 1 {}", digits(base), digits(id)));
    assert_eq!(gfid, base.payload(&name("m"), Some(id), 1));
    assert!(names(&b.join(".glusterfs/fsnap/awaited")).is_empty());
    assert_eq!(fs::read(b.join(".glusterfs/fsnap/format")).unwrap(), b"fsnap 2\n");

    assert_eq!(store.base_of(base).unwrap(), (base, false));
    assert_eq!(store.base_of(gfid).unwrap(), (base, true));
    assert_eq!(store.base_of(Gfid::ROOT).unwrap(), (Gfid::ROOT, false));
    assert_eq!(store.base_of(next_gfid()).unwrap_err().errno(), libc::ESTALE);
}

#[test]
fn payloads_carry_what_their_base_has() {
    on_both(|b| {
        let dir = b.make_dir("d");
        let base = b.make_file("d/f", &content(5000, 3));
        let path = b.join("d/f");
        std::os::unix::fs::chown(&path, Some(1234), Some(4321)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o4765)).unwrap();
        tool("setfacl", &["-m", "u:77:rwx,g:88:rw,m::rwx"], &path);
        let mut copied =
            vec![("user.big", vec![7; 900]), ("trusted.glusterfs.mdata", mdata((1_600_000_000, 5)))];
        for key in ["user.empty", "trusted.ec.config", "trusted.ec.version"] {
            copied.push((key, key.as_bytes()[..key.len() * usize::from(key != "user.empty")].to_vec()));
        }
        // What replicate says of data and metadata, and not of entries, nor of metadata that is being changed.
        copied.push(("trusted.afr.v-client-0", vec![0, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0, 0]));
        copied.push(("trusted.ec.size", 123_456_789u64.to_be_bytes().to_vec()));
        let metadata = [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];
        let not_copied: [(&str, &[u8]); 3] =
            [("trusted.glusterfs.dht", b"x"), ("trusted.other", b"y"), ("trusted.afr.dirty", &metadata)];
        for (key, value) in &copied {
            setx(&path, key, value).unwrap();
        }
        for (key, value) in not_copied {
            setx(&path, key, value).unwrap();
        }
        setx(&path, format!("trusted.pgfid.{dir}"), 1u32.to_be_bytes()).unwrap();
        tool("touch", &["-m", "-d", "2001-02-03 04:05:06.789012345"], &path);
        tool("touch", &["-a", "-d", "2011-02-03 04:05:06.123456789"], &path);

        let store = b.store();
        let gfid = snap(&store, base, "s").gfid;
        let leaf = b.join("d/.fsnap/f@s");
        let (was, is) = (fs::metadata(&path).unwrap(), fs::metadata(&leaf).unwrap());
        assert_eq!((is.uid(), is.gid(), is.mode() & 0o7777), (1234, 4321, 0o444));
        assert_eq!(
            (is.mtime(), is.mtime_nsec(), is.mtime_nsec()),
            (was.mtime(), was.mtime_nsec(), 789_012_345)
        );
        assert_eq!((is.atime(), is.atime_nsec()), (was.atime(), was.atime_nsec()));
        assert_eq!(is.ino(), fs::metadata(b.handle(gfid)).unwrap().ino());
        assert_eq!((is.nlink(), was.nlink()), (2, 2));
        let acl = tool("getfacl", &["-cnEp"], &leaf);
        assert_eq!(acl.trim(), "user::r--\nuser:77:r--\ngroup::r--\ngroup:88:r--\nmask::r--\nother::r--");
        for (key, value) in &copied {
            assert_eq!(&getx(&leaf, key).unwrap(), value, "{key}");
        }
        for (key, _) in not_copied {
            assert!(getx(&leaf, key).is_err(), "{key}");
        }
        assert_eq!(getx(&leaf, "trusted.gfid").unwrap(), gfid.as_bytes());
        assert_eq!(getx(&leaf, format!("trusted.pgfid.{}", dir.snap_dir())).unwrap(), [0, 0, 0, 1]);
        assert!(getx(&leaf, format!("trusted.pgfid.{dir}")).is_err());
        assert!(
            !listx(&leaf).unwrap().iter().any(|n| n.to_str().unwrap().starts_with("trusted.fsnap.catalogue"))
        );
        let value = format!("{}/f@s", dir.snap_dir());
        let paths: Vec<_> = listx(&leaf)
            .unwrap()
            .into_iter()
            .filter(|n| n.to_str().unwrap().starts_with("trusted.gfid2path."))
            .map(|n| String::from_utf8(getx(&leaf, n).unwrap()).unwrap())
            .collect();
        assert_eq!(paths, [value]);

        let shown = store.info(base, &name("s")).unwrap();
        assert_eq!((shown.size, shown.created), (Some(123_456_789), None));
        let mtime = Some(time("1600000000.000000005"));
        assert_eq!((shown.mtime, shown.gfid, shown.held), (mtime, gfid, false));
        assert_eq!(store.mtime(base), Ok(mtime));
        removex(&leaf, mdata::XATTR).unwrap();
        removex(&leaf, "trusted.ec.size").unwrap();
        assert_eq!(store.info(base, &name("s")).unwrap().size, None, "a fragment that is not filled");
        removex(&path, "trusted.ec.size").unwrap();
        removex(&path, "trusted.ec.config").unwrap();
        let shown = store.info(base, &name("s")).unwrap();
        assert_eq!((shown.size, shown.mtime), (Some(5000), None));
    });
}

/// What storage/posix of GlusterFS 10.3 has written for a file `a.img` in the root of a brick.
#[test]
fn gfid2path_is_glusterfs_own() {
    let b = brick(Fs::Xfs);
    let base = b.make_file("a.img", b"x");
    assert!(getx(b.handle(base), "trusted.gfid2path.8bbe9cb2e86bf059").is_ok());
}

#[test]
fn held_snapshots_stay() {
    let b = brick(Fs::Xfs);
    let store = b.store();
    let base = b.make_file("f", b"x");
    snap(&store, base, "a");
    store.hold(base, &name("a"), true).unwrap();
    assert!(b.record(base, "a").held && store.info(base, &name("a")).unwrap().held);
    let before = b.tree();
    store.hold(base, &name("a"), true).unwrap();
    assert_eq!(before, b.tree(), "holding twice does nothing");
    b.refuses(libc::EBUSY, || store.delete(base, &name("a")));
    b.refuses(libc::ENODATA, || store.hold(base, &name("b"), true));
    store.restore(base, &name("a")).unwrap();
    store.hold(base, &name("a"), false).unwrap();
    store.delete(base, &name("a")).unwrap();
    assert_eq!(listed(&store, base), [""; 0]);
}

#[test]
fn two_hundred_snapshots_in_order() {
    let b = brick(Fs::Xfs);
    let store = b.store();
    let base = b.make_file("f", &content(10_000, 1));
    // Names that sort in another way than time does.
    let names: Vec<String> = (0..200).map(|i| format!("s{}", (i * 7) % 200)).collect();
    for n in &names {
        snap(&store, base, n);
    }
    assert_eq!(listed(&store, base), names);
    assert!(store.list(base).unwrap().iter().all(|s| s.size == Some(10_000)));
}

#[test]
fn a_brick_without_the_payload_still_lists_and_deletes_it() {
    on_both(|b| {
        let store = b.store();
        let base = b.make_file("f", b"x");
        let gfid = snap(&store, base, "a").gfid;
        fs::remove_file(b.handle(gfid)).unwrap();
        fs::remove_file(b.join(".fsnap/f@a")).unwrap();
        let shown = store.info(base, &name("a")).unwrap();
        assert_eq!((shown.size, shown.gfid), (None, gfid));
        b.refuses(libc::EIO, || store.restore(base, &name("a")));
        store.delete(base, &name("a")).unwrap();
        assert_eq!(listed(&store, base), [""; 0]);
    });
}

#[test]
fn files_in_one_directory_at_once() {
    on_both(|b| {
        let store = b.store();
        b.make_dir("d");
        let bases: Vec<_> = (0..8).map(|i| b.make_file(format!("d/f{i}"), &content(20_000, i))).collect();
        std::thread::scope(|threads| {
            for &base in &bases {
                let store = &store;
                threads.spawn(move || {
                    for n in 0..5 {
                        snap(store, base, &format!("s{n}"));
                    }
                    store.delete(base, &name("s2")).unwrap();
                    store.restore(base, &name("s4")).unwrap();
                });
            }
        });
        assert_eq!(names(&b.join("d/.fsnap")).len(), 8 * 4);
        for (i, &base) in bases.iter().enumerate() {
            assert_eq!(listed(&store, base), ["s0", "s1", "s3", "s4"]);
            assert!(fs::read(b.join(format!("d/.fsnap/f{i}@s3"))).unwrap() == content(20_000, i as u64));
        }
        let left: Vec<_> = names(&b.join(".glusterfs/fsnap"));
        assert_eq!(left, ["armed", "awaited", "buried", "format", "intents", "lost", "pending", "reserve"]);
    });
}
