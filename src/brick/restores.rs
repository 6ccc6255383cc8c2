//! The restores by a carrier that are under way, as far as memory knows.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use fsnap_core::{Error, Gfid, Result};

use crate::ffi::Connection;

/// How long a restore may take from its arming to its end. Then its command is taken for dead, as when its connection is
/// closed.
const LIFE: Duration = Duration::from_secs(60);

/// How many restores of a file, and of how many files, are remembered when they are over.
const PAST_OF_FILE: usize = 8;
const PAST_FILES: usize = 10_000;

/// The files that are armed for a restore whose command may be at work.
///
/// Anybody who may write to a file may arm it, and need not do anything else: so an arm lives once, for its minute at most. Who is
/// not root then waits as long as it has lived before he may arm the file again, and others come to it at least half of the time.
#[derive(Default)]
pub struct Arms {
    known: Mutex<Known>,
    count: AtomicUsize,
}

#[derive(Default)]
struct Known {
    live: HashMap<Gfid, Live>,
    past: HashMap<Gfid, VecDeque<Past>>,
}

/// What is armed, for whom.
pub struct Arm {
    /// The restore.
    pub id: Gfid,
    /// By which connection.
    pub by: Connection,
    /// By which user.
    pub uid: u32,
    /// Truncates of others are refused meanwhile.
    pub alone: bool,
}

struct Live {
    arm: Arm,
    since: Instant,
    /// It has done its part here, and goes with the others.
    over: bool,
}

impl Live {
    fn has_expired(&self) -> bool {
        self.since.elapsed() >= LIFE
    }
}

/// One that is over.
struct Past {
    id: Gfid,
    uid: u32,
    /// When he may arm the file again.
    again: Instant,
}

impl Known {
    /// Ends the live ones that `is_over` says.
    fn end(&mut self, is_over: impl Fn(&Gfid, &Live) -> bool) {
        for (file, live) in self.live.extract_if(|file, live| is_over(file, live)) {
            let lived = live.since.elapsed().min(LIFE);
            if self.past.len() >= PAST_FILES && !self.past.contains_key(&file) {
                let latest = |past: &VecDeque<Past>| past.iter().map(|past| past.again).max();
                let least = self.past.iter().min_by_key(|(_, past)| latest(past)).map(|(file, _)| *file);
                least.and_then(|file| self.past.remove(&file));
            }
            let past = self.past.entry(file).or_default();
            if past.len() == PAST_OF_FILE {
                past.pop_front();
            }
            past.push_back(Past { id: live.arm.id, uid: live.arm.uid, again: live.since + 2 * lived });
        }
    }

    fn past(&self, file: Gfid) -> impl Iterator<Item = &Past> {
        self.past.get(&file).into_iter().flatten()
    }

    /// For how long `uid` leaves the file to others.
    fn pause(&self, file: Gfid, uid: u32) -> Option<Duration> {
        let left =
            |past: &Past| past.again.checked_duration_since(Instant::now()).filter(|left| !left.is_zero());
        self.past(file).filter(|past| past.uid == uid && uid != 0).filter_map(left).max()
    }
}

impl Arms {
    fn change<T>(&self, change: impl FnOnce(&mut Known) -> T) -> T {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.end(|_, live| live.has_expired());
        let done = change(&mut known);
        self.count.store(known.live.len(), Ordering::Relaxed);
        done
    }

    /// A restore of `file` begins. [`Error::Restoring`] (`EBUSY`) if one is under way, [`Error::TakesTurns`] (`EBUSY`) if it is for
    /// others to arm it, [`Error::BadValue`] (`EINVAL`) if one of this id was here already.
    pub fn add(&self, file: Gfid, arm: Arm) -> Result<()> {
        self.change(|known| {
            if known.live.contains_key(&file) {
                return Err(Error::Restoring);
            }
            if known.past(file).any(|past| past.id == arm.id) {
                return Err(Error::bad("a restore of this id is over: each needs an id of its own"));
            }
            if let Some(left) = known.pause(file, arm.uid) {
                return Err(Error::TakesTurns(left.as_secs() + 1));
            }
            known.live.insert(file, Live { arm, since: Instant::now(), over: false });
            Ok(())
        })
    }

    /// Restore `id` of `file` is over.
    pub fn remove(&self, file: Gfid, id: Gfid) {
        self.change(|known| known.end(|armed, live| (*armed, live.arm.id) == (file, id)));
    }

    /// Whoever used this connection does not come back by it.
    pub fn left(&self, connection: &Connection) {
        if self.any() {
            self.change(|known| known.end(|_, live| live.arm.by == *connection));
        }
    }

    fn is<T>(&self, file: Gfid, what: impl FnOnce(&Live) -> Option<T>) -> Option<T> {
        if self.any() { self.change(|known| known.live.get(&file).and_then(what)) } else { None }
    }

    /// Whether a restore of `file` may be under way.
    pub fn has(&self, file: Gfid) -> bool {
        self.is(file, |_| Some(())).is_some()
    }

    /// Whether one may be that keeps others from truncating it.
    pub fn has_alone(&self, file: Gfid) -> bool {
        self.is(file, |live| live.arm.alone.then_some(())).is_some()
    }

    /// Whether `uid` would be refused now, whatever his restore is.
    pub fn is_taken(&self, file: Gfid, uid: u32) -> bool {
        self.change(|known| known.live.contains_key(&file) || known.pause(file, uid).is_some())
    }

    /// Whether restore `id` of `file` may be under way.
    pub fn has_id(&self, file: Gfid, id: Gfid) -> bool {
        self.is(file, |live| (live.arm.id == id).then_some(())).is_some()
    }

    /// Disperse has noted the end of restore `id` of `file`.
    pub fn ended(&self, file: Gfid, id: Gfid) {
        self.change(|known| {
            if let Some(live) = known.live.get_mut(&file).filter(|live| live.arm.id == id) {
                live.over = true;
            }
        });
    }

    /// The restore of `file` whose end disperse has noted, and of which its command has not been heard yet.
    pub fn over(&self, file: Gfid) -> Option<Gfid> {
        self.is(file, |live| live.over.then_some(live.arm.id))
    }

    /// Whether there may be any. A look at memory.
    pub fn any(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }
}

/// The fragments that a carrier has changed, until the disperse translator has noted that all of them are: who reads some with
/// the new content and some with the old reads neither. It does that before it lets others at the file; so if somebody else
/// comes the one who carried is dead. By whom, if that is known: no connection has the name of an earlier one.
#[derive(Default)]
pub struct Halves {
    files: RwLock<HashMap<Gfid, Option<Connection>>>,
    count: AtomicUsize,
}

impl Halves {
    fn change(&self, change: impl FnOnce(&mut HashMap<Gfid, Option<Connection>>)) {
        let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut files);
        self.count.store(files.len(), Ordering::Release);
    }

    pub fn add(&self, file: Gfid, by: Option<Connection>) {
        self.change(|files| _ = files.insert(file, by));
    }

    pub fn remove(&self, file: Gfid) {
        if self.has(file) {
            self.change(|files| _ = files.remove(&file));
        }
    }

    /// Whether there are any. A look at memory.
    pub fn any(&self) -> bool {
        self.count.load(Ordering::Acquire) > 0
    }

    /// Whether `file` is one of them. A look at memory if there are none.
    pub fn has(&self, file: Gfid) -> bool {
        self.any() && self.by(file).is_some()
    }

    pub fn by(&self, file: Gfid) -> Option<Option<Connection>> {
        self.files.read().unwrap_or_else(PoisonError::into_inner).get(&file).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: u32 = 0;
    const USER: u32 = 1000;

    fn arm(id: u8, by: &str, uid: u32) -> Arm {
        Arm { id: gfid(id), by: Connection::named(by.as_bytes()), uid, alone: true }
    }

    fn gfid(n: u8) -> Gfid {
        Gfid::from_bytes([n; 16])
    }

    /// So much time goes by.
    fn age(arms: &Arms, by: Duration) {
        let back =
            |moment: &mut Instant| *moment = moment.checked_sub(by).expect("the machine is up for longer");
        let mut known = arms.known.lock().unwrap();
        known.live.values_mut().for_each(|live| back(&mut live.since));
        known.past.values_mut().flatten().for_each(|past| back(&mut past.again));
    }

    #[test]
    fn an_abandoned_restore_is_over_after_a_while() {
        let arms = Arms::default();
        let file = gfid(1);
        arms.add(file, arm(2, "here", ROOT)).unwrap();
        assert!(arms.add(file, arm(3, "there", ROOT)).is_err() && arms.has_id(file, gfid(2)));
        // It is not the second one's to end.
        arms.remove(file, gfid(3));
        arms.left(&Connection::named(b"there"));
        assert!(arms.has_id(file, gfid(2)) && !arms.has_id(file, gfid(3)));
        age(&arms, LIFE / 2);
        // Nor is it the same one's to begin once more.
        assert_eq!(arms.add(file, arm(2, "here", ROOT)), Err(Error::Restoring));
        assert!(arms.has(file));
        age(&arms, LIFE / 2);
        assert!(!arms.has(file) && !arms.any());
        arms.add(file, arm(3, "there", ROOT)).unwrap();
        arms.left(&Connection::named(b"there"));
        assert!(!arms.has(file));
    }

    #[test]
    fn an_id_lives_once() {
        let arms = Arms::default();
        let again = |id: u8| arms.add(gfid(1), arm(id, "here", ROOT)).map_err(|error| error.errno());
        again(2).unwrap();
        arms.remove(gfid(1), gfid(2));
        again(3).unwrap();
        arms.left(&Connection::named(b"here"));
        again(4).unwrap();
        age(&arms, LIFE);
        for id in [2, 3, 4] {
            assert_eq!(again(id), Err(libc::EINVAL), "{id}");
        }
        // That of another file is another.
        arms.add(gfid(9), arm(2, "here", ROOT)).unwrap();
    }

    #[test]
    fn nobody_has_a_file_armed_for_more_than_half_of_the_time() {
        let arms = Arms::default();
        let file = gfid(1);
        let tries = |id: u8, uid: u32| arms.add(file, arm(id, "here", uid));
        tries(2, USER).unwrap();
        age(&arms, LIFE);
        assert!(!arms.has(file));
        assert_eq!(tries(3, USER), Err(Error::TakesTurns(60)));
        assert!(arms.is_taken(file, USER) && !arms.is_taken(file, USER + 1) && !arms.is_taken(file, ROOT));
        // Others may, and their time does not count as his.
        tries(4, USER + 1).unwrap();
        age(&arms, LIFE / 4);
        arms.remove(file, gfid(4));
        assert_eq!(tries(5, USER), Err(Error::TakesTurns(45)));
        age(&arms, LIFE * 3 / 4);
        tries(6, USER).unwrap();
        age(&arms, LIFE / 10);
        arms.remove(file, gfid(6));
        assert_eq!(tries(7, USER), Err(Error::TakesTurns(6)));
        // Root could truncate it as well.
        tries(8, ROOT).unwrap();
        age(&arms, LIFE);
        tries(9, ROOT).unwrap();
    }

    #[test]
    fn what_is_remembered_has_an_end() {
        let arms = Arms::default();
        let file = |n: usize| {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&n.to_be_bytes());
            Gfid::from_bytes(bytes)
        };
        arms.add(file(0), arm(1, "here", USER)).unwrap();
        age(&arms, LIFE / 2);
        arms.remove(file(0), gfid(1));
        for n in 1..PAST_FILES + 10 {
            arms.add(file(n), arm(1, "here", USER)).unwrap();
            arms.remove(file(n), gfid(1));
        }
        // Those go first that keep nobody waiting.
        assert!(arms.is_taken(file(0), USER));
        assert_eq!(arms.known.lock().unwrap().past.len(), PAST_FILES);
        for id in 2..100 {
            arms.add(file(5), arm(id, "here", ROOT)).unwrap();
            arms.remove(file(5), gfid(id));
        }
        assert!(arms.known.lock().unwrap().past.values().all(|past| past.len() <= PAST_OF_FILE));
    }
}
