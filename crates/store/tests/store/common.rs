//! Bricks to try things on.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use fsnap_core::catalogue::{Page, page_key};
use fsnap_core::command::Create;
use fsnap_core::gfid2path::Link;
use fsnap_core::record::{PayloadRecord, Record, encode_seq};
use fsnap_core::{Error, Gfid, Result, SnapName, Timestamp};
use fsnap_store::{Catalogue, Cloned, Limits, Outstanding, Store};
use fsnap_testbed::{Disk, Fs, Scene, entry_line, getx, listx, removex, run, setx};

pub const MIB: usize = 1 << 20;
pub const PLENTY: Limits = Limits { max_snapshots: 256, min_free: 0 };
/// An xattr of a file that quota counts.
pub const QUOTA: &str = "trusted.glusterfs.quota.00000000-0000-0000-0000-000000000001.contri.1";

/// The file systems that share blocks, those that this kernel mounts.
pub fn reflink() -> Vec<Fs> {
    let mut all = vec![Fs::Xfs, Fs::Btrfs];
    match Fs::XfsExchange.is_known() {
        true => all.push(Fs::XfsExchange),
        false => eprintln!("SKIPPED: XFS with exchange-range, which this kernel does not know"),
    }
    all
}

/// A brick of its own, alone or one of several on a disk.
pub struct TestBrick {
    pub path: PathBuf,
}

/// A brick on a disk that all tests share: they look at their own directory only.
pub fn brick(fs: Fs) -> TestBrick {
    const ALL: [Fs; 5] = [Fs::Xfs, Fs::XfsExchange, Fs::XfsNoReflink, Fs::Btrfs, Fs::Ext4];
    static DISKS: [OnceLock<Disk>; ALL.len()] = [const { OnceLock::new() }; ALL.len()];
    static SCENE: OnceLock<Scene> = OnceLock::new();
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let index = ALL.iter().position(|&f| f == fs).unwrap();
    let disk = DISKS[index].get_or_init(|| {
        let scene = SCENE.get_or_init(Scene::new);
        scene.disk(fs, 1 << 32, format!("/run/scene/{index}"))
    });
    TestBrick::at(disk.path().join(format!("brick{}", COUNT.fetch_add(1, Ordering::Relaxed))))
}

/// A disk of its own with one brick, for tests that shake the disk.
pub fn own_disk(fs: Fs, bytes: u64) -> (Disk, TestBrick) {
    let disk = Scene::new().disk(fs, bytes, "/run/scene/own");
    let brick = TestBrick::at(disk.path().join("brick"));
    (disk, brick)
}

impl TestBrick {
    /// A new brick at `path`.
    pub fn at(path: PathBuf) -> TestBrick {
        fs::create_dir_all(path.join(".glusterfs/00/00")).unwrap();
        setx(&path, "trusted.gfid", Gfid::ROOT.as_bytes()).unwrap();
        symlink("../../..", path.join(Gfid::ROOT.handle())).unwrap();
        TestBrick { path }
    }

    pub fn store(&self) -> Store {
        Store::open(&self.path).unwrap()
    }

    pub fn join(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.path.join(relative)
    }

    pub fn handle(&self, gfid: Gfid) -> PathBuf {
        self.path.join(gfid.handle())
    }

    /// A directory, as storage/posix makes it. `at` is relative to the brick.
    pub fn make_dir(&self, at: impl AsRef<Path>) -> Gfid {
        let (path, gfid, link) = (self.join(&at), next_gfid(), self.link_of(at.as_ref()));
        fs::create_dir(&path).unwrap();
        setx(&path, "trusted.gfid", gfid.as_bytes()).unwrap();
        self.make_soft_handle(gfid, &link);
        gfid
    }

    fn make_soft_handle(&self, gfid: Gfid, link: &Link) {
        let handle = self.handle(gfid);
        fs::create_dir_all(handle.parent().unwrap()).unwrap();
        let [a, b, ..] = link.parent.as_bytes();
        let target = [format!("../../{a:02x}/{b:02x}/").into_bytes(), link.encode()].concat();
        symlink(OsString::from_vec(target), handle).unwrap();
    }

    /// A file, as storage/posix makes it.
    pub fn make_file(&self, at: impl AsRef<Path>, content: &[u8]) -> Gfid {
        let path = self.join(&at);
        fs::write(&path, content).unwrap();
        self.adopt(at)
    }

    /// Gives what is at `at` a gfid, a handle and a gfid2path.
    pub fn adopt(&self, at: impl AsRef<Path>) -> Gfid {
        let gfid = next_gfid();
        self.adopt_as(at, gfid);
        gfid
    }

    fn adopt_as(&self, at: impl AsRef<Path>, gfid: Gfid) {
        let (path, handle) = (self.join(&at), self.handle(gfid));
        setx(&path, "trusted.gfid", gfid.as_bytes()).unwrap();
        fs::create_dir_all(handle.parent().unwrap()).unwrap();
        fs::hard_link(&path, handle).unwrap();
        self.note_link(&at);
    }

    /// An empty file with this gfid, as self-heal has storage/posix make it.
    pub fn make_as(&self, at: impl AsRef<Path>, gfid: Gfid) {
        fs::write(self.join(&at), b"").unwrap();
        fs::set_permissions(self.join(&at), fs::Permissions::from_mode(0o444)).unwrap();
        self.adopt_as(at, gfid);
    }

    pub fn note_link(&self, at: impl AsRef<Path>) {
        let link = self.link_of(at.as_ref());
        setx(self.join(&at), link.key(), link.encode()).unwrap();
    }

    pub fn link_of(&self, at: &Path) -> Link {
        let parent = getx(self.path.join(at).parent().unwrap(), "trusted.gfid").unwrap();
        Link { parent: Gfid::from_xattr(&parent).unwrap(), name: at.file_name().unwrap().as_bytes().to_vec() }
    }

    /// link(2) as storage/posix does it.
    pub fn link(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) {
        fs::hard_link(self.join(from), self.join(&to)).unwrap();
        self.note_link(to);
    }

    /// rename(2) of a file as storage/posix does it: the handle of a file that is replaced goes with its last name, while
    /// the xattr of one of several names stays behind.
    pub fn rename(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) {
        let (old, new) = (self.link_of(from.as_ref()), self.link_of(to.as_ref()));
        let victim = fs::metadata(self.join(&to)).ok().map(|meta| (meta.nlink(), self.gfid(&to)));
        fs::rename(self.join(from), self.join(&to)).unwrap();
        removex(self.join(&to), old.key()).unwrap();
        setx(self.join(&to), new.key(), new.encode()).unwrap();
        if let Some((2, gfid)) = victim {
            fs::remove_file(self.handle(gfid)).unwrap();
        }
    }

    /// unlink(2) as storage/posix does it.
    pub fn unlink(&self, at: impl AsRef<Path>) {
        let path = self.join(&at);
        match fs::metadata(&path).unwrap().nlink() {
            2 => fs::remove_file(self.handle(self.gfid(&at))).unwrap(),
            _ => removex(&path, self.link_of(at.as_ref()).key()).unwrap(),
        }
        fs::remove_file(path).unwrap();
    }

    /// rename(2) of a directory as storage/posix does it.
    pub fn rename_dir(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) {
        let (gfid, link) = (self.gfid(&from), self.link_of(to.as_ref()));
        fs::remove_file(self.handle(gfid)).unwrap();
        fs::rename(self.join(from), self.join(to)).unwrap();
        self.make_soft_handle(gfid, &link);
    }

    /// A link file as DHT has one made for the file `gfid`, which is on another brick.
    pub fn make_link_file(&self, at: impl AsRef<Path>, gfid: Gfid) {
        let path = self.join(&at);
        fs::write(&path, b"").unwrap();
        setx(&path, "trusted.gfid", gfid.as_bytes()).unwrap();
        setx(&path, "trusted.glusterfs.dht.linkto", b"vol-client-1\0").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o1000)).unwrap();
        fs::create_dir_all(self.handle(gfid).parent().unwrap()).unwrap();
        fs::hard_link(&path, self.handle(gfid)).unwrap();
        self.note_link(&at);
    }

    pub fn gfid(&self, at: impl AsRef<Path>) -> Gfid {
        Gfid::from_xattr(&getx(self.join(at), "trusted.gfid").unwrap()).unwrap()
    }

    /// What the gfid2path xattrs of a file say, with the parents' paths for their gfids, sorted.
    pub fn names_of(&self, gfid: Gfid, parents: &[&str]) -> Vec<String> {
        let keys = listx(self.handle(gfid)).unwrap().into_iter();
        let keys = keys.filter(|key| key.to_str().unwrap().starts_with("trusted.gfid2path."));
        let mut names: Vec<_> = keys
            .map(|key| {
                let link = Link::decode(&getx(self.handle(gfid), &key).unwrap()).unwrap();
                assert_eq!(key.to_str().unwrap(), link.key());
                let parent = parents.iter().find(|at| self.join(at).exists() && self.gfid(at) == link.parent);
                let parent = parent.map_or(link.parent.to_string(), |at| at.to_string());
                format!("{parent}/{}", String::from_utf8_lossy(&link.name))
            })
            .collect();
        names.sort();
        names
    }

    /// The names in `buried`.
    pub fn buried(&self) -> Vec<String> {
        names(&self.join(".glusterfs/fsnap/buried"))
    }

    /// What the xattr of the base says about a snapshot.
    pub fn record(&self, base: Gfid, snapshot: &str) -> Record {
        let text = entry_line(self.handle(base), snapshot).unwrap();
        Record::decode(base, &name(snapshot), text.as_bytes()).unwrap()
    }

    pub fn payload_record(&self, payload: Gfid) -> PayloadRecord {
        PayloadRecord::decode(&getx(self.handle(payload), "trusted.fsnap.record").unwrap()).unwrap()
    }

    /// A catalogue entry for the payload at `at`.
    pub fn entry_of(&self, at: &str) -> String {
        let record = getx(self.join(at), "trusted.fsnap.record").unwrap();
        let PayloadRecord { seq, id, gfid, .. } = PayloadRecord::decode(&record).unwrap();
        Record { seq, id, gfid, created: None, held: false }.to_string()
    }

    pub fn lost(&self) -> Vec<String> {
        names(&self.join(".glusterfs/fsnap/lost"))
    }

    pub fn intents(&self) -> Vec<String> {
        names(&self.join(".glusterfs/fsnap/intents"))
    }

    /// Makes all that was written durable.
    pub fn sync(&self) {
        tool("sync", &["-f"], &self.path);
    }

    /// Everything about every file of the brick but atimes.
    pub fn tree(&self) -> BTreeMap<PathBuf, String> {
        let mut tree = BTreeMap::new();
        describe(&self.path, &mut tree);
        tree
    }

    /// Asserts that `call` fails with `errno` and changes nothing on the brick.
    #[track_caller]
    pub fn refuses<T>(&self, errno: i32, call: impl FnOnce() -> Result<T>) -> Error {
        let before = self.tree();
        let Err(error) = call() else { panic!("not refused") };
        assert_eq!(error.errno(), errno, "{error}");
        let after = self.tree();
        if before != after {
            for (path, now) in &after {
                if before.get(path) != Some(now) {
                    eprintln!("{}: {:?}\n-> {now}", path.display(), before.get(path));
                }
            }
            panic!("refused ({error}), but something changed");
        }
        error
    }
}

fn describe(path: &Path, tree: &mut BTreeMap<PathBuf, String>) {
    let meta = fs::symlink_metadata(path).unwrap();
    // Megabytes that mean nothing.
    let reserved = path.parent().is_some_and(|dir| dir.ends_with(".glusterfs/fsnap/reserve"));
    let xattrs: Vec<_> = if meta.file_type().is_symlink() || reserved {
        Vec::new()
    } else {
        listx(path).unwrap().into_iter().map(|name| (getx(path, &name), name)).collect()
    };
    let content = match meta.file_type() {
        t if t.is_symlink() => fs::read_link(path).unwrap().display().to_string(),
        t if t.is_file() && !reserved => fsnap_testbed::checksum(path).to_string(),
        t if t.is_fifo() => "fifo".into(),
        _ => String::new(),
    };
    let times = (meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec());
    let inode = (meta.ino(), meta.mode(), meta.uid(), meta.gid(), meta.nlink(), meta.size());
    tree.insert(path.to_owned(), format!("{inode:?} {times:?} {content} {xattrs:?}"));
    if meta.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            describe(&entry.unwrap().path(), tree);
        }
    }
}

/// The names in a directory, sorted; none if it is not there.
pub fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

pub fn next_gfid() -> Gfid {
    static COUNT: AtomicU64 = AtomicU64::new(1);
    let n = COUNT.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut bytes = [0x40; 16];
    bytes[..8].copy_from_slice(&n.to_be_bytes());
    Gfid::from_bytes(bytes)
}

pub fn name(text: &str) -> SnapName {
    SnapName::parse(text.as_bytes()).unwrap()
}

/// That of a restore, or of a caller of create.
pub fn id(n: u8) -> Gfid {
    Gfid::from_bytes([n; 16])
}

pub fn bare(text: &str) -> Create {
    Create { name: name(text), created: None, id: None }
}

/// A snapshot, as another brick may have taken it.
pub fn taken(base: Gfid, text: &str, seq: u64) -> Record {
    Record { seq, id: None, gfid: base.payload(&name(text), None, seq), created: None, held: false }
}

/// What self-heal does to a file: brings the catalogue `truth`, whose last number is `seq`.
pub fn heal(
    b: &TestBrick,
    store: &Store,
    base: Gfid,
    seq: u64,
    truth: &[(&str, Record)],
) -> Result<Outstanding> {
    let truth = catalogue(seq, truth);
    store.adopt(base, &truth)?;
    setx(b.handle(base), "trusted.fsnap.seq", encode_seq(seq)).unwrap();
    for (number, page) in &truth.pages {
        setx(b.handle(base), page_key(*number), page.to_bytes()).unwrap();
    }
    store.outstanding(base)
}

/// A catalogue with these entries, whose last number is `seq`.
pub fn catalogue(seq: u64, entries: &[(&str, Record)]) -> Catalogue {
    let mut page = Page::default();
    entries.iter().for_each(|(text, record)| page.put(&name(text), record));
    let pages = if page.is_empty() { BTreeMap::new() } else { [(0, page)].into() };
    Catalogue { seq: Some(seq), pages, ..Catalogue::default() }
}

pub fn time(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

pub fn snap(store: &Store, base: Gfid, text: &str) -> Cloned {
    store.create(base, &bare(text), &PLENTY).unwrap_or_else(|e| panic!("create {text}: {e}"))
}

pub fn listed(store: &Store, base: Gfid) -> Vec<String> {
    store.list(base).unwrap().iter().map(|s| s.name.to_string()).collect()
}

/// `trusted.glusterfs.mdata` with an mtime.
pub fn mdata(mtime: (u64, u64)) -> Vec<u8> {
    let mut bytes = vec![1];
    for word in [0, 1, 2, mtime.0, mtime.1, 3, 4] {
        bytes.extend(word.to_be_bytes());
    }
    bytes
}

/// Runs a tool that comes with the file systems.
pub fn tool(program: &str, args: &[&str], path: impl AsRef<Path>) -> String {
    let output = run(Command::new(program).args(args).arg(path.as_ref()));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs `test` on a brick of each file system that shares blocks.
pub fn on_both(test: impl Fn(TestBrick)) {
    for fs in reflink() {
        eprintln!("on {fs:?}");
        test(brick(fs));
    }
}
