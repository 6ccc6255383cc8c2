//! Ordinary users: the owner commands, a reader looks, a stranger can do nothing.
#![allow(missing_docs)]

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};

use common::{MIB, Setup, distribute, fsnap, names, sees};
use fsnap_testbed::{checksum, fill};

const OWNER: u32 = 4001;
const READER: u32 = 4002;
const STRANGER: u32 = 4003;
/// The group of the owner and the reader.
const GROUP: u32 = 4000;

struct User<'a>(&'a Setup, u32, u32);

impl User<'_> {
    fn run(&self, program: &str, args: &[&str]) -> Result<String, String> {
        let output = self.0.scene.command_as(self.1, self.2, program).args(args).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    fn set(&self, verb: &str, name: &str) -> Result<String, String> {
        self.run("setfattr", &["-n", &format!("glusterfs.fsnap.{verb}"), "-v", name, "/run/scene/m/home/f"])
    }

    fn get(&self, question: &str) -> Result<String, String> {
        let key = format!("glusterfs.fsnap.{question}");
        self.run("getfattr", &["--absolute-names", "--only-values", "-n", &key, "/run/scene/m/home/f"])
    }

    fn cat(&self, file: &str) -> Result<String, String> {
        self.run("md5sum", &[&format!("/run/scene/m/home/{file}")])
    }
}

fn denied<T: std::fmt::Debug>(result: Result<T, String>) {
    let error = result.expect_err("should be denied");
    assert!(error.contains("Permission denied"), "{error}");
}

#[test]
fn owner_reader_stranger() {
    let setup = distribute(2);
    let home = setup.mount.path().join("home");
    fs::create_dir(&home).unwrap();
    fs::set_permissions(&home, fs::Permissions::from_mode(0o755)).unwrap();
    let file = home.join("f");
    fill(&file, MIB, 1);
    chown(&home, Some(OWNER), Some(GROUP)).unwrap();
    chown(&file, Some(OWNER), Some(GROUP)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let sum = checksum(&file);
    let (owner, reader, stranger) =
        (User(&setup, OWNER, GROUP), User(&setup, READER, GROUP), User(&setup, STRANGER, STRANGER));

    owner.set("create", "a").unwrap();
    owner.set("create", "b").unwrap();
    owner.set("delete", "b").unwrap();
    assert!(owner.get("list").unwrap().contains("\"name\":\"a\""));
    owner.cat(".fsnap/f@a").unwrap();
    fill(&file, MIB, 2);
    owner.set("restore", "a").unwrap();
    sees(&file, sum);

    assert!(reader.get("list").unwrap().contains("\"name\":\"a\""));
    reader.get("info.a").unwrap();
    reader.cat(".fsnap/f@a").unwrap();
    for (verb, name) in [("create", "c"), ("delete", "a"), ("restore", "a"), ("hold", "a")] {
        denied(reader.set(verb, name));
    }

    for (verb, name) in [("create", "c"), ("delete", "a"), ("restore", "a"), ("hold", "a")] {
        denied(stranger.set(verb, name));
    }
    denied(stranger.get("list"));
    denied(stranger.get("info.a"));
    denied(stranger.cat(".fsnap/f@a"));
    assert_eq!(names(&file), ["a"]);
    assert_eq!(checksum(&file), sum);
}

#[test]
fn a_group_that_may_write_may_restore() {
    let setup = distribute(1);
    let home = setup.mount.path().join("home");
    fs::create_dir(&home).unwrap();
    let file = home.join("f");
    fill(&file, MIB, 1);
    chown(&file, Some(OWNER), Some(GROUP)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o660)).unwrap();
    let sum = checksum(&file);
    fsnap(&file, "create", "a").unwrap();
    fill(&file, 2 * MIB, 2);
    let before = fs::metadata(&file).unwrap().modified().unwrap();
    User(&setup, READER, GROUP).set("restore", "a").unwrap();
    sees(&file, sum);
    let meta = fs::metadata(&file).unwrap();
    assert!(meta.modified().unwrap() > before, "caches elsewhere learn of a restore by the mtime");
    assert_eq!(meta.permissions().mode() & 0o7777, 0o660);
}

#[test]
fn the_virtual_directory_is_only_made_for_those_who_may_list_its_parent() {
    let setup = distribute(1);
    let home = setup.mount.path().join("home");
    fs::create_dir(&home).unwrap();
    chown(&home, Some(OWNER), Some(GROUP)).unwrap();
    fs::set_permissions(&home, fs::Permissions::from_mode(0o711)).unwrap();
    let below = setup.volume.brick_path(0).join("home/.fsnap");
    let stranger = User(&setup, STRANGER, STRANGER);
    assert!(stranger.run("ls", &["/run/scene/m/home/.fsnap"]).unwrap_err().contains("No such file"));
    assert!(!below.exists());
    assert_eq!(User(&setup, OWNER, GROUP).run("ls", &["/run/scene/m/home/.fsnap"]).unwrap(), "");
    assert!(below.exists());
    denied(stranger.run("ls", &["/run/scene/m/home/.fsnap"]));
}
