//! What is wrong with files that have snapshots, and with what is not fsnap's.

use std::fs;

use fsnap_core::record::{PayloadRecord, Record};
use fsnap_store::check::ProblemKind;
use fsnap_testbed::{Fs, entry_line, remove_entry_line, removex, set_entry_line, setx};

use super::*;

#[test]
fn entries() {
    for fs in reflink() {
        let (b, _) = scene(fs);
        let path = b.join("d/f");
        removex(&path, "trusted.fsnap.seq").unwrap();
        reports(&b, ProblemKind::SeqMissing);
        setx(&path, "trusted.fsnap.seq", b"x").unwrap();
        reports(&b, ProblemKind::SeqDamaged);
        setx(&path, "trusted.fsnap.seq", b"1").unwrap();
        reports(&b, ProblemKind::EntrySeq);
        setx(&path, "trusted.fsnap.seq", b"2").unwrap();

        let good = entry_line(&path, "a").unwrap();
        for lie in [b"garbage".to_vec(), vec![0xff; 3000], Vec::new()] {
            set_entry_line(&path, "a", lie).unwrap();
            reports(&b, ProblemKind::EntryDamaged);
        }
        set_entry_line(&path, "a", &good).unwrap();
        set_entry_line(&path, "\u{1b}[31m", b"x").unwrap();
        let report = finds(&b, ProblemKind::EntryDamaged, 1);
        assert!(!report.problems[0].to_string().contains('\u{1b}'));
        remove_entry_line(&path, "\u{1b}[31m").unwrap();
        assert_eq!(kinds(&look(&b)), []);
    }
}

#[test]
fn entries_with_the_same_number() {
    let (b, base) = scene(Fs::Xfs);
    let id = Some(next_gfid());
    let gfid = base.payload(&name("b"), id, 1);
    // The payload `b` becomes one that was taken with an id, and with the number of `a`.
    let old = b.record(base, "b").gfid;
    set_record(&b, old, |r| PayloadRecord { seq: 1, id, ..r });
    setx(b.handle(old), "trusted.gfid", gfid.as_bytes()).unwrap();
    fs::create_dir_all(b.handle(gfid).parent().unwrap()).unwrap();
    fs::rename(b.handle(old), b.handle(gfid)).unwrap();
    set_entry(&b, base, "b", |record| Record { seq: 1, id, gfid, ..record });
    reports(&b, ProblemKind::EntryDuplicate);
}

#[test]
fn handles_of_what_is_not_ours() {
    for fs in reflink() {
        let (b, _) = scene(fs);
        let (file, dir) = (b.make_file("d/g", b"x"), b.make_dir("d/e"));
        assert_eq!(kinds(&look(&b)), []);
        let way = fs::read_link(b.handle(dir)).unwrap();
        for gfid in [file, dir] {
            fs::remove_file(b.handle(gfid)).unwrap();
            repairs(&b, ProblemKind::HandleMissing);
        }
        assert_eq!(fs::read_link(b.handle(dir)).unwrap(), way);
        // As unlinks and renames do it.
        fs::remove_file(b.handle(dir)).unwrap();
        fs::remove_file(b.handle(file)).unwrap();
        let store = b.store();
        let lost = store.without_handles(b"/d/e/").unwrap();
        assert_eq!(lost.iter().map(|lost| lost.gfid).collect::<Vec<_>>(), [dir]);
        for lost in lost.iter().chain(&store.without_handles(b"/d/g").unwrap()) {
            store.put_back(lost).unwrap();
            store.put_back(lost).unwrap();
        }
        drop(store);
        assert_eq!(kinds(&look(&b)), []);
    }
}

#[test]
fn bases() {
    for fs in reflink() {
        let (b, base) = scene(fs);
        fs::remove_file(b.handle(base)).unwrap();
        reports(&b, ProblemKind::BaseHandle);
        fs::write(b.handle(base), b"another").unwrap();
        reports(&b, ProblemKind::BaseHandle);
        fs::remove_file(b.handle(base)).unwrap();
        fs::hard_link(b.join("d/f"), b.handle(base)).unwrap();
        assert_eq!(kinds(&look(&b)), []);
        for lie in [&b"short"[..], &[0; 16]] {
            setx(b.join("d/f"), "trusted.gfid", lie).unwrap();
            reports(&b, ProblemKind::BaseGfid);
        }
    }
}
