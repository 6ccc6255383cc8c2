//! One script of ordinary operations on a mount, and what each of them was answered.
#![allow(dead_code, missing_docs)]

pub mod story;
pub mod tree;

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use fsnap_testbed::{Errno, content, getx, removex, setx};
use nix::fcntl::{AT_FDCWD, FallocateFlags, RenameFlags, fallocate, renameat2};
use nix::sys::stat::{Mode, SFlag, mknod};
use nix::unistd::{Gid, Uid, mkfifo, setfsgid, setfsuid};

use crate::common::fsnap;

/// The ordinary user.
pub const USER: u32 = 1000;

/// As whom this thread makes system calls on files.
fn become_user(user: u32) {
    setfsgid(Gid::from_raw(user));
    setfsuid(Uid::from_raw(user));
}

/// The script is run by a thread of its own: the user that it acts as is the thread's.
pub struct Script {
    base: PathBuf,
    /// An ordinary user may not go by the path of the scene's root, but by what this process has open.
    _root: File,
    /// Whether each file that the script makes gets a snapshot at once.
    snapshots: bool,
    user: bool,
    /// One line for each operation.
    pub answers: Vec<String>,
    /// What the snapshots were answered.
    pub taken: Vec<(String, Result<(), Errno>)>,
}

impl Script {
    pub fn new(mount: &Path, snapshots: bool) -> Script {
        let root = File::open(mount).expect("the mount");
        let base = PathBuf::from(format!("/proc/self/fd/{}", root.as_raw_fd()));
        Script { base, _root: root, snapshots, user: false, answers: Vec::new(), taken: Vec::new() }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.base.join(name)
    }

    /// The ordinary user does what follows.
    pub fn as_user(&mut self, act: impl FnOnce(&mut Script)) {
        become_user(USER);
        self.user = true;
        act(self);
        self.user = false;
        become_user(0);
    }

    fn note<T: ToString>(&mut self, what: &str, answer: io::Result<T>) {
        let answer = match answer {
            Ok(value) => value.to_string(),
            Err(error) => error.raw_os_error().map_or(error.to_string(), |n| Errno::from_raw(n).to_string()),
        };
        let who = if self.user { "user" } else { "root" };
        self.answers.push(format!("{who}: {what}: {answer}"));
    }

    fn note_done(&mut self, what: &str, answer: io::Result<()>) {
        self.note(what, answer.map(|()| "done"));
    }

    /// A new file, which gets a snapshot.
    pub fn make(&mut self, name: &str, len: usize) {
        let path = self.at(name);
        let new = File::create_new(&path).and_then(|mut file| file.write_all(&content(len, len as u64)));
        let is_new = new.is_ok();
        self.note_done(&format!("make {name}"), new);
        if self.snapshots && is_new {
            self.taken.push((name.to_owned(), fsnap(path, "create", "s")));
        }
    }

    pub fn mkdir(&mut self, name: &str) {
        self.note_done(&format!("mkdir {name}"), fs::create_dir(self.at(name)));
    }

    /// A directory whose `.fsnap` holds snapshots, of deleted files too, can't be removed (docs/semantics.md): of one that is
    /// empty otherwise root deletes them first.
    fn clear(&self, dir: &Path) {
        if !self.snapshots || fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
            return;
        }
        become_user(0);
        for entry in fs::read_dir(dir.join(".fsnap")).into_iter().flatten().flatten() {
            let name = entry.file_name().into_string().expect("UTF-8");
            let snapshot = name.split('@').nth(1).expect("FILE@NAME");
            fsnap(entry.path(), "delete", snapshot).expect("delete a snapshot");
        }
        become_user(if self.user { USER } else { 0 });
    }

    pub fn rmdir(&mut self, name: &str) {
        self.clear(&self.at(name));
        self.note_done(&format!("rmdir {name}"), fs::remove_dir(self.at(name)));
    }

    pub fn unlink(&mut self, name: &str) {
        self.note_done(&format!("unlink {name}"), fs::remove_file(self.at(name)));
    }

    pub fn rename(&mut self, from: &str, to: &str) {
        if self.at(from).is_dir() {
            self.clear(&self.at(to));
        }
        self.note_done(&format!("rename {from} {to}"), fs::rename(self.at(from), self.at(to)));
    }

    pub fn rename_with(&mut self, flags: RenameFlags, from: &str, to: &str) {
        let answer = renameat2(AT_FDCWD, &self.at(from), AT_FDCWD, &self.at(to), flags);
        self.note_done(&format!("rename {flags:?} {from} {to}"), answer.map_err(io::Error::from));
    }

    pub fn link(&mut self, from: &str, to: &str) {
        self.note_done(&format!("link {from} {to}"), fs::hard_link(self.at(from), self.at(to)));
    }

    pub fn symlink(&mut self, target: &str, name: &str) {
        let answer = std::os::unix::fs::symlink(target, self.at(name));
        self.note_done(&format!("symlink {target} {name}"), answer);
    }

    pub fn fifo(&mut self, name: &str) {
        let answer = mkfifo(&self.at(name), Mode::from_bits_truncate(0o640));
        self.note_done(&format!("fifo {name}"), answer.map_err(io::Error::from));
    }

    /// The device of `/dev/null`.
    pub fn device(&mut self, name: &str) {
        let null = nix::sys::stat::makedev(1, 3);
        let answer = mknod(&self.at(name), SFlag::S_IFCHR, Mode::from_bits_truncate(0o600), null);
        self.note_done(&format!("device {name}"), answer.map_err(io::Error::from));
    }

    pub fn chmod(&mut self, name: &str, mode: u32) {
        let answer = fs::set_permissions(self.at(name), Permissions::from_mode(mode));
        self.note_done(&format!("chmod {name} {mode:o}"), answer);
    }

    pub fn chown(&mut self, name: &str, owner: u32) {
        let answer = std::os::unix::fs::lchown(self.at(name), Some(owner), Some(owner));
        self.note_done(&format!("chown {name} {owner}"), answer);
    }

    /// Both times are set to the same second.
    pub fn touch(&mut self, name: &str, second: u64) {
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(second);
        let times = fs::FileTimes::new().set_accessed(time).set_modified(time);
        let answer = OpenOptions::new().write(true).open(self.at(name)).and_then(|f| f.set_times(times));
        self.note_done(&format!("touch {name}"), answer);
    }

    pub fn truncate(&mut self, name: &str, len: u64) {
        let answer = OpenOptions::new().write(true).open(self.at(name)).and_then(|file| file.set_len(len));
        self.note_done(&format!("truncate {name} {len}"), answer);
    }

    pub fn append(&mut self, name: &str, text: &str) {
        let answer = OpenOptions::new().append(true).open(self.at(name));
        self.note_done(
            &format!("append {name}"),
            answer.and_then(|mut file| file.write_all(text.as_bytes())),
        );
    }

    pub fn write_at(&mut self, name: &str, offset: u64, text: &str) {
        let answer = OpenOptions::new().write(true).open(self.at(name));
        let answer =
            answer.and_then(|file| file.write_all_at(text.as_bytes(), offset).and_then(|()| file.sync_all()));
        self.note_done(&format!("write {name} {offset}"), answer);
    }

    pub fn allocate(&mut self, name: &str, flags: FallocateFlags, offset: i64, len: i64) {
        let answer = OpenOptions::new().write(true).open(self.at(name));
        let answer = answer.and_then(|file| fallocate(&file, flags, offset, len).map_err(io::Error::from));
        self.note_done(&format!("allocate {flags:?} {name}"), answer);
    }

    pub fn read(&mut self, name: &str) {
        let answer =
            fs::read(self.at(name)).map(|bytes| format!("{} bytes, {:x}", bytes.len(), tree::sum(&bytes)));
        self.note(&format!("read {name}"), answer);
    }

    pub fn read_link(&mut self, name: &str) {
        let answer = fs::read_link(self.at(name)).map(|target| target.display().to_string());
        self.note(&format!("readlink {name}"), answer);
    }

    /// All names: nothing is left out here.
    pub fn list(&mut self, name: &str) {
        let names = |entries: fs::ReadDir| -> io::Result<String> {
            let mut names = entries.map(|e| Ok(e?.file_name().into_string().expect("UTF-8")));
            let mut names = names.by_ref().collect::<io::Result<Vec<String>>>()?;
            names.sort();
            Ok(names.join(" "))
        };
        self.note(&format!("list {name}"), fs::read_dir(self.at(name)).and_then(names));
    }

    pub fn set_xattr(&mut self, name: &str, key: &str, value: &[u8]) {
        let answer = setx(self.at(name), key, value);
        self.note_done(&format!("set {key} of {name}"), answer.map_err(io::Error::from));
    }

    pub fn get_xattr(&mut self, name: &str, key: &str) {
        let answer = getx(self.at(name), key).map(|value| value.escape_ascii().to_string());
        self.note(&format!("get {key} of {name}"), answer.map_err(io::Error::from));
    }

    pub fn remove_xattr(&mut self, name: &str, key: &str) {
        let answer = removex(self.at(name), key);
        self.note_done(&format!("remove {key} of {name}"), answer.map_err(io::Error::from));
    }

    /// The file is open while something happens to its names; what was open is then written to and read.
    pub fn held_open(&mut self, name: &str, meanwhile: impl FnOnce(&mut Script)) {
        let open = OpenOptions::new().read(true).write(true).open(self.at(name));
        meanwhile(self);
        let answer = open.and_then(|mut file| {
            file.write_all_at(b"still here", 3)?;
            file.sync_all()?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            let size = file.metadata()?.size();
            Ok(format!("{} of {size} bytes, {:x}", bytes.len(), tree::sum(&bytes)))
        });
        self.note(&format!("what was open as {name}"), answer);
    }
}
