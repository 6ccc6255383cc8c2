//! The script itself: what people do with files, also what can't be done.

use nix::fcntl::{FallocateFlags, RenameFlags};

use super::{Script, USER};

/// An ACL: the owner and user 1001 may read and write, the rest of the world may read.
const ACL: &[u8] = &[
    2, 0, 0, 0, // version
    1, 0, 6, 0, 255, 255, 255, 255, // owner
    2, 0, 6, 0, 233, 3, 0, 0, // user 1001
    4, 0, 4, 0, 255, 255, 255, 255, // group
    16, 0, 6, 0, 255, 255, 255, 255, // mask
    32, 0, 4, 0, 255, 255, 255, 255, // others
];

/// Before the options that are tested take effect.
pub fn begin(script: &mut Script) {
    script.mkdir("old");
    script.mkdir("old/d");
    for n in 0..6 {
        script.make(&format!("old/f{n}"), 100 * n);
    }
    script.link("old/f1", "old/d/l1");
    script.symlink("f2", "old/s2");
    script.chmod("old", 0o777);
}

/// The rest.
pub fn go_on(script: &mut Script) {
    what_was_there(script);
    script.mkdir("t");
    data(script, "t/data");
    names(script, "t/names");
    directories(script, "t/dirs");
    open(script, "t/open");
    attributes(script, "t/attr");
    many(script, "t/many");
    script.list("t");
    script.mkdir("u");
    script.chown("u", USER);
    script.as_user(|script| {
        names(script, "u/names");
        directories(script, "u/dirs");
        attributes(script, "u/attr");
        script.make("u/own", 30);
    });
    script.as_user(|script| what_others_have(script, "t"));
    names_again(script, "t");
}

fn what_was_there(script: &mut Script) {
    script.append("old/f1", "more");
    script.write_at("old/f2", 50, "middle");
    script.truncate("old/f3", 7);
    script.rename("old/f4", "old/d/f4");
    script.unlink("old/f5");
    script.unlink("old/d/l1");
    script.chmod("old/f2", 0o600);
    script.set_xattr("old/f2", "user.colour", b"red");
    script.read("old/f3");
    script.list("old");
}

fn data(script: &mut Script, dir: &str) {
    let at = |name: &str| format!("{dir}/{name}");
    script.mkdir(dir);
    for (n, len) in [0, 1, 10, 5_000, 4_096, 300_000].into_iter().enumerate() {
        script.make(&at(&format!("f{n}")), len);
    }
    script.make(&at("f0"), 1);
    script.append(&at("f0"), "first");
    script.append(&at("f2"), "more");
    script.write_at(&at("f3"), 2_000, "middle");
    script.write_at(&at("f4"), 10_000, "behind a hole");
    script.truncate(&at("f5"), 100_000);
    script.truncate(&at("f1"), 0);
    script.truncate(&at("f3"), 9_000);
    script.allocate(&at("f4"), FallocateFlags::empty(), 0, 20_000);
    script.allocate(&at("f5"), FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, 200_000);
    let punch = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    script.allocate(&at("f5"), punch, 8_192, 8_192);
    for n in 0..6 {
        script.read(&at(&format!("f{n}")));
    }
    script.read(&at("none"));
    script.truncate(&at("none"), 1);
}

fn names(script: &mut Script, dir: &str) {
    let at = |name: &str| format!("{dir}/{name}");
    script.mkdir(dir);
    script.mkdir(&at("d"));
    for n in 0..12 {
        script.make(&at(&format!("f{n}")), 20 + n);
    }
    script.link(&at("f0"), &at("l0"));
    script.link(&at("f0"), &at("d/l0"));
    script.link(&at("f1"), &at("l0"));
    script.link(&at("none"), &at("l1"));
    script.link(&at("d"), &at("l1"));
    script.rename(&at("l0"), &at("d/l0"));
    script.unlink(&at("d/l0"));
    script.rename(&at("f1"), &at("g1"));
    script.rename(&at("g1"), &at("d/g1"));
    script.rename(&at("f2"), &at("f3"));
    script.rename(&at("f4"), &at("d/g1"));
    script.rename(&at("f4"), &at("g4"));
    script.rename(&at("f5"), &at("d"));
    script.rename(&at("f5"), &at("none/f5"));
    script.rename(&at("f6"), &at("f7/f6"));
    script.rename_with(RenameFlags::RENAME_NOREPLACE, &at("f6"), &at("f7"));
    script.rename_with(RenameFlags::RENAME_NOREPLACE, &at("f6"), &at("g6"));
    script.rename_with(RenameFlags::RENAME_EXCHANGE, &at("f7"), &at("f8"));
    script.rename(&at("f8"), &at(&"x".repeat(256)));
    script.rename(&at("f8"), &at(&"x".repeat(255)));
    script.rename(&at(&"x".repeat(255)), &at("f8"));
    script.unlink(&at("f9"));
    script.unlink(&at("f9"));
    script.unlink(&at("d"));
    script.make(&at("f9"), 3);
    script.symlink("f10", &at("s"));
    script.symlink("f11", &at("s"));
    script.read_link(&at("s"));
    script.read_link(&at("f10"));
    script.append(&at("s"), "by the link");
    script.rename(&at("s"), &at("d/s"));
    script.symlink("nowhere", &at("s"));
    script.read(&at("s"));
    script.rename(&at("s"), &at("d/s"));
    script.symlink("again", &at("s"));
    script.unlink(&at("s"));
    script.fifo(&at("p"));
    script.fifo(&at("q"));
    script.rename(&at("p"), &at("d/p"));
    script.rename(&at("q"), &at("d/p"));
    script.fifo(&at("p"));
    script.unlink(&at("p"));
    script.device(&at("null"));
    script.rename(&at("f11"), &at("d/p"));
    script.list(dir);
    script.list(&at("d"));
}

fn directories(script: &mut Script, dir: &str) {
    let at = |name: &str| format!("{dir}/{name}");
    script.mkdir(dir);
    for name in ["a", "b", "c", "c/d", "c/d/e", "empty", "gone", "f"] {
        script.mkdir(&at(name));
    }
    script.mkdir(&at("a"));
    script.mkdir(&at("none/a"));
    script.make(&at("a/1"), 11);
    script.make(&at("b/x"), 12);
    script.make(&at("c/d/e/deep"), 13);
    script.make(&at("plain"), 14);
    script.make(&at("c/plain"), 15);
    // Both are used after the failure.
    script.rename(&at("a"), &at("b"));
    script.make(&at("a/2"), 21);
    script.list(&at("a"));
    script.list(&at("b"));
    script.rename(&at("a"), &at("a2"));
    script.rename(&at("b"), &at("b2"));
    script.make(&at("a2/3"), 22);
    script.unlink(&at("a2/1"));
    script.rmdir(&at("a2"));
    script.mkdir(&at("a2/sub"));
    script.rename(&at("a2/sub"), &at("b2/sub"));
    script.make(&at("b2/sub/1"), 23);
    // A file onto a directory, and the other way round.
    script.rename(&at("plain"), &at("empty"));
    script.rename(&at("empty"), &at("plain"));
    script.make(&at("empty/1"), 24);
    script.unlink(&at("empty/1"));
    // Onto an empty one, into itself, onto its parent.
    script.rename(&at("c"), &at("gone"));
    script.rename(&at("gone"), &at("gone/d/inside"));
    script.rename(&at("gone/d"), &at("gone"));
    script.make(&at("gone/d/e/deeper"), 25);
    script.read(&at("gone/d/e/deep"));
    script.rename(&at("gone/d/e"), &at("e"));
    script.rmdir(&at("gone"));
    script.rmdir(&at("gone/d"));
    script.rmdir(&at("plain"));
    script.rmdir(&at("none"));
    script.rmdir(&at("f"));
    script.mkdir(&at("f"));
    // As rm -r does it.
    for name in ["e/deep", "e/deeper"] {
        script.unlink(&at(name));
    }
    script.rmdir(&at("e"));
    for name in ["a2/2", "a2/3"] {
        script.unlink(&at(name));
    }
    script.rmdir(&at("a2"));
    script.list(dir);
}

fn open(script: &mut Script, dir: &str) {
    let at = |name: &str| format!("{dir}/{name}");
    script.mkdir(dir);
    for n in 0..5 {
        script.make(&at(&format!("f{n}")), 400 + n);
    }
    script.held_open(&at("f0"), |script| script.unlink(&at("f0")));
    script.held_open(&at("f1"), |script| script.rename(&at("f1"), &at("g1")));
    script.held_open(&at("f2"), |script| script.rename(&at("f3"), &at("f2")));
    script.held_open(&at("f4"), |script| {
        script.link(&at("f4"), &at("l4"));
        script.unlink(&at("f4"));
        script.make(&at("f4"), 9);
    });
    script.held_open(&at("none"), |_| ());
    script.read(&at("f2"));
    script.read(&at("l4"));
}

fn attributes(script: &mut Script, dir: &str) {
    let at = |name: &str| format!("{dir}/{name}");
    script.mkdir(dir);
    script.mkdir(&at("d"));
    for n in 0..8 {
        script.make(&at(&format!("f{n}")), 50 + n);
    }
    script.chmod(&at("f0"), 0o4755);
    script.chmod(&at("f1"), 0o440);
    script.append(&at("f1"), "not by everybody");
    script.truncate(&at("f1"), 3);
    script.rename(&at("f1"), &at("g1"));
    script.link(&at("g1"), &at("l1"));
    script.unlink(&at("g1"));
    script.chmod(&at("d"), 0o3750);
    script.chown(&at("f2"), USER + 5);
    script.chown(&at("f3"), USER);
    script.touch(&at("f4"), 1_000_000_000);
    script.touch(&at("none"), 1_000_000_000);
    script.set_xattr(&at("f5"), "user.colour", b"red");
    script.set_xattr(&at("f5"), "user.colour", b"a longer value");
    script.set_xattr(&at("f5"), "user.taste", b"");
    script.get_xattr(&at("f5"), "user.colour");
    script.get_xattr(&at("f5"), "user.none");
    script.remove_xattr(&at("f5"), "user.taste");
    script.remove_xattr(&at("f5"), "user.none");
    script.set_xattr(&at("d"), "user.colour", b"blue");
    script.set_xattr(&at("f6"), "system.posix_acl_access", ACL);
    script.get_xattr(&at("f6"), "system.posix_acl_access");
    script.set_xattr(&at("d"), "system.posix_acl_default", ACL);
    script.make(&at("d/heir"), 77);
    script.mkdir(&at("d/heiress"));
    script.set_xattr(&at("f7"), "system.posix_acl_default", ACL);
    script.set_xattr(&at("f7"), "security.something", b"x");
}

/// As many files as an unpacked archive, and half of them go.
fn many(script: &mut Script, dir: &str) {
    script.mkdir(dir);
    for n in 0..16 {
        script.make(&format!("{dir}/f{n}"), n);
    }
    for n in (0..16).step_by(2) {
        let (name, other) = (format!("{dir}/f{n}"), format!("{dir}/f{}", n + 1));
        match n % 3 {
            0 => script.unlink(&name),
            1 => script.rename(&name, &other),
            _ => script.rename(&other, &format!("{dir}/g{n}")),
        }
    }
    script.list(dir);
}

/// The user in a directory of root's.
fn what_others_have(script: &mut Script, dir: &str) {
    let at = |name: &str| format!("{dir}/{name}");
    script.make(&at("new"), 1);
    script.mkdir(&at("newdir"));
    script.append(&at("data/f0"), "not mine");
    script.truncate(&at("data/f0"), 0);
    script.unlink(&at("data/f0"));
    script.rename(&at("data/f0"), &at("data/mine"));
    script.rename("u/own", &at("data/f0"));
    script.rename(&at("data/f0"), "u/own");
    script.link(&at("data/f0"), "u/linked");
    script.chmod(&at("data/f0"), 0o777);
    script.chown(&at("data/f0"), USER);
    script.set_xattr(&at("data/f0"), "user.colour", b"red");
    script.read(&at("data/f0"));
    script.rmdir(&at("many"));
    script.append(&at("attr/f3"), "mine");
    script.list(&at("attr/d"));
}

/// Names that were there before, and directories with the sticky bit.
fn names_again(script: &mut Script, dir: &str) {
    let at = |name: &str| format!("{dir}/{name}");
    script.make(&at("many/f0"), 31);
    script.make(&at("many/f1"), 32);
    script.rename(&at("many/f0"), &at("many/f1"));
    script.mkdir(&at("dirs/a"));
    script.make(&at("dirs/a/1"), 33);
    script.chmod(&at("many"), 0o1777);
    script.as_user(|script| {
        script.make(&at("many/users"), 34);
        script.unlink(&at("many/f1"));
        script.rename(&at("many/users"), &at("many/f1"));
        script.rename(&at("many/users"), &at("many/users2"));
    });
    script.rename(&at("many"), &at("moved"));
    script.list(&at("moved"));
    script.read(&at("moved/f1"));
}
