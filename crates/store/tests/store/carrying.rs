//! Restores by a carrier: armed, carried, settled.

use std::fs;

use fsnap_testbed::{content, removex, setx};

use crate::common::*;

#[test]
fn only_what_was_armed_is_carried() {
    on_both(|b| {
        let (old, new) = (content(30_000, 1), content(10_000, 2));
        let base = b.make_file("f", &old);
        let store = b.store();
        store.create(base, &bare("a"), &PLENTY).unwrap();
        fs::write(b.join("f"), &new).unwrap();
        let stage =
            |store: &fsnap_store::Store| store.armed(base).unwrap().map(|armed| (armed.begun, armed.id));
        assert_eq!(store.carry(base, id(1)).unwrap_err().errno(), libc::EIO);
        assert_eq!(store.arm(base, &name("b"), id(1)).unwrap_err().errno(), libc::ENODATA);
        assert_eq!(stage(&store), None);
        // Quota counts what a carrier does.
        setx(b.join("f"), QUOTA, [0; 24]).unwrap();
        store.arm(base, &name("a"), id(1)).unwrap();
        assert_eq!(store.carry(base, id(2)).unwrap_err().errno(), libc::EIO);
        assert!(fs::read(b.join("f")).unwrap() == new);
        let size = store.carry(base, id(1)).unwrap().size;
        assert_eq!((size, stage(&store)), (30_000, Some((true, id(1)))));
        assert!(fs::read(b.join("f")).unwrap() == old);
        store.settle(base, id(2)).unwrap();
        assert_eq!(stage(&store), Some((true, id(1))));
        store.settle(base, id(1)).unwrap();
        assert_eq!(store.carry(base, id(1)).unwrap_err().errno(), libc::EIO, "it is over");
        drop(store);
        let store = b.store();
        assert_eq!(stage(&store), None);
        assert_eq!(store.half_restored().unwrap(), []);
    });
}

#[test]
fn a_half_restored_fragment_stays_one() {
    on_both(|b| {
        let base = b.make_file("f", b"old");
        setx(b.join("f"), "trusted.ec.config", [0, 0, 8, 3, 2, 8, 0, 2]).unwrap();
        setx(b.join("f"), "trusted.ec.size", 6_u64.to_be_bytes()).unwrap();
        let store = b.store();
        store.create(base, &bare("a"), &PLENTY).unwrap();
        // Self-heal gives a fragment its size when it has filled it; xattrs of ours it may bring before.
        let snapshot = b.join(".fsnap/f@a");
        removex(&snapshot, "trusted.ec.size").unwrap();
        assert_eq!(store.arm(base, &name("a"), id(1)).unwrap_err().errno(), libc::EIO);
        setx(&snapshot, "trusted.ec.size", 6_u64.to_be_bytes()).unwrap();
        store.arm(base, &name("a"), id(1)).unwrap();
        assert_eq!(store.half_restored().unwrap(), []);
        store.carry(base, id(1)).unwrap();
        drop(store);
        let store = b.store();
        assert_eq!(store.half_restored().unwrap(), [base]);
        // Under quota it may not become shorter by one.
        setx(b.join("f"), QUOTA, [0; 24]).unwrap();
        setx(b.join("f"), "trusted.ec.size", 7_u64.to_be_bytes()).unwrap();
        assert_eq!(store.arm(base, &name("a"), id(2)).unwrap_err().errno(), libc::EOPNOTSUPP);
        setx(b.join("f"), "trusted.ec.size", 6_u64.to_be_bytes()).unwrap();
        // The next one may fail to come.
        store.arm(base, &name("a"), id(2)).unwrap();
        assert_eq!(store.half_restored().unwrap(), [base]);
        store.settle(base, id(1)).unwrap();
        assert_eq!(store.half_restored().unwrap(), [base]);
        store.carry(base, id(2)).unwrap();
        store.settle(base, id(2)).unwrap();
        assert_eq!(store.half_restored().unwrap(), []);
    });
}
