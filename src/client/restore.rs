//! Restores: armed on every brick, carried by a truncate, settled.

use fsnap_core::command::{Arming, CARRIER, parse_id};
use fsnap_core::record::Stage;
use fsnap_core::{Error, SnapName};
use serde_json::Value;

use super::Work;
use super::set::Kind;
use crate::ffi::Node;

/// Makes the content of the file that of a snapshot, on all bricks of its set that can be reached; the others are healed.
///
/// `EBUSY` if another restore is under way, or self-heal is not done with the snapshot. Else what the bricks say.
pub fn restore(work: &mut Work, arming: &Arming) -> Result<(), i32> {
    finish_earlier(work)?;
    let done = carried(work, arming);
    work.drain();
    done
}

fn carried(work: &mut Work, arming: &Arming) -> Result<(), i32> {
    let size = size_of(work, &arming.name)?;
    let id = arming.id.to_string();
    let done =
        work.file.set(work.top, c"glusterfs.fsnap.arm", arming.to_string().as_bytes()).and_then(|()| {
            step("armed");
            // The replicate translator locks from there to the end; the bricks know the size.
            step("carrying");
            let from = if work.set.kind == Kind::Replicate { 0 } else { size };
            work.file.truncate(work.top, from, CARRIER, id.as_bytes())
        });
    step("carried");
    if let Err(errno) = settle(work, &id) {
        tracing::warn!(
            "restore {id} is over ({done:?}), and the bricks can't be told ({errno}): the next command does"
        );
    }
    done
}

fn settle(work: &mut Work, id: &str) -> Result<(), i32> {
    work.file.set(work.top, c"glusterfs.fsnap.settle", id.as_bytes())
}

/// The size of a snapshot's content.
fn size_of(work: &mut Work, name: &SnapName) -> Result<i64, i32> {
    let info = work.set.snapshot(&mut work.file, name)?;
    // Bricks whose copy is known not to be right are not in this graph, nor those that are away.
    let bricks = work.set.bricks();
    if info["unsettled"] == true && bricks.into_iter().all(|brick| work.ask(brick, "status").is_ok()) {
        tracing::error!("snapshot {name} is not the same on all bricks yet: wait for self-heal");
        return Err(libc::EBUSY);
    }
    info["size"].as_u64().and_then(|size| i64::try_from(size).ok()).ok_or(libc::EIO)
}

/// What a brick knows of an earlier restore.
struct Earlier {
    stage: Stage,
    live: bool,
    arming: Arming,
}

/// Ends what an earlier command has left behind when it died. `EBUSY` if it may be alive.
///
/// On a disperse volume a file whose restore has begun on some bricks has fragments that do not go together, and nobody can
/// tell them apart: it is done again on all of them, unless enough of them know that it was over. (`EIO` if that depends on
/// bricks that can't be reached.) On a replicate volume self-heal sees to that.
fn finish_earlier(work: &mut Work) -> Result<(), i32> {
    let bricks = work.set.bricks();
    let unknown = bricks.iter().filter(|brick| work.ask(**brick, "armed").is_err()).count();
    let all: Vec<Earlier> = bricks.into_iter().filter_map(|brick| earlier(work, brick)).collect();
    let open = |known: &&Earlier| known.stage != Stage::Settled;
    if all.iter().filter(open).any(|known| known.live) {
        tracing::warn!("{}", Error::Restoring);
        return Err(libc::EBUSY);
    }
    if let Some(known) = all.iter().find(open) {
        let same = || all.iter().filter(|other| other.arming.id == known.arming.id);
        let settled = same().filter(|other| other.stage == Stage::Settled).count();
        let begun = same().any(|other| other.stage == Stage::Begun);
        let enough = work.set.fragments();
        if begun && settled < enough && work.set.kind == Kind::Disperse {
            if settled > 0 && settled + unknown >= enough {
                tracing::error!(
                    "an earlier restore was cut short, and whether it was over only bricks know that are away"
                );
                return Err(libc::EIO);
            }
            tracing::warn!(
                "an earlier restore, to snapshot {}, was cut short: it is finished first",
                known.arming.name
            );
            carried(work, &known.arming)
        } else {
            tracing::info!("an earlier restore, to snapshot {}, was cut short", known.arming.name);
            settle(work, &known.arming.id.to_string())
        }
    } else {
        Ok(())
    }
}

fn earlier(work: &mut Work, brick: Node) -> Option<Earlier> {
    let answer = work.ask(brick, "armed").ok()?;
    let known = &answer["restore"];
    let stage = match known["stage"].as_str()? {
        "armed" => Stage::Armed,
        "begun" => Stage::Begun,
        _ => Stage::Settled,
    };
    let arming = Arming {
        name: SnapName::parse(known["name"].as_str()?.as_bytes()).ok()?,
        id: parse_id(known["id"].as_str()?.as_bytes()).ok()?,
    };
    Some(Earlier { stage, live: answer["live"] == Value::Bool(true), arming })
}

/// A step is done, or begins. For the tests: the process is killed so many microseconds later, if `FSNAP_KILL=STEP:MICROSECONDS`
/// says so.
fn step(_name: &str) {
    #[cfg(feature = "fault-injection")]
    if let Ok(wish) = std::env::var("FSNAP_KILL")
        && let Some((name, pause)) = wish.split_once(':')
        && name == _name
    {
        let pause = std::time::Duration::from_micros(pause.parse().unwrap_or(0));
        let kill = move || {
            std::thread::sleep(pause);
            let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
        };
        if pause.is_zero() { kill() } else { drop(std::thread::spawn(kill)) }
    }
}
