//! Files with more xattrs than listxattr(2) lists, through the mount: whatever GlusterFS does with them goes on, and so do
//! snapshots.
#![allow(missing_docs)]

mod common;

use std::fs;
use std::path::Path;

use common::stage::Stage;
use common::{MIB, fsnap, ls, names, sound, volume};
use fsnap_testbed::{Errno, VolumeType, getx, listx, setx, wait_until};

/// 75 KB of names: more than 64 KiB.
const MANY: usize = 300;

fn key(n: usize) -> String {
    format!("user.{n:0250}")
}

fn fill(file: &Path) {
    (0..MANY).for_each(|n| setx(file, key(n), format!("value {n}")).unwrap());
}

fn has_all(file: &Path) {
    for n in (0..MANY).step_by(37) {
        assert_eq!(getx(file, key(n)).unwrap(), format!("value {n}").as_bytes());
    }
}

#[test]
fn on_every_kind_of_volume() {
    let disperse = VolumeType::Disperse { data: 2, redundancy: 1 };
    for (layout, bricks) in [(VolumeType::Distribute, 1), (VolumeType::Replicate(3), 3), (disperse, 3)] {
        println!("{layout:?}");
        let stage = Stage::new(volume(layout, bricks, 512 * MIB, |volume| volume));
        one(&stage, layout);
        sound(&stage.0.volume);
    }
}

fn one(stage: &Stage, layout: VolumeType) {
    // What never had snapshots, on a brick where others have some.
    let other = stage.file("other");
    fs::write(&other, b"other").unwrap();
    fsnap(&other, "create", "a").unwrap();
    for name in ["plain", "replaced"] {
        fs::write(stage.file(name), b"plain").unwrap();
        fill(&stage.file(name));
    }
    let on_brick = stage.0.volume.brick_path(0).join("plain");
    assert_eq!(listx(on_brick).err(), Some(Errno::E2BIG));
    fs::rename(stage.file("plain"), stage.file("renamed")).unwrap();
    fs::rename(stage.file("renamed"), stage.file("replaced")).unwrap();
    has_all(&stage.file("replaced"));
    fs::remove_file(stage.file("replaced")).unwrap();
    fs::remove_file(&other).unwrap();

    // One that has them from the beginning, and one that gets them when it has a snapshot.
    for early in [true, false] {
        // Names in .fsnap that come again may read as what they were, for two seconds.
        let [f, g, h] = ["f", "g", "h"].map(|name| format!("{name}{}", u8::from(early)));
        let file = stage.file(&f);
        fs::write(&file, b"first").unwrap();
        if early {
            fill(&file);
        }
        stage.ok(["create", &f, "--name", "a"]);
        if !early {
            fill(&file);
        }
        fs::write(&file, b"second, longer").unwrap();
        stage.ok(["create", &f, "--name", "b"]);
        assert_eq!(names(&file), ["a", "b"]);
        has_all(&stage.file(format!(".fsnap/{f}@b")));
        fsnap(&file, "hold", "a").unwrap();
        assert_eq!(fsnap(&file, "delete", "a"), Err(Errno::EBUSY));
        fsnap(&file, "release", "a").unwrap();
        stage.restore(&f, "a");
        common::sees(&file, fsnap_testbed::checksum(stage.file(format!(".fsnap/{f}@a"))));

        fs::hard_link(&file, stage.file(&g)).unwrap();
        fs::remove_file(&file).unwrap();
        fs::rename(stage.file(&g), stage.file(&h)).unwrap();
        assert_eq!(names(stage.file(&h)), ["a", "b"]);
        assert_eq!(fs::read(stage.file(format!(".fsnap/{h}@b"))).unwrap(), b"second, longer");
        fs::remove_file(stage.file(&h)).unwrap();

        let deleted =
            ls(stage.file(".fsnap")).into_iter().find(|name| name.starts_with(&format!("{h}@b@"))).unwrap();
        let deleted = stage.file(".fsnap").join(deleted);
        assert_eq!(names(&deleted), ["a", "b"]);
        if layout == VolumeType::Distribute {
            fsnap(&deleted, "restore", "b").unwrap();
            has_all(&stage.file(&h));
            fsnap(stage.file(&h), "delete", "a").unwrap();
            fs::remove_file(stage.file(&h)).unwrap();
        } else {
            fsnap(&deleted, "delete", "a").unwrap();
        }
        fsnap(&deleted, "delete", "b").unwrap();
        wait_until("nothing is left of it", common::agree::SAME_WITHIN, || {
            ls(stage.file(".fsnap")).iter().all(|name| !name.starts_with(&h))
        });
    }
}
