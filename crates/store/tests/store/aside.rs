//! What self-heal puts aside, gives names and takes away: files, tombstones, directories.

use std::fs;

use fsnap_core::Error;
use fsnap_testbed::{content, removex, setx};

use crate::common::*;
use crate::healing::*;

/// Where the replicate translator puts files aside.
const ASIDE: &str = ".glusterfs-anonymous-inode-1";

fn unhealed<T: std::fmt::Debug>(result: fsnap_core::Result<T>) {
    assert!(matches!(result, Err(Error::Unhealed(_))), "{result:?}");
}

#[test]
fn a_name_for_a_deleted_file() {
    on_both(|b| {
        let (store, base) = scene(&b);
        let aside = b.make_dir(ASIDE);
        bury(&b, &store, base, "d/f");
        // Another brick has put it aside: that is no reason to take it for alive.
        let before = b.tree();
        unhealed(store.make_way(base, aside));
        assert_eq!(b.tree(), before);
        unhealed(store.make_way(base, b.gfid("e")));
        assert!(!b.handle(base).exists() && !store.is_buried(base) && b.buried().is_empty());
        let digits = &base.to_string()[..8];
        assert_eq!(names(&b.join("d/.fsnap")), [format!("f@a@{digits}"), format!("f@b@{digits}")]);

        // A file that is alive, or about to go, gets its name.
        let base = b.make_file("d/g", b"g");
        snap(&store, base, "a");
        assert_eq!(store.make_way(base, b.gfid("e")), Ok(()));
        store.bury(base).unwrap();
        b.link("d/g", "e/g");
        b.unlink("d/g");
        store.rise(base).unwrap();
        assert!(!store.is_buried(base) && b.buried().is_empty());
        assert_eq!(names(&b.join("e/.fsnap")), ["g@a"]);
    });
}

#[test]
fn a_tombstone_comes() {
    on_both(|b| {
        let (store, base) = scene(&b);
        b.make_dir(ASIDE);
        store.snap_dir(b.gfid("e")).unwrap();
        let (e, tombstone) = (b.gfid("e").snap_dir(), base.tombstone(b"g"));
        let digits = &base.to_string()[..8];
        let moved =
            [String::from_utf8(tombstone.clone()).unwrap(), format!("g@a@{digits}"), format!("g@b@{digits}")];
        let at = format!("e/.fsnap/{}", moved[0]);
        // It has another place.
        unhealed(store.expect_tombstone(base, e, &tombstone));
        assert!(!store.is_buried(base));
        b.rename("d/f", format!("{ASIDE}/{base}"));
        unhealed(store.expect_tombstone(base, e, b"g@.f"));
        store.expect_tombstone(base, e, &tombstone).unwrap();
        b.link(format!("{ASIDE}/{base}"), &at);
        store.follow(base).unwrap();
        b.unlink(format!("{ASIDE}/{base}"));
        assert!(store.is_deleted(base));
        assert_eq!(names(&b.join("e/.fsnap")), moved);
        sound(&b);

        // It was deleted here as well, where it was before.
        let (d, tombstone) = (b.gfid("d").snap_dir(), base.tombstone(b"h"));
        unhealed(store.expect_tombstone(base, d, &tombstone));
        assert!(store.is_deleted(base) && names(&b.join("e/.fsnap")).is_empty());
        let moved = moved.map(|name| name.replacen('g', "h", 1));
        assert_eq!(names(&b.join("d/.fsnap")), moved);
        sound(&b);
        drop(store);
        let store = b.store();
        assert!(store.is_deleted(base));
        store.revive(base, &name("a"), |_, _| Ok(())).unwrap();
        assert!(fs::read(b.join("d/h")).unwrap() == content(20_000, 1));
    });
}

#[test]
fn two_names_are_put_aside() {
    on_both(|b| {
        let (store, base) = scene(&b);
        let (aside, leaf) = (b.make_dir(ASIDE), base.to_string());
        b.link("d/f", "e/f");
        b.rename("d/f", format!("{ASIDE}/{leaf}"));
        // Nowhere else a name goes.
        store.make_room_aside(base, b.gfid("e"), b"f").unwrap();
        assert!(b.join("e/f").exists());
        store.make_room_aside(base, aside, leaf.as_bytes()).unwrap();
        assert!(names(&b.join(ASIDE)).is_empty() && b.handle(base).exists());
        // It is another file's.
        b.make_file(format!("{ASIDE}/{leaf}"), b"");
        store.make_room_aside(base, aside, leaf.as_bytes()).unwrap();
        assert_eq!(names(&b.join(ASIDE)), [leaf]);
    });
}

#[test]
fn a_directory_that_another_brick_has_missed() {
    on_both(|b| {
        let (store, _) = scene(&b);
        let d = b.gfid("d");
        let missed = |name: &str, value: &[u8]| {
            setx(b.join("d"), name, value).unwrap();
            let missed = store.is_missed(d).unwrap();
            removex(b.join("d"), name).unwrap();
            missed
        };
        assert!(!store.is_missed(d).unwrap());
        for name in ["trusted.afr.dirty", "trusted.afr.v-client-2"] {
            assert!(missed(name, &mark([0, 0, 1])) && !missed(name, &mark([1, 1, 0])));
        }
        assert!(
            missed("trusted.ec.dirty", &mark([0, 1, 0])) && !missed("trusted.ec.dirty", &mark([0, 0, 0]))
        );
        assert_eq!(store.is_missed(next_gfid()), Err(Error::Gone));
    });
}

#[test]
fn a_file_that_the_others_do_not_have() {
    on_both(|b| {
        let (store, base) = scene(&b);
        store.bury(base).unwrap();
        b.unlink("d/f");
        store.disown(base).unwrap();
        assert!(!b.handle(base).exists() && b.buried().is_empty());
        assert!(names(&b.join("d/.fsnap")).is_empty());
        assert_eq!(b.lost().len(), 2);
        sound(&b);
    });
}
