//! Random histories of a few files, with crashes in them, against a model that knows what must have come of each.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::{SystemTime, UNIX_EPOCH};

use fsnap_core::acl::Caller;
use fsnap_core::record::decode_seq;
use fsnap_core::{Gfid, Result};
use fsnap_store::fault::{self, Fault};
use fsnap_store::{Outstanding, Store};
use fsnap_testbed::{Errno, Fs, content, getx};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::common::*;
use crate::crash::{crashes, silence_crashes};
use crate::operations::put_back;
use crate::view::{discard, sound};

/// Names that files can have.
const NAMES: [&str; 5] = ["d/f", "d/g", "e/f", "e/g", "e/h"];
/// Where a deleted file was whose directory was removed as well.
const FURTHER_UP: usize = NAMES.len();
/// Names that snapshots can have.
const SNAPSHOTS: [&str; 3] = ["a", "b", "c"];

/// One step of a history. Numbers choose among what there is.
#[derive(Clone, Debug)]
enum Step {
    Write(usize, u16),
    Truncate(usize, u16),
    Create(usize, usize),
    Delete(usize, usize),
    Restore(usize, usize),
    Hold(usize, usize, bool),
    /// Self-heal brings a catalogue that does not have it.
    Adopt(usize, usize),
    Link(usize, usize),
    /// By somebody who says where to (or does not: trash goes by path).
    Rename(usize, usize, bool),
    Unlink(usize),
    /// As rm -r does it, of the directory that this name is in; one of the name is made at once.
    RemoveTree(usize),
    /// Of a deleted file.
    Revive(usize, usize),
    Forget(usize, usize),
    SetUid(usize),
    /// Somebody is about to restore who is not the owner.
    Strip(usize),
    /// The handle of a file, or of the directory that it is in, is lost and put back.
    LoseHandle(usize, bool),
    Restart,
    /// The next step is cut short at this change to the disk.
    Crash(u64),
    /// This change of the next step finds the disk full.
    Fail(u64),
    /// This one does, and all after it.
    Full(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let (name, snapshot) = (0..NAMES.len(), 0..SNAPSHOTS.len());
    prop_oneof![
        4 => (name.clone(), any::<u16>()).prop_map(|(n, seed)| Step::Write(n, seed)),
        1 => (name.clone(), any::<u16>()).prop_map(|(n, len)| Step::Truncate(n, len)),
        8 => (name.clone(), snapshot.clone()).prop_map(|(n, s)| Step::Create(n, s)),
        3 => (name.clone(), snapshot.clone()).prop_map(|(n, s)| Step::Delete(n, s)),
        3 => (name.clone(), snapshot.clone()).prop_map(|(n, s)| Step::Restore(n, s)),
        1 => (name.clone(), snapshot.clone(), any::<bool>()).prop_map(|(n, s, held)| Step::Hold(n, s, held)),
        2 => (name.clone(), snapshot.clone()).prop_map(|(n, s)| Step::Adopt(n, s)),
        2 => (name.clone(), name.clone()).prop_map(|(n, m)| Step::Link(n, m)),
        3 => (name.clone(), name.clone(), any::<bool>()).prop_map(|(n, m, told)| Step::Rename(n, m, told)),
        1 => name.clone().prop_map(Step::SetUid),
        2 => name.clone().prop_map(Step::Strip),
        2 => (name.clone(), any::<bool>()).prop_map(|(n, dir)| Step::LoseHandle(n, dir)),
        3 => name.clone().prop_map(Step::RemoveTree),
        3 => name.prop_map(Step::Unlink),
        2 => (any::<usize>(), snapshot.clone()).prop_map(|(n, s)| Step::Revive(n, s)),
        2 => (any::<usize>(), snapshot).prop_map(|(n, s)| Step::Forget(n, s)),
        1 => Just(Step::Restart),
        6 => (1..40u64).prop_map(Step::Crash),
        2 => (1..40u64).prop_map(Step::Fail),
        2 => (1..40u64).prop_map(Step::Full),
    ]
}

/// What a file is to be.
#[derive(Clone, PartialEq, Debug, Default)]
struct File {
    names: BTreeSet<usize>,
    content: Vec<u8>,
    setuid: bool,
    /// Content, and whether it is held.
    snapshots: BTreeMap<usize, (Vec<u8>, bool)>,
    /// Where it was when it was deleted.
    was: Option<usize>,
}

type Model = BTreeMap<Gfid, File>;

fn at(model: &Model, name: usize) -> Option<Gfid> {
    model.iter().find(|(_, file)| file.names.contains(&name)).map(|(gfid, _)| *gfid)
}

fn deleted(model: &Model, n: usize) -> Option<Gfid> {
    let all: Vec<Gfid> = model.iter().filter(|(_, file)| file.was.is_some()).map(|(gfid, _)| *gfid).collect();
    (!all.is_empty()).then(|| all[n % all.len()])
}

/// The file loses a name in the model: it goes, or into its grave.
fn lose(model: &mut Model, gfid: Gfid, name: usize) {
    let file = model.get_mut(&gfid).unwrap();
    file.names.remove(&name);
    if file.names.is_empty() {
        (file.was, file.content) = (Some(name), Vec::new());
        if file.snapshots.is_empty() {
            model.remove(&gfid);
        }
    }
}

/// A brick with its history.
struct World<'a> {
    b: &'a TestBrick,
    model: Model,
    store: Option<Store>,
    ordered: Option<(u64, Fault)>,
    /// What may be in quarantine: snapshots that were held here when self-heal took them away.
    aside: BTreeSet<String>,
}

impl World<'_> {
    fn reopen(&mut self) {
        self.store = None;
        self.store = Some(self.b.store());
    }

    /// Runs `call`, which is to make `after` of the model, under the fault that was ordered.
    fn run(&mut self, after: Model, call: impl FnOnce(&TestBrick, &Store) -> Result<()>) {
        let store = self.store.take().unwrap();
        let Some((at, fault)) = self.ordered.take() else {
            call(self.b, &store).unwrap();
            (self.model, self.store) = (after, Some(store));
            return;
        };
        let mut done = false;
        let ((), hit) = fault::with(at, fault, || _ = crashes(|| done = call(self.b, &store).is_ok()));
        assert!(done || hit, "failed for nothing");
        drop(store);
        let store = self.b.store();
        // What a crash has cut short comes with the next rename or unlink.
        for name in NAMES {
            put_back(&store, name).unwrap();
        }
        for gfid in after.keys() {
            if self.b.handle(*gfid).exists() {
                store.follow(*gfid).unwrap();
            }
        }
        let seen = see(self.b, &store, self.model.keys().chain(after.keys()));
        let (before, after) = (settled(self.model.clone()), settled(after));
        assert!(
            seen == after || seen == before && !done,
            "after a fault at {at}, done: {done}\nseen:   {seen:?}\nbefore: {before:?}\nafter:  {after:?}"
        );
        (self.model, self.store) = (seen, Some(store));
    }

    fn step(&mut self, step: &Step) {
        let mut after = self.model.clone();
        let path = |n: usize| self.b.join(NAMES[n]);
        match *step {
            Step::Write(n, seed) => {
                let bytes = content(usize::from(seed) % 20_000, u64::from(seed));
                let gfid = match at(&after, n) {
                    Some(gfid) => {
                        fs::write(path(n), &bytes).unwrap();
                        gfid
                    }
                    None => self.b.make_file(NAMES[n], &bytes),
                };
                let file = self.model.entry(gfid).or_default();
                file.names.insert(n);
                file.content = bytes;
            }
            Step::Truncate(n, len) => {
                let Some(gfid) = at(&after, n) else { return };
                let len = usize::from(len) % 30_000;
                fs::File::options().write(true).open(path(n)).unwrap().set_len(len as u64).unwrap();
                self.model.get_mut(&gfid).unwrap().content.resize(len, 0);
            }
            Step::Create(n, s) => {
                let Some(gfid) = at(&after, n) else { return };
                let file = after.get_mut(&gfid).unwrap();
                let known = file.snapshots.contains_key(&s);
                let beside = |n: &usize| {
                    path(*n).parent().unwrap().join(format!(".fsnap/{}@{}", &NAMES[*n][2..], SNAPSHOTS[s]))
                };
                // A snapshot of another file that once had the name, and could not follow it, may be in the way.
                let taken = file.names.iter().any(|n| beside(n).exists());
                if known || taken {
                    let store = self.store.as_ref().unwrap();
                    match store.create(gfid, &bare(SNAPSHOTS[s]), &PLENTY) {
                        Err(e) => assert_eq!(e.errno(), libc::EEXIST),
                        Ok(_) => {
                            assert!(!known);
                            let content = file.content.clone();
                            file.snapshots.insert(s, (content, false));
                            self.model = after;
                        }
                    }
                    return;
                }
                file.snapshots.insert(s, (file.content.clone(), false));
                self.run(after, |_, store| store.create(gfid, &bare(SNAPSHOTS[s]), &PLENTY).map(drop));
            }
            Step::Delete(n, s) => {
                let Some(gfid) = at(&after, n) else { return };
                self.delete(after, gfid, s);
            }
            Step::Forget(n, s) => {
                let Some(gfid) = deleted(&after, n) else { return };
                self.delete(after, gfid, s);
            }
            Step::Restore(n, s) => {
                let Some(gfid) = at(&after, n) else { return };
                let file = after.get_mut(&gfid).unwrap();
                match file.snapshots.get(&s).cloned() {
                    None => {
                        let store = self.store.as_ref().unwrap();
                        assert_eq!(
                            store.restore(gfid, &name(SNAPSHOTS[s])).unwrap_err().errno(),
                            libc::ENODATA
                        );
                    }
                    Some((bytes, _)) => {
                        file.content = bytes;
                        self.run(after, |_, store| store.restore(gfid, &name(SNAPSHOTS[s])).map(drop));
                    }
                }
            }
            Step::Hold(n, s, held) => {
                let Some(gfid) = at(&after, n) else { return };
                let Some(snapshot) = after.get_mut(&gfid).unwrap().snapshots.get_mut(&s) else { return };
                snapshot.1 = held;
                self.run(after, |_, store| store.hold(gfid, &name(SNAPSHOTS[s]), held));
            }
            Step::Adopt(n, s) => {
                let Some(gfid) = at(&after, n) else { return };
                let snapshots = &mut after.get_mut(&gfid).unwrap().snapshots;
                let held = snapshots.remove(&s).is_some_and(|(_, held)| held);
                let aside = held.then(|| format!("snapshot-{}", self.b.record(gfid, SNAPSHOTS[s]).gfid));
                let truth: Vec<_> =
                    snapshots.keys().map(|&s| (SNAPSHOTS[s], self.b.record(gfid, SNAPSHOTS[s]))).collect();
                let seq =
                    getx(self.b.handle(gfid), "trusted.fsnap.seq").map_or(0, |seq| decode_seq(&seq).unwrap());
                self.run(after, |b, store| {
                    assert_eq!(heal(b, store, gfid, seq, &truth)?, Outstanding::default());
                    Ok(())
                });
                if let Some(aside) = aside {
                    let gone = !self.model[&gfid].snapshots.contains_key(&s);
                    assert!(!gone || self.b.lost().iter().any(|lost| lost.starts_with(&aside)));
                    self.aside.insert(aside);
                }
            }
            Step::Link(n, m) => {
                let (Some(gfid), None) = (at(&after, n), at(&after, m)) else { return };
                self.b.link(NAMES[n], NAMES[m]);
                self.model.get_mut(&gfid).unwrap().names.insert(m);
            }
            Step::Unlink(n) => {
                let Some(gfid) = at(&after, n) else { return };
                lose(&mut after, gfid, n);
                self.run(after, |b, store| remove(store, gfid, || b.unlink(NAMES[n])));
            }
            Step::Rename(n, m, told) => {
                let (Some(gfid), victim) = (at(&after, n), at(&after, m)) else { return };
                if victim == Some(gfid) {
                    return;
                }
                if let Some(victim) = victim {
                    lose(&mut after, victim, m);
                }
                let names = &mut after.get_mut(&gfid).unwrap().names;
                names.remove(&n);
                names.insert(m);
                self.run(after, |b, store| {
                    match victim {
                        Some(victim) => remove(store, victim, || b.rename(NAMES[n], NAMES[m]))?,
                        None => b.rename(NAMES[n], NAMES[m]),
                    }
                    if !told {
                        store.follow_away(gfid, b.gfid(&NAMES[n][..1]), &NAMES[n].as_bytes()[2..])?;
                    }
                    store.follow(gfid)
                });
            }
            Step::RemoveTree(n) => {
                let (dir, ordered) = (&NAMES[n][..1], self.ordered.take());
                (0..NAMES.len())
                    .filter(|n| NAMES[*n].starts_with(dir))
                    .for_each(|n| self.step(&Step::Unlink(n)));
                self.ordered = ordered;
                self.rmdir(dir);
            }
            Step::Revive(n, s) => {
                let Some(gfid) = deleted(&after, n) else { return };
                let was = after[&gfid].was.unwrap();
                if was == FURTHER_UP {
                    let store = self.store.as_ref().unwrap();
                    let refused = store.revive(gfid, &name(SNAPSHOTS[s]), |_, _| Ok(()));
                    assert_eq!(refused.unwrap_err().errno(), libc::EOPNOTSUPP);
                    return;
                }
                let taken = at(&after, was).is_some();
                let file = after.get_mut(&gfid).unwrap();
                let Some((bytes, _)) = file.snapshots.get(&s).cloned() else { return };
                if taken {
                    let store = self.store.as_ref().unwrap();
                    let refused = store.revive(gfid, &name(SNAPSHOTS[s]), |_, _| Ok(()));
                    assert_eq!(refused.unwrap_err().errno(), libc::EEXIST);
                    return;
                }
                (file.content, file.was) = (bytes, None);
                file.names.insert(was);
                self.run(after, |_, store| store.revive(gfid, &name(SNAPSHOTS[s]), |_, _| Ok(())).map(drop));
            }
            Step::SetUid(n) => {
                let Some(gfid) = at(&after, n) else { return };
                fs::set_permissions(path(n), fs::Permissions::from_mode(0o4755)).unwrap();
                self.model.get_mut(&gfid).unwrap().setuid = true;
            }
            Step::Strip(n) => {
                let Some(gfid) = at(&after, n) else { return };
                after.get_mut(&gfid).unwrap().setuid = false;
                let stranger = Caller { uid: 1, gid: 1, groups: vec![] };
                self.run(after, |_, store| store.strip_privileges(gfid, &stranger));
            }
            Step::LoseHandle(n, dir) => {
                let Some(gfid) = at(&after, n) else { return };
                let lost = if dir { self.b.gfid(&NAMES[n][..1]) } else { gfid };
                fs::remove_file(self.b.handle(lost)).unwrap();
                self.run(after, |b, store| {
                    put_back(store, NAMES[n])?;
                    assert!(b.handle(lost).exists());
                    Ok(())
                });
            }
            Step::Restart => self.reopen(),
            Step::Crash(at) => self.ordered = Some((at, Fault::Crash)),
            Step::Fail(at) => self.ordered = Some((at, Fault::Fail(Errno::ENOSPC))),
            Step::Full(at) => self.ordered = Some((at, Fault::FailFrom(Errno::ENOSPC))),
        }
    }

    fn rmdir(&mut self, at: &str) {
        let dir = self.b.gfid(at);
        let Ok(kept) = self.store.as_ref().unwrap().kept_in(dir) else { return };
        if names(&self.b.join(at)).iter().any(|name| name != ".fsnap") {
            assert!(kept.is_empty());
            return;
        }
        for file in kept {
            let mut after = self.model.clone();
            after.get_mut(&file).unwrap().was = Some(FURTHER_UP);
            self.run(after, |_, store| store.move_up(dir, &[file].into()).map(drop));
        }
        let store = self.store.as_ref().unwrap();
        // What failed stays, and so does the directory.
        if store.clear_snap_dir(dir).is_err() {
            assert!(!store.kept_in(dir).unwrap().is_empty());
            return;
        }
        fs::remove_dir(self.b.join(at)).unwrap();
        fs::remove_file(self.b.handle(dir)).unwrap();
        self.b.make_dir(at);
    }

    fn delete(&mut self, mut after: Model, gfid: Gfid, s: usize) {
        let file = after.get_mut(&gfid).unwrap();
        let refused = match file.snapshots.get(&s) {
            None => Some(libc::ENODATA),
            Some((_, true)) => Some(libc::EBUSY),
            Some(_) => None,
        };
        if let Some(errno) = refused {
            let store = self.store.as_ref().unwrap();
            assert_eq!(store.delete(gfid, &name(SNAPSHOTS[s])).unwrap_err().errno(), errno);
            return;
        }
        file.snapshots.remove(&s);
        if file.was.is_some() && file.snapshots.is_empty() {
            after.remove(&gfid);
        }
        self.run(after, |_, store| store.delete(gfid, &name(SNAPSHOTS[s])));
    }
}

/// What the translator does around the fop that takes a name from `gfid`.
fn remove(store: &Store, gfid: Gfid, fop: impl FnOnce()) -> Result<()> {
    if !store.has_snapshots(gfid)? {
        fop();
        return Ok(());
    }
    let last = store.is_last_name(gfid)?;
    if last {
        store.bury(gfid)?;
    }
    fop();
    // What fails from here on is put right later.
    let _ = store.follow(gfid);
    if last {
        let _ = store.empty_grave(gfid);
    }
    Ok(())
}

/// Where a deleted file was counts for nothing once it is seen on the disk, its content neither.
fn settled(mut model: Model) -> Model {
    for file in model.values_mut().filter(|file| file.names.is_empty()) {
        file.content.clear();
    }
    model
}

/// The brick as a model.
fn see<'a>(b: &TestBrick, store: &Store, gfids: impl Iterator<Item = &'a Gfid>) -> Model {
    let mut model = Model::new();
    for &gfid in gfids.collect::<BTreeSet<_>>() {
        if !b.handle(gfid).exists() {
            continue;
        }
        let names = (0..NAMES.len()).filter(|n| b.join(NAMES[*n]).exists() && b.gfid(NAMES[*n]) == gfid);
        let mut file = File { names: names.collect(), ..File::default() };
        file.content = fs::read(b.handle(gfid)).unwrap();
        file.setuid = fs::metadata(b.handle(gfid)).unwrap().mode() & libc::S_ISUID != 0;
        for snapshot in store.list(gfid).unwrap() {
            let s = SNAPSHOTS.iter().position(|known| *known == snapshot.name.to_string()).unwrap();
            let bytes = fs::read(b.handle(b.record(gfid, SNAPSHOTS[s]).gfid)).unwrap();
            assert_eq!(snapshot.size, Some(bytes.len() as u64));
            file.snapshots.insert(s, (bytes, snapshot.held));
        }
        assert_eq!(store.is_deleted(gfid), file.names.is_empty());
        if file.names.is_empty() {
            let was = store.buried_at(gfid).unwrap().unwrap();
            let there = |&n: &usize| was.link().is_some_and(|link| b.link_of(NAMES[n].as_ref()) == link);
            file.was = if was.has_moved_up() { Some(FURTHER_UP) } else { (0..NAMES.len()).find(there) };
            file.content.clear();
        }
        model.insert(gfid, file);
    }
    model
}

fn history(b: &TestBrick, steps: &[Step]) {
    b.make_dir("d");
    b.make_dir("e");
    let mut world =
        World { b, model: Model::new(), store: Some(b.store()), ordered: None, aside: BTreeSet::new() };
    for step in steps {
        world.step(step);
    }
    world.ordered = None;
    world.reopen();
    let store = world.store.as_ref().unwrap();
    let seen = see(b, store, world.model.keys());
    assert_eq!(seen, settled(world.model.clone()));
    let payloads: usize = seen.values().map(|file| file.snapshots.len()).sum();
    let graves = seen.values().filter(|file| file.names.is_empty()).count();
    let entries: Vec<_> = ["d", "e", ""].iter().flat_map(|at| names(&b.join(at).join(".fsnap"))).collect();
    assert_eq!(entries.len(), payloads + graves, "{entries:?}");
    assert_eq!(b.intents(), Vec::<String>::new());
    let unexpected = |lost: &String| !world.aside.iter().any(|aside| lost.starts_with(aside));
    assert_eq!(b.lost().into_iter().find(unexpected), None);
    sound(b, "a history");
    assert!(names(&b.join(".glusterfs/fsnap/pending")).is_empty());
}

/// `FSNAP_CASES` says how many histories, 2000 if not set. A failing one is made as short as it can be and printed, with
/// the seed that repeats it as `FSNAP_SEED`.
#[test]
fn histories() {
    silence_crashes();
    let number = |name: &str| std::env::var(name).ok().and_then(|number| number.parse::<u64>().ok());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = number("FSNAP_SEED").unwrap_or(now);
    let all = number("FSNAP_CASES").unwrap_or(2000) as u32;
    for fs in reflink() {
        // An fsync of btrfs takes its time.
        let cases = if fs == Fs::Btrfs { all.div_ceil(20) } else { all };
        let config = Config { cases, max_shrink_iters: 2000, failure_persistence: None, ..Config::default() };
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed.to_le_bytes(); 4].concat());
        let mut runner = TestRunner::new_with_rng(config, rng);
        let result = runner.run(&proptest::collection::vec(step(), 1..30), |steps| {
            let b = brick(fs);
            history(&b, &steps);
            discard(&b);
            Ok(())
        });
        result.unwrap_or_else(|error| panic!("on {fs:?}, FSNAP_SEED={seed}: {error}"));
    }
}
