//! What a restore does to content of all shapes, and what it does when it is cut short.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use fsnap_core::Gfid;
use fsnap_core::record::Intent;
use fsnap_store::Store;
use fsnap_testbed::{Fs, content};

use crate::common::*;

#[test]
fn contents_of_all_shapes() {
    on_both(|b| {
        let store = b.store();
        let sparse = {
            let mut bytes = vec![0; 5 * MIB + 3];
            bytes[MIB..2 * MIB].copy_from_slice(&content(MIB, 5));
            bytes
        };
        let shapes = [
            content(0, 0),
            content(1, 1),
            content(4096, 2),
            content(MIB + 1, 3),
            content(3 * MIB, 4),
            sparse,
        ];
        let base = b.make_file("f", b"");
        let file = File::options().write(true).open(b.join("f")).unwrap();
        for (i, shape) in shapes.iter().enumerate() {
            file.set_len(0).unwrap();
            file.set_len(shape.len() as u64).unwrap();
            // Zeros stay a hole.
            for (at, part) in shape.chunks(4096).enumerate().filter(|(_, part)| part.iter().any(|&x| x != 0))
            {
                file.write_all_at(part, at as u64 * 4096).unwrap();
            }
            snap(&store, base, &format!("s{i}"));
            assert!(fs::read(b.join(format!(".fsnap/f@s{i}"))).unwrap() == *shape, "snapshot {i}");
        }
        for from in 0..shapes.len() {
            for (to, shape) in shapes.iter().enumerate() {
                store.restore(base, &name(&format!("s{from}"))).unwrap();
                store.restore(base, &name(&format!("s{to}"))).unwrap();
                assert!(fs::read(b.join("f")).unwrap() == *shape, "{from} -> {to}");
            }
        }
        store.restore(base, &name("s5")).unwrap();
        assert!(fs::metadata(b.join("f")).unwrap().blocks() * 512 < 2 * MIB as u64, "holes stay holes");
        file.write_all_at(b"still the same inode", 0).unwrap();
        assert!(fs::read(b.join("f")).unwrap().starts_with(b"still the same inode"));
        assert!(fs::read(b.join(".fsnap/f@s5")).unwrap() == shapes[5], "a snapshot does not follow");
    });
}

/// Each read gets what was there before or what is there afterwards, never a part of both. Where the file has to become shorter,
/// and the file system can't exchange two files' contents, that may be what was there before, cut to the new size.
#[test]
fn readers_see_one_content() {
    for fs in reflink().into_iter().filter(|fs| *fs != Fs::Btrfs) {
        let b = brick(fs);
        let store = b.store();
        let base = b.make_file("f", b"");
        // Many extents, so that a clone takes a while: blocks with holes between them.
        let contents = [(64 * 4096, 0), (512 * 4096, 1), (512 * 4096, 0)].map(|(size, odd)| {
            let block = |n: usize| if n % 2 == odd { vec![1 + odd as u8; 4096] } else { vec![0; 4096] };
            (0..size / 4096).flat_map(block).collect::<Vec<u8>>()
        });
        let file = File::options().read(true).write(true).open(b.join("f")).unwrap();
        for (n, content) in contents.iter().enumerate() {
            file.set_len(0).unwrap();
            file.set_len(content.len() as u64).unwrap();
            for (at, block) in content.chunks(4096).enumerate().filter(|(_, block)| block[0] != 0) {
                file.write_all_at(block, at as u64 * 4096).unwrap();
            }
            snap(&store, base, &format!("s{n}"));
        }
        let cut = &contents[1][..contents[0].len()];
        let stop = AtomicBool::new(false);
        std::thread::scope(|threads| {
            let reader = threads.spawn(|| {
                let (mut buffer, mut seen) = (vec![0; 3 * MIB], [0; 3]);
                while !stop.load(Relaxed) {
                    let size = file.read_at(&mut buffer, 0).unwrap();
                    let known = contents.iter().position(|content| *content == buffer[..size]);
                    match known {
                        Some(n) => seen[n] += 1,
                        None => {
                            assert!(fs == Fs::Xfs && buffer[..size] == *cut, "{fs:?}: a mix of {size} bytes")
                        }
                    }
                }
                seen
            });
            // From 2 to 0 is left out: the old content, cut, would be the new one.
            for n in (0..60).map(|n| [0, 1, 2, 1][n % 4]) {
                store.restore(base, &name(&format!("s{n}"))).unwrap();
            }
            stop.store(true, Relaxed);
            let seen = reader.join().unwrap();
            assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
        });
    }
}

fn write_intent(b: &TestBrick, file_name: &str, text: &str) {
    fs::write(b.join(".glusterfs/fsnap/intents").join(file_name), text).unwrap();
}

/// A brick with a file whose restore of `a` was cut short.
fn half_restored(b: &TestBrick) -> (Gfid, Gfid) {
    half_restored_by(b, &b.store())
}

fn half_restored_by(b: &TestBrick, store: &Store) -> (Gfid, Gfid) {
    let base = b.make_file("f", &content(MIB + 5, 1));
    let payload = snap(store, base, "a").gfid;
    fs::write(b.join("f"), b"").unwrap();
    write_intent(b, &base.to_string(), &Intent { base, payload, name: name("a") }.to_string());
    (base, payload)
}

/// The intent is a file where an older fsnap has written it.
#[test]
fn an_interrupted_restore_is_finished_at_open() {
    on_both(|b| {
        let (base, _) = half_restored(&b);
        finished_at_open(&b, base);
    });
    on_both(|b| {
        let (base, payload) = half_restored(&b);
        let at = b.join(".glusterfs/fsnap/intents").join(base.to_string());
        fs::remove_file(&at).unwrap();
        symlink(Intent { base, payload, name: name("a") }.to_string(), at).unwrap();
        finished_at_open(&b, base);
    });
}

fn finished_at_open(b: &TestBrick, base: Gfid) {
    fs::create_dir(b.join(".glusterfs/fsnap/tmp-1-2-3")).unwrap();
    let store = b.store();
    assert!(fs::read(b.join("f")).unwrap() == content(MIB + 5, 1));
    assert!(b.intents().is_empty() && b.lost().is_empty());
    assert!(!b.join(".glusterfs/fsnap/tmp-1-2-3").exists());
    fs::write(b.join("f"), b"later").unwrap();
    drop(store);
    b.store();
    assert_eq!(fs::read(b.join("f")).unwrap(), b"later", "finished once and no more");
    assert_eq!(listed(&b.store(), base), ["a"]);
}

#[test]
fn an_interrupted_restore_is_finished_before_another() {
    let b = brick(Fs::Xfs);
    let store = b.store();
    store.snap_dir(Gfid::ROOT).unwrap();
    let (base, _) = half_restored_by(&b, &store);
    let error = b.refuses(libc::EIO, || store.create(base, &bare("b"), &PLENTY));
    assert!(error.to_string().contains("interrupted"), "{error}");
    store.restore(base, &name("a")).unwrap();
    assert!(fs::read(b.join("f")).unwrap() == content(MIB + 5, 1));
    assert!(b.intents().is_empty());
    snap(&store, base, "b");
}

#[test]
fn intents_that_make_no_sense() {
    let b = brick(Fs::Xfs);
    let (base, payload) = half_restored(&b);
    let other = b.make_file("other", b"untouched");
    let good = Intent { base, payload, name: name("a") };
    fs::remove_file(b.join(".glusterfs/fsnap/intents").join(base.to_string())).unwrap();
    let stranger = next_gfid();
    let bad = [
        ("garbage".to_owned(), "\u{7f}garbage".to_owned()),
        (String::from("empty"), String::new()),
        ("long".to_owned(), format!("{good}{}", " ".repeat(100_000))),
        // For another file than its name says, with a payload that is not one, with a base that is not here.
        (other.to_string(), good.to_string()),
        (base.to_string(), Intent { payload: other, ..good.clone() }.to_string()),
        (stranger.to_string(), Intent { base: stranger, ..good.clone() }.to_string()),
        (other.to_string(), Intent { base: other, ..good.clone() }.to_string()),
        (base.to_string(), Intent { name: name("b"), ..good.clone() }.to_string()),
        (base.to_string(), Intent { payload: stranger, ..good.clone() }.to_string()),
    ];
    symlink("garbage", b.join(".glusterfs/fsnap/intents/link")).unwrap();
    b.store();
    assert!(b.intents().is_empty() && b.lost().len() == 1);
    fs::remove_file(b.join(".glusterfs/fsnap/lost").join(&b.lost()[0])).unwrap();
    for (count, (file, text)) in bad.iter().enumerate() {
        write_intent(&b, file, text);
        b.store();
        assert!(b.intents().is_empty(), "{text}");
        assert_eq!(b.lost().len(), count + 1, "{text}");
        assert_eq!(fs::read(b.join("other")).unwrap(), b"untouched");
        assert_eq!(fs::read(b.join("f")).unwrap(), b"");
    }
    fs::create_dir(b.join(".glusterfs/fsnap/intents/directory")).unwrap();
    tool("mkfifo", &[], b.join(".glusterfs/fsnap/intents/pipe"));
    b.store();
    assert!(b.intents().is_empty());
    assert_eq!(b.lost().len(), bad.len() + 2);
}

/// Btrfs shares no blocks between files of which one has checksums and the other has not: the clone fails when the
/// file has been truncated already.
#[test]
fn a_failed_restore_leaves_the_old_content() {
    let b = brick(Fs::Btrfs);
    let store = b.store();
    for (i, (old, new)) in
        [(4 * MIB, MIB + 1), (MIB + 1, 4 * MIB), (5, 0), (MIB, MIB)].into_iter().enumerate()
    {
        let at = format!("f{i}");
        let base = b.make_file(&at, &content(old, 1));
        snap(&store, base, "a");
        fs::write(b.join(&at), b"").unwrap();
        tool("chattr", &["+C"], b.join(&at));
        fs::write(b.join(&at), content(new, 2)).unwrap();
        let before = fs::metadata(b.join(&at)).unwrap();
        assert_eq!(store.restore(base, &name("a")).unwrap_err().errno(), libc::EINVAL);
        assert!(fs::read(b.join(&at)).unwrap() == content(new, 2));
        let after = fs::metadata(b.join(&at)).unwrap();
        assert_eq!((after.modified().unwrap(), after.ino()), (before.modified().unwrap(), before.ino()));
        assert!(b.intents().is_empty() && b.lost().is_empty());

        // What was taken of the file as it is now does fit.
        snap(&store, base, "b");
        fs::write(b.join(&at), b"changed").unwrap();
        store.restore(base, &name("b")).unwrap();
        assert!(fs::read(b.join(&at)).unwrap() == content(new, 2));
    }
}
