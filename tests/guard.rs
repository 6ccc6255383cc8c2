//! Nobody can change anything in `.fsnap`, and nobody sees or touches fsnap's xattrs.
#![allow(missing_docs)]

mod common;

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use common::{MIB, Setup, client, distribute, fsnap, ls, names, of_deleted, sees, sound};
use fsnap_testbed::{Errno, checksum, fill, getx, listx, removex, setx};

#[track_caller]
fn read_only<T>(what: &str, result: io::Result<T>) {
    let errno = result.err().and_then(|error| error.raw_os_error());
    assert_eq!(errno.map(Errno::from_raw), Some(Errno::EROFS), "{what}");
}

#[track_caller]
fn read_only_x<T: std::fmt::Debug>(what: &str, result: Result<T, Errno>) {
    assert_eq!(result.err(), Some(Errno::EROFS), "{what}");
}

/// Opens, writes, syncs: open-behind and write-behind in the client put off what they can.
fn write(how: &OpenOptions, path: &Path) -> io::Result<()> {
    let mut file = how.open(path)?;
    file.write_all(b"changed")?;
    file.sync_all()
}

/// Everything that root can try by path, in the directory `dir` of which `f` has the snapshot `s`.
fn attack(dir: &Path) {
    let (file, inside) = (dir.join("f"), dir.join(".fsnap"));
    let snapshot = inside.join("f@s");
    let other = dir.join("other");
    fs::write(&other, b"other").unwrap();

    read_only("write", write(OpenOptions::new().write(true), &snapshot));
    read_only("read and write", write(OpenOptions::new().read(true).write(true), &snapshot));
    read_only("append", write(OpenOptions::new().append(true), &snapshot));
    read_only("open to truncate", OpenOptions::new().write(true).truncate(true).open(&snapshot));
    read_only("truncate", nix_truncate(&snapshot));
    read_only("create", File::create(inside.join("new")));
    read_only("mkdir", fs::create_dir(inside.join("new")));
    read_only("symlink", symlink("x", inside.join("new")));
    read_only("mkfifo", mkfifo(&inside.join("new")));
    read_only("link in", fs::hard_link(&other, inside.join("new")));
    read_only("link out", fs::hard_link(&snapshot, dir.join("new")));
    read_only("unlink", fs::remove_file(&snapshot));
    // DHT sees that it is not empty before it asks a brick.
    let rmdir = fs::remove_dir(&inside).unwrap_err().raw_os_error().map(Errno::from_raw);
    assert!([Some(Errno::ENOTEMPTY), Some(Errno::EROFS)].contains(&rmdir), "rmdir .fsnap: {rmdir:?}");
    read_only("chmod", fs::set_permissions(&snapshot, Permissions::from_mode(0o666)));
    read_only("chmod .fsnap", fs::set_permissions(&inside, Permissions::from_mode(0o777)));
    read_only("chown", chown(&snapshot, Some(1), Some(1)));
    read_only("chown .fsnap", chown(&inside, Some(1), Some(1)));
    read_only_x("setxattr", setx(&snapshot, "user.x", "1"));
    read_only_x("setxattr .fsnap", setx(&inside, "user.x", "1"));
    read_only_x("setxattr trusted", setx(&snapshot, "trusted.x", "1"));
    read_only_x("removexattr", removex(&snapshot, "user.colour"));

    let open = File::open(&snapshot).unwrap();
    read_only("fchmod", open.set_permissions(Permissions::from_mode(0o666)));
    read_only("fchown", std::os::unix::fs::fchown(&open, Some(1), None));
    read_only("futimens", open.set_modified(std::time::SystemTime::UNIX_EPOCH));
    assert_eq!(fs::read(&other).unwrap(), b"other");
    assert_eq!(names(&file), ["s"]);
}

/// The renames that root can try, each on a mount of its own: under load GlusterFS 10.3 reports a rename that a brick
/// has refused as done now and then, also without fsnap, and the mount that asked believes it. The bricks decide.
fn attack_by_rename(setup: &Setup) {
    for (from, to) in [
        ("other", ".fsnap/new"),
        ("other", ".fsnap/f@s"),
        (".fsnap/f@s", "new"),
        (".fsnap/f@s", ".fsnap/f@t"),
        (".fsnap", "snapshots"),
    ] {
        let mount = setup.volume.mount("/run/scene/renames");
        let dir = mount.path().join("d");
        let result = fs::rename(dir.join(from), dir.join(to)).err().and_then(|error| error.raw_os_error());
        assert!([None, Some(Errno::EROFS as i32)].contains(&result), "rename {from} to {to}: {result:?}");
        let on_bricks = |sub: &str| {
            let bricks = 0..setup.volume.bricks().len();
            let mut all: Vec<String> =
                bricks.flat_map(|n| ls(setup.volume.brick_path(n).join("d").join(sub))).collect();
            all.sort();
            all.dedup();
            all
        };
        assert_eq!(on_bricks("."), [".fsnap", "f", "other"], "rename {from} to {to}");
        assert_eq!(on_bricks(".fsnap"), ["f@s"], "rename {from} to {to}");
    }
}

fn nix_truncate(path: &Path) -> io::Result<()> {
    // std has no truncate by path.
    let status = std::process::Command::new("truncate").args(["-c", "-s", "0"]).arg(path).output()?;
    let text = String::from_utf8_lossy(&status.stderr).into_owned();
    if text.contains("Read-only file system") {
        Err(io::Error::from_raw_os_error(Errno::EROFS as i32))
    } else {
        Ok(())
    }
}

fn mkfifo(path: &Path) -> io::Result<()> {
    let output = std::process::Command::new("mkfifo").arg(path).output()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    if text.contains("Read-only file system") {
        Err(io::Error::from_raw_os_error(Errno::EROFS as i32))
    } else {
        Ok(())
    }
}

/// user::rw-, group::rw-, other::rw-
fn acl() -> Vec<u8> {
    let mut bytes = 2u32.to_le_bytes().to_vec();
    for tag in [1u16, 4, 0x20] {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(6u16.to_le_bytes());
        bytes.extend(u32::MAX.to_le_bytes());
    }
    bytes
}

/// The directory `d` with the file `f`, which has the snapshot `s`; and the snapshot's checksum.
fn scene(bricks: usize) -> (Setup, std::path::PathBuf, u64) {
    let setup = distribute(bricks);
    let dir = setup.mount.path().join("d");
    fs::create_dir(&dir).unwrap();
    fill(dir.join("f"), MIB, 1);
    setx(dir.join("f"), "user.colour", "red").unwrap();
    fsnap(dir.join("f"), "create", "s").unwrap();
    let sum = checksum(dir.join(".fsnap/f@s"));
    (setup, dir, sum)
}

#[test]
fn by_path_and_by_open_file() {
    for bricks in [1, 2] {
        let (setup, dir, sum) = scene(bricks);
        attack(&dir);
        attack_by_rename(&setup);
        // Nothing of it rests on what the brick remembers.
        setup.volume.stop();
        setup.volume.start();
        setup.mount.wait_connected(bricks);
        attack(&dir);
        attack_by_rename(&setup);
        assert_eq!(checksum(dir.join(".fsnap/f@s")), sum);
        assert_eq!(getx(dir.join(".fsnap/f@s"), "user.colour").unwrap(), b"red");
        // And the file itself is as free as ever.
        fill(dir.join("f"), MIB, 2);
        fsnap(dir.join("f"), "restore", "s").unwrap();
        sees(dir.join("f"), sum);
        fsnap(dir.join("f"), "delete", "s").unwrap();
        assert!(ls(dir.join(".fsnap")).is_empty());
        read_only("rmdir of an empty .fsnap", fs::remove_dir(dir.join(".fsnap")));
    }
}

#[test]
fn by_acl() {
    let (setup, _, _) = scene(1);
    let mount = setup.volume.mount_with("/run/scene/acl", &["--acl"]);
    setx(mount.path().join("d/f"), "system.posix_acl_access", acl()).unwrap();
    let snapshot = mount.path().join("d/.fsnap/f@s");
    read_only_x("ACL", setx(snapshot, "system.posix_acl_access", acl()));
}

/// A mount that shows files by their gfids reaches them without a name.
#[test]
fn by_gfid() {
    let (setup, dir, sum) = scene(1);
    let gfid = common::ask(dir.join("f"), "info.s").unwrap()["gfid"].as_str().unwrap().to_owned();
    let nameless = setup.volume.mount_with("/run/scene/gfid", &["--aux-gfid-mount"]);
    for _ in 0..2 {
        let snapshot = nameless.path().join(".gfid").join(&gfid);
        assert_eq!(checksum(&snapshot), sum);
        read_only("write", write(OpenOptions::new().write(true), &snapshot));
        read_only("truncate", nix_truncate(&snapshot));
        read_only("chmod", fs::set_permissions(&snapshot, Permissions::from_mode(0o666)));
        read_only_x("setxattr", setx(&snapshot, "user.x", "1"));
        setup.volume.kill_brick(0);
        setup.volume.restart_brick(0);
        setup.mount.wait_connected(1);
        nameless.wait_connected(1);
    }
}

#[test]
fn the_name_is_reserved() {
    let setup = distribute(2);
    let root = setup.mount.path();
    fs::create_dir(root.join("d")).unwrap();
    fs::write(root.join("file"), b"x").unwrap();
    fs::create_dir(root.join("dir")).unwrap();
    for (what, result) in [
        ("mkdir", fs::create_dir(root.join("d/.fsnap")).err()),
        ("create", OpenOptions::new().write(true).create_new(true).open(root.join("d/.fsnap")).err()),
        ("symlink", symlink("x", root.join("d/.fsnap")).err()),
        ("link", fs::hard_link(root.join("file"), root.join("d/.fsnap")).err()),
        ("rename file", fs::rename(root.join("file"), root.join("d/.fsnap")).err()),
        ("rename dir", fs::rename(root.join("dir"), root.join("d/.fsnap")).err()),
    ] {
        match result.map(|error| Errno::from_raw(error.raw_os_error().unwrap())) {
            Some(errno) => assert_eq!(errno, Errno::EROFS, "{what}"),
            // DHT of GlusterFS 10.3 says now and then that a rename was done which a brick has refused (docs/semantics.md).
            None => assert_eq!(what, "rename file"),
        }
    }
    let fresh = setup.volume.mount("/run/scene/fresh");
    assert!(!fresh.path().join("d/.fsnap").exists());
    assert_eq!(ls(fresh.path()), ["d", "dir", "file"]);
}

#[test]
fn our_xattrs_are_nobodys_business() {
    let (setup, dir, _) = scene(1);
    let file = dir.join("f");
    let below = setup.volume.brick_path(0).join("d/f");
    assert!(listx(&below).unwrap().iter().any(|name| name == "trusted.fsnap.seq"));
    for file in [&file, &dir.join(".fsnap/f@s")] {
        let seen = listx(file).unwrap();
        assert!(!seen.iter().any(|name| name.to_string_lossy().contains("fsnap")), "{seen:?}");
        assert!(seen.iter().any(|name| name == "user.colour"), "{seen:?}");
    }
    for name in [
        "trusted.fsnap.seq",
        "trusted.fsnap.catalogue.0",
        "trusted.fsnap.catalogue.1",
        "trusted.fsnap.record",
    ] {
        assert_eq!(getx(&file, name), Err(Errno::ENODATA), "{name}");
        assert_eq!(setx(&file, name, "1"), Err(Errno::EPERM), "{name}");
        assert_eq!(removex(&file, name), Err(Errno::EPERM), "{name}");
    }
    assert_eq!(names(&file), ["s"]);
}

/// By file handle, and by files that are open for reading only: what a mount does not let through, libgfapi does.
#[test]
fn by_gfapi() {
    let (setup, dir, sum) = scene(1);
    let gfid = common::ask(dir.join("f"), "info.s").unwrap()["gfid"].as_str().unwrap().to_owned();
    let results = client(&setup, "gfapi", &["v", "127.1.1.1", "/d", &gfid, "/var/log/glusterfs/gfapi.log"]);
    assert_eq!(results.len(), 26, "{results:?}");
    // The client of GlusterFS 10.3 gives the wrong errno for a copy_file_range that a brick has refused; its server
    // crashes over an fsetattr that is refused with any other errno than ESTALE.
    let any_errno = |call: &str| call.starts_with("glfs_copy_file_range") || call.starts_with("glfs_fch");
    let refused = |(call, errno): &(String, Errno)| match any_errno(call) {
        true => *errno != Errno::UnknownErrno,
        false => *errno == Errno::EROFS,
    };
    let allowed: Vec<_> = results.iter().filter(|result| !refused(result)).collect();
    assert!(allowed.is_empty(), "{allowed:?}");
    assert_eq!(checksum(dir.join(".fsnap/f@s")), sum);
    assert_eq!(fs::metadata(dir.join(".fsnap/f@s")).unwrap().permissions().mode() & 0o7777, 0o444);
    assert_eq!(ls(dir.join(".fsnap")), ["f@s"]);
    assert_eq!(ls(&dir), ["f", "gfapi"]);
}

#[test]
fn by_requests_that_no_mount_makes() {
    let setup = distribute(1);
    let root = setup.mount.path();
    fill(root.join("f"), MIB, 1);
    fsnap(root.join("f"), "create", "s").unwrap();
    for dir in ["tree/of/dirs", "bare/of/dirs"] {
        fs::create_dir_all(root.join(dir)).unwrap();
        fs::write(root.join(dir).join("f"), b"x").unwrap();
    }
    fsnap(root.join("tree/of/dirs/f"), "create", "s").unwrap();
    let brick = setup.volume.brick_path(0);
    let xattrs = || listx(brick.join("f")).unwrap();
    let before = xattrs();
    for (dir, tree) in [("tree", Errno::ENOTEMPTY), ("bare", Errno::UnknownErrno)] {
        let results =
            client(&setup, "raw", &["v", "127.1.1.1", "/var/log/glusterfs/raw.log", "forge", "f", dir]);
        assert_eq!(results.len(), 13, "{results:?}");
        for (call, errno) in results {
            let expected = match call.as_str() {
                "rmdir-tree" => tree,
                "lookup-all" => Errno::UnknownErrno,
                _ => Errno::EPERM,
            };
            assert_eq!(errno, expected, "{call}");
        }
    }
    assert_eq!(xattrs(), before);
    assert_eq!(ls(&brick), [".fsnap", ".glusterfs", "f", "tree"]);
    assert_eq!(names(root.join("f")), ["s"]);
    assert_eq!(fs::read(root.join("tree/of/dirs/.fsnap/f@s")).unwrap(), b"x");
}

/// At once, and not when its content has gone.
#[test]
fn a_deleted_file_by_its_gfid() {
    let setup = distribute(1);
    let root = setup.mount.path();
    let file = root.join("f");
    fill(&file, MIB, 1);
    let sum = checksum(&file);
    setx(&file, "user.colour", "red").unwrap();
    fsnap(&file, "create", "s").unwrap();
    let results = client(&setup, "raw", &["v", "127.1.1.1", "/var/log/glusterfs/raw.log", "gone", "f", "-"]);
    assert_eq!(results.len(), 21, "{results:?}");
    for (call, errno) in results {
        let goes_on = call.starts_with("open-") || call.starts_with("heal-");
        assert_eq!(errno, if goes_on { Errno::UnknownErrno } else { Errno::ESTALE }, "{call}");
    }
    let snapshot = of_deleted(&root, "f");
    assert_eq!((names(&snapshot), checksum(&snapshot)), (vec!["s".to_owned()], sum));

    // By a mount, that has seen it before and another that has not.
    let other = root.join("g");
    fill(&other, MIB, 2);
    fsnap(&other, "create", "s").unwrap();
    let gfid = getx(setup.volume.brick_path(0).join("g"), "trusted.gfid").unwrap();
    let hex: String = gfid.iter().map(|byte| format!("{byte:02x}")).collect();
    let uuid = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
    let mounts =
        ["/run/scene/m2", "/run/scene/m3"].map(|at| setup.volume.mount_with(at, &["--aux-gfid-mount"]));
    let there = mounts.each_ref().map(|mount| mount.path().join(".gfid").join(&uuid));
    assert_eq!(fs::read(&there[0]).unwrap().len() as u64, MIB);
    let open = fs::File::open(&other).unwrap();
    fs::remove_file(&other).unwrap();
    let gone = |result: std::io::Result<u64>| {
        let errno = result.as_ref().err().and_then(std::io::Error::raw_os_error);
        assert!([Some(libc::ESTALE), Some(libc::ENOENT)].contains(&errno), "{result:?}");
    };
    let read = |path| fs::read(path).map(|content| content.len() as u64);
    gone(read(&there[1]));
    let mut content = vec![0; MIB as usize];
    std::os::unix::fs::FileExt::read_exact_at(&open, &mut content, 0).unwrap();
    assert_eq!((content, open.metadata().unwrap().len()), (fsnap_testbed::content(MIB as usize, 2), MIB));
    // The kernel and the client remember for a second each what they have seen.
    std::thread::sleep(std::time::Duration::from_secs(2));
    for path in &there {
        gone(fs::metadata(path).map(|file| file.len()));
        gone(read(path));
    }
    assert_eq!(open.metadata().unwrap().len(), MIB);

    // All that is about its snapshots goes by these.
    let snapshot = of_deleted(&root, "g");
    fsnap(&snapshot, "restore", "s").unwrap();
    assert_eq!(fs::read(&other).unwrap().len() as u64, MIB);
    assert_eq!(fs::read(mounts[1].path().join(".gfid").join(&uuid)).unwrap().len() as u64, MIB);
    sound(&setup.volume);
}
