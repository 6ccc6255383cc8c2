//! Self-heal: a brick that was away learns what it has missed.
//!
//! The catalogue comes with the xattrs of the file. What it brings is compared with what is here: snapshots that were
//! deleted meanwhile go, and for those that are missing the directory `.fsnap` is marked, so that self-heal makes them, by
//! way of the cluster translators. It may make no others there.

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::sync::Arc;

use fsnap_core::catalogue::{PAGE_PREFIX, Page, impossible_key, page_number};
use fsnap_core::gfid2path::Link;
use fsnap_core::record::{PAYLOAD, SEQ, decode_seq};
use fsnap_core::{Error, Gfid, Result, SNAP_DIR, SnapName, afr};
use fsnap_store::{Catalogue, Outstanding, Store};

use super::caller::{XATTRS, is_heal};
use super::instance::Brick;
use super::pool::Key;
use super::shared::Shared;
use super::{graves, rights};
use crate::ffi::{Call, Dict, EC_DIRTY, HeldMake, HeldSet, HiddenXattrs, Mark, role};

impl role::Heal for Brick {
    fn heals_catalogue(&self, call: &Call<'_>, dict: Dict<'_>) -> bool {
        is_catalogue(self, call, dict)
    }

    fn heal_catalogue(&self, call: &Call<'_>, dict: Dict<'_>, held: HeldSet) {
        catalogue(self, call, dict, held);
    }

    fn heals_name(&self, call: &Call<'_>, parent: Gfid, gfid: Gfid) -> bool {
        is_name(self, call, parent, gfid)
    }

    fn heal_name(&self, parent: Gfid, name: &CStr, gfid: Gfid, held: HeldMake) {
        gives_name(self, parent, name, gfid, held);
    }

    fn heal_keeps(&self, call: &Call<'_>, file: Gfid, names: Dict<'_>) -> Option<HiddenXattrs> {
        keeps(self, call, file, names)
    }
}

/// An xattrop of self-heal on a `.fsnap`: `EAGAIN` if it is to say that its entries are healed, and they are not. It may take
/// no mark away from this brick, if what is missing was marked after heal had looked: the names go all the same.
pub fn refuse_xattrop(state: &Shared, snap_dir: Gfid, counts: Dict<'_>) -> Option<i32> {
    let marks = counts.with_prefix(afr::PREFIX.as_bytes());
    let entries = |mark: &[u8]| {
        mark.get(8..12).map_or(0, |count| i32::from_be_bytes([count[0], count[1], count[2], count[3]]))
    };
    let adds = marks.iter().any(|(_, mark)| entries(mark) > 0);
    let takes = marks.iter().any(|(key, mark)| *key != afr::DIRTY.as_bytes() || entries(mark) < 0);
    let clears = takes && !adds;
    let left = state.store().map_or(0, |store| if clears { state.awaited.again(store, snap_dir) } else { 0 });
    (left > 0).then(|| {
        tracing::info!("{left} snapshots are still missing in {snap_dir}: self-heal looks again");
        libc::EAGAIN
    })
}

/// A setxattr of self-heal that brings the catalogue of a file, or that the file has none.
fn is_catalogue(brick: &Brick, call: &Call<'_>, dict: Dict<'_>) -> bool {
    is_heal(call)
        && (is_payload(dict)
            || dict.with_prefix(SEQ.as_bytes()).iter().any(|(key, _)| *key == SEQ.as_bytes())
            || brick.healing.lock().is_ok_and(|healing| healing.contains(&call.gfid())))
}

fn is_payload(dict: Dict<'_>) -> bool {
    dict.with_prefix(PAYLOAD.as_bytes()).iter().any(|(key, _)| *key == PAYLOAD.as_bytes())
}

fn is_of_catalogue(key: &[u8]) -> bool {
    key == SEQ.as_bytes() || key.starts_with(PAGE_PREFIX.as_bytes())
}

/// Self-heal removes all xattrs and sets them anew. Ours stay until then: a brick that dies between the two has its catalogue
/// still.
fn keeps(brick: &Brick, call: &Call<'_>, file: Gfid, names: Dict<'_>) -> Option<HiddenXattrs> {
    let ours = names.with_prefix(XATTRS.to_bytes());
    if !is_heal(call) || ours.is_empty() {
        return None;
    }
    if ours.iter().any(|(key, _)| is_of_catalogue(key))
        && let Ok(mut healing) = brick.healing.lock()
    {
        healing.insert(file);
    }
    Some(XATTRS)
}

/// Takes over the catalogue that self-heal brings, or learns that a snapshot is healed.
fn catalogue(brick: &Brick, call: &Call<'_>, dict: Dict<'_>, held: HeldSet) {
    let base = call.gfid();
    if is_payload(dict) {
        let state = Arc::clone(&brick.state);
        return held.proceed(brick.state.host, move |done| {
            if !done {
                return Ok(Vec::new());
            }
            match state.store().and_then(|store| store.healed(base)) {
                Ok(()) => Ok(Vec::new()),
                Err(error) => {
                    tracing::error!("snapshot {base} is healed, and not known to be: {error}");
                    Err(error.errno())
                }
            }
        });
    }
    let refused = move |error: &Error| {
        tracing::warn!(
            "the catalogue of {base} is not healed: {error}. If it is damaged: fsnap-check on the other bricks tells more"
        );
        error.errno()
    };
    if let Ok(mut healing) = brick.healing.lock() {
        healing.remove(&base);
    }
    let truth = match truth(dict, brick.state.doubts.of(base)) {
        Ok(truth) => truth,
        Err(error) => return held.fail(refused(&error)),
    };
    let state = Arc::clone(&brick.state);
    brick.pool.submit_short(vec![Key::File(base)], move |turn| {
        let adopted = turn.in_time().and_then(|turn| {
            let change = state.begin()?;
            state.store()?.adopt(base, &truth).map(|()| (turn, change))
        });
        match adopted {
            Err(error) => held.fail(refused(&error)),
            Ok(turn) => held.proceed(state.host, move |done| {
                if !done {
                    return Ok(Vec::new());
                }
                state.doubts.clear(base);
                rights::follow(&state, base);
                // The file may have been made anew, and its snapshots be where they were.
                if let Err(error) = state.store().and_then(|store| store.follow(base)) {
                    tracing::warn!("the snapshots of {base}: {error}");
                }
                let marks = outstanding(&state, base).map_err(|error| refused(&error));
                drop(turn);
                marks
            }),
        }
    });
}

/// [`Error::Damaged`] (`EIO`) if there is something that may be a page, or the number, and can't be read.
fn truth(dict: Dict<'_>, doubtful: BTreeSet<SnapName>) -> Result<Catalogue> {
    let mut truth = Catalogue { doubtful, ..Catalogue::default() };
    for (key, value) in dict.with_prefix(PAGE_PREFIX.as_bytes()) {
        let number = page_number(key).ok_or_else(|| impossible_key(key))?;
        truth.pages.insert(number, Page::new(value.to_vec()));
    }
    if let Some((_, value)) = dict.with_prefix(SEQ.as_bytes()).iter().find(|(key, _)| *key == SEQ.as_bytes())
    {
        truth.seq = Some(decode_seq(value)?);
    }
    Ok(truth)
}

/// Where self-heal has to look, for the snapshots of `base`.
pub fn outstanding(state: &Shared, base: Gfid) -> Result<Vec<Mark>> {
    let Outstanding { dispersed, missing, awaited, unsettled } = state.store()?.outstanding(base)?;
    let mut marks: Vec<Mark> =
        unsettled.into_iter().map(|(payload, names)| unsettled_mark(payload, names)).collect();
    for (snap_dir, names) in missing {
        tracing::info!(
            "snapshots of {base} are missing in {snap_dir} on this brick: self-heal will bring them"
        );
        state.awaited.add(snap_dir, &awaited);
        marks.push(match dispersed {
            true => dispersed_mark(snap_dir),
            false => entries_mark(snap_dir, names.into_iter().collect()),
        });
    }
    Ok(marks)
}

/// Where self-heal has to look for the tombstones of these files, which were made in the `.fsnap` of directory `parent`: the brick
/// that misses them may have neither, and has never seen the files there. Nothing if no brick is known to have missed anything in
/// `parent`: replicate and disperse note that there before the fop is done.
///
/// As [`Store::is_dispersed`].
pub fn missed_tombstones(store: &Store, parent: Gfid, tombstones: Vec<(Gfid, Vec<u8>)>) -> Result<Vec<Mark>> {
    let Some((first, _)) = tombstones.first() else { return Ok(Vec::new()) };
    if !store.is_missed(parent)? {
        return Ok(Vec::new());
    }
    if store.is_dispersed(*first)? {
        return Ok(vec![dispersed_mark(parent.snap_dir())]);
    }
    let names = tombstones.into_iter().map(|(_, name)| name).collect();
    // `parent` itself is to be healed anyway.
    let counts = vec![(afr::DIRTY.to_owned(), afr::NOTHING.to_vec())];
    let entries = vec![SNAP_DIR.as_bytes().to_vec()];
    let snap_dir = Mark { gfid: parent, directory: true, counts, wide: false, entries };
    Ok(vec![snap_dir, entries_mark(parent.snap_dir(), names)])
}

/// Says that the entries of the `.fsnap` of a disperse volume may differ.
pub fn dispersed_mark(snap_dir: Gfid) -> Mark {
    let counts = vec![(EC_DIRTY.to_owned(), [1u64.to_be_bytes(), [0; 8]].concat())];
    Mark { gfid: snap_dir, directory: true, counts, wide: true, entries: Vec::new() }
}

/// Says which entries of the `.fsnap` of a replicate volume may differ.
pub fn entries_mark(snap_dir: Gfid, entries: Vec<Vec<u8>>) -> Mark {
    let counts = vec![(afr::DIRTY.to_owned(), afr::ENTRY.to_vec())];
    Mark { gfid: snap_dir, directory: true, counts, wide: false, entries }
}

/// Shows the index marks that a snapshot has already.
pub fn unsettled_mark(payload: Gfid, names: Vec<String>) -> Mark {
    let counts = names.into_iter().map(|name| (name, afr::NOTHING.to_vec())).collect();
    Mark { gfid: payload, directory: false, counts, wide: false, entries: Vec::new() }
}

/// Whether what self-heal is about to make, in directory `parent`, is our business: something in `.fsnap`, or one more name
/// for a file that has snapshots.
fn is_name(brick: &Brick, call: &Call<'_>, parent: Gfid, gfid: Gfid) -> bool {
    if !is_heal(call) {
        return false;
    }
    let Ok(store) = brick.state.store() else { return false };
    (parent.is_derived() && store.entry_in_snap_dir(parent)) || store.has_snapshots(gfid).unwrap_or(false)
}

/// Self-heal makes something of the gfid `file` under the name `name`.
fn gives_name(brick: &Brick, parent: Gfid, name: &CStr, file: Gfid, held: HeldMake) {
    let in_snap_dir =
        parent.is_derived() && brick.state.store().is_ok_and(|store| store.entry_in_snap_dir(parent));
    match in_snap_dir {
        true if file.is_tombstone(name.to_bytes()) => tombstone(brick, parent, name, file, held),
        true => snapshot(brick, parent, name, file, held),
        false => link(brick, parent, name, file, held),
    }
}

/// Lets self-heal give a file one more name. If it was put aside, it is where it belongs now.
fn link(brick: &Brick, parent: Gfid, name: &CStr, file: Gfid, held: HeldMake) {
    let state = Arc::clone(&brick.state);
    let keys = vec![Key::File(file), Key::name(parent, name.to_bytes())];
    brick.pool.submit_short(keys, move |turn| {
        let ready = turn.in_time().and_then(|turn| {
            let change = state.begin()?;
            state.store()?.make_way(file, parent).map(|()| (turn, change))
        });
        match ready {
            Err(error) => {
                tracing::info!("self-heal does not give {file} a name: {error}");
                held.fail(error.errno());
            }
            Ok(turn) => held.proceed(state.host, move |made| {
                let risen = || {
                    state.store()?.rise(file)?;
                    outstanding(&state, file)
                };
                let marks = if made { risen() } else { Ok(Vec::new()) };
                drop(turn);
                Ok(marks.unwrap_or_else(|error| {
                    tracing::error!("{file} has a name again, but its snapshots did not follow: {error}");
                    Vec::new()
                }))
            }),
        }
    });
}

/// Lets self-heal make the tombstone of a deleted file that this brick does not have, or has put aside: then its snapshots
/// belong there as well.
fn tombstone(brick: &Brick, parent: Gfid, name: &CStr, file: Gfid, held: HeldMake) {
    let (state, entrance, name) = (Arc::clone(&brick.state), (*brick.pool).clone(), name.to_owned());
    brick.pool.submit_short(vec![Key::File(file)], move |turn| {
        let inodes = held.inodes();
        let expected = turn.in_time().and_then(|turn| {
            let change = state.begin()?;
            state.store()?.expect_tombstone(file, parent, name.to_bytes()).map(|()| (turn, change))
        });
        match expected {
            Err(error) => {
                tracing::info!("self-heal does not make {name:?} in {parent}: {error}");
                held.fail(error.errno());
            }
            Ok(turn) => held.proceed(state.host, move |made| {
                let follow_up = || match state.store()? {
                    store if !made => store.forget_burial(file).map(|()| Vec::new()),
                    store if store.has_snapshots(file)? => {
                        if let Some(inodes) = inodes {
                            graves::empty(&state, &entrance, file, inodes);
                        }
                        store.follow_rights(file)?;
                        store.follow(file)?;
                        outstanding(&state, file)
                    }
                    _ => Ok(Vec::new()),
                };
                let marks = follow_up();
                drop(turn);
                Ok(marks.unwrap_or_else(|error| {
                    tracing::error!("the tombstone of {file}: {error}");
                    Vec::new()
                }))
            }),
        }
    });
}

/// Lets self-heal make a snapshot in `.fsnap` that the catalogue has, and gives it the file's content to begin with.
///
/// Anything else is refused with `EIO`: it was deleted, or its file is not healed yet. Entry heal then comes again.
fn snapshot(brick: &Brick, parent: Gfid, name: &CStr, payload: Gfid, held: HeldMake) {
    let place = Link { parent, name: name.to_bytes().to_vec() };
    let name = name.to_owned();
    let state = Arc::clone(&brick.state);
    let refused = move |error: &Error| {
        tracing::info!("self-heal does not make {:?} in {parent}: {error}", name);
        error.errno()
    };
    let base = match brick.state.store().and_then(|store| store.wanted(payload, &place)) {
        Ok(base) => base,
        Err(error) => return held.fail(refused(&error)),
    };
    brick.pool.submit_short(vec![Key::File(base)], move |turn| {
        let wanted = turn.in_time().and_then(|turn| {
            let change = state.begin()?;
            state.store()?.wanted(payload, &place).map(|_| (turn, change))
        });
        match wanted {
            Err(error) => held.fail(refused(&error)),
            Ok(turn) => held.proceed(state.host, move |made| {
                let seeded =
                    state.store().and_then(|store| if made { store.seed(payload, base) } else { Ok(()) });
                if let Err(error) = seeded {
                    tracing::warn!("snapshot {payload} of {base} is healed without sharing blocks: {error}");
                }
                // The brick that it comes from may have it elsewhere.
                if let Err(error) = state.store().and_then(|store| store.follow(base)) {
                    tracing::warn!("snapshot {payload} of {base}: {error}");
                }
                drop(turn);
                Ok(Vec::new())
            }),
        }
    });
}
