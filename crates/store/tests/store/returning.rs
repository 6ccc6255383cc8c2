//! How long deleted files are kept, and what becomes of those that come back, or whose directory self-heal has discarded.

use std::fs;
use std::process::Command;
use std::time::{Duration, SystemTime};

use fsnap_core::Gfid;
use fsnap_core::gfid2path::Link;
use fsnap_testbed::{run, setx};

use crate::common::*;
use crate::graves::{anywhere, delete_file, scene};

#[test]
fn how_long_a_file_is_deleted_is_known() {
    on_both(|b| {
        let (store, base) = scene(&b);
        assert_eq!(store.deleted_at(base), Ok(None));
        delete_file(&b, &store, base, "d/f");
        let noted = store.deleted_at(base).unwrap().unwrap();
        assert!(noted.elapsed().unwrap() < Duration::from_secs(60));
        // It is as old when it has moved up.
        let note = b.join(format!(".glusterfs/fsnap/buried/{base}"));
        run(Command::new("touch").args(["-h", "-d", "@1000000"]).arg(&note));
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        assert_eq!(store.deleted_at(base), Ok(Some(then)));
        b.make_dir("d/e");
        let deep = b.make_file("d/e/f", b"x");
        snap(&store, deep, "a");
        delete_file(&b, &store, deep, "d/e/f");
        let old = b.join(format!(".glusterfs/fsnap/buried/{deep}"));
        run(Command::new("touch").args(["-h", "-d", "@1000000"]).arg(&old));
        store.move_up(b.gfid("d/e"), &[deep].into()).unwrap();
        assert_eq!(store.deleted_at(deep), Ok(Some(then)));
        store.delete(deep, &name("a")).unwrap();

        store.hold(base, &name("b"), true).unwrap();
        assert_eq!(store.expire(base), Ok(1));
        assert_eq!((listed(&store, base), store.expire(base)), (vec!["b".to_string()], Ok(0)));
        store.revive(base, &name("b"), anywhere).unwrap();
        assert_eq!(store.deleted_at(base), Ok(None));
        store.hold(base, &name("b"), false).unwrap();
        delete_file(&b, &store, base, "d/f");
        assert_eq!(store.expire(base), Ok(1));
        assert!(!b.handle(base).exists() && b.buried().is_empty());
    });
}

/// Names that it had in directories that have gone are none that it has, whatever is noted of them.
#[test]
fn who_comes_back_is_not_taken_for_deleted() {
    on_both(|b| {
        let (store, base) = scene(&b);
        b.make_file("d/g", b"other");
        store.bury(base).unwrap();
        // What a rename over the file leaves noted, and one that nobody has taken away since.
        b.rename("d/g", "d/f");
        store.follow(base).unwrap();
        let gone = Link { parent: next_gfid(), name: b"f".to_vec() };
        for round in 0..2 {
            if round == 1 {
                setx(b.handle(base), gone.key(), gone.encode()).unwrap();
            } else {
                b.unlink("d/f");
                let dir = b.gfid("d");
                store.move_up(dir, &store.kept_in(dir).unwrap()).unwrap();
                store.clear_snap_dir(dir).unwrap();
                fs::remove_dir(b.join("d")).unwrap();
                fs::remove_file(b.handle(dir)).unwrap();
            }
            assert!(store.is_deleted(base));
            fs::write(b.handle(base), b"restored").unwrap();
            fs::hard_link(b.handle(base), b.join("x")).unwrap();
            let x = b.link_of("x".as_ref());
            setx(b.join("x"), x.key(), x.encode()).unwrap();
            assert!(!store.is_deleted(base), "it has a name");
            store.rise(base).unwrap();
            assert!(!store.is_deleted(base) && !store.is_buried(base) && b.buried().is_empty());
            store.empty_grave(base).unwrap();
            assert_eq!(fs::read(b.join("x")).unwrap(), b"restored");
            assert_eq!(names(&b.join(".fsnap")), ["x@a", "x@b"]);
            if round == 0 {
                store.bury(base).unwrap();
                b.unlink("x");
                store.follow(base).unwrap();
            }
        }
        store.bury(base).unwrap();
        b.unlink("x");
        let error = b.refuses(libc::EIO, || store.rise(base));
        assert!(error.to_string().contains("no name"), "{error}");
    });
}

/// Self-heal has discarded the directory that it is kept in, and its tombstone is to be made above.
#[test]
fn a_grave_that_was_discarded_is_made_anew() {
    on_both(|b| {
        let (store, base) = scene(&b);
        delete_file(&b, &store, base, "d/f");
        store.follow(base).unwrap();
        let dir = b.gfid("d");
        fs::create_dir_all(b.join(".glusterfs/landfill")).unwrap();
        fs::rename(b.join("d"), b.join(".glusterfs/landfill/d")).unwrap();
        fs::remove_file(b.handle(dir)).unwrap();
        let above = store.snap_dir(Gfid::ROOT).unwrap();
        let name = format!("d%2Ff@..{base}");
        store.expect_tombstone(base, above, name.as_bytes()).unwrap();
        fs::hard_link(b.handle(base), b.join(".fsnap").join(&name)).unwrap();
        let link = Link { parent: above, name: name.clone().into_bytes() };
        setx(b.handle(base), link.key(), link.encode()).unwrap();
        assert!(store.is_deleted(base));
        store.follow_rights(base).unwrap();
        store.follow(base).unwrap();
        store.empty_grave(base).unwrap();
        let all = [name, format!("d%2Ff@a@~{base}"), format!("d%2Ff@b@~{base}")];
        assert_eq!(names(&b.join(".fsnap")), all);
        fs::remove_dir_all(b.join(".glusterfs/landfill")).unwrap();
        drop(store);
        let store = b.store();
        assert!(store.is_deleted(base) && listed(&store, base) == ["a", "b"]);
    });
}
