//! Setting right what can be set right without guessing. Nothing that may be data is removed: it goes into quarantine,
//! and stays there until somebody asks that the quarantine be emptied.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use fsnap_core::gfid2path::Link;
use fsnap_core::{Error, Gfid, Result, SNAP_DIR};
use nix::fcntl::AtFlags;
use nix::unistd::{linkat, syncfs};

use super::{Fix, Options, Problem, Report, Scan, walk};
use crate::brick::{Access, BrickDir, open_leaf};
use crate::state::StateDir;
use crate::sys::{self, Doing};
use crate::xattrs;

/// Repairs a brick that nobody uses, or empties its quarantine, or both; then looks what is left.
pub(super) fn run(brick: &BrickDir, options: &Options, meets: &dyn Fn()) -> Result<Report> {
    let scan = Scan::of(brick, false, meets)?;
    let found = scan.found.values().flatten();
    let (repairs, discards): (Vec<(Problem, Fix)>, Vec<_>) = found
        .filter_map(|found| Some((found.problem.clone(), found.fix.clone()?)))
        .partition(|(_, fix)| fix.is_repair());
    let (mut repaired, mut discarded, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    if options.repair && !repairs.is_empty() {
        // This also is what repairs `Fix::MakeState`.
        let state = StateDir::make(brick)?;
        for (problem, fix) in repairs {
            match apply(brick, &state, &problem.path, &fix) {
                Ok(()) => repaired.push(problem),
                Err(e) => failed.push((problem, e)),
            }
        }
    }
    if options.empty_quarantine {
        for (problem, fix) in discards {
            let Fix::Discard(name) = &fix else { continue };
            match scan.own.discard(name) {
                Ok(()) => discarded.push(problem),
                Err(e) => failed.push((problem, e)),
            }
        }
    }
    if !(repaired.is_empty() && discarded.is_empty()) {
        syncfs(&brick.root).doing("syncfs")?;
    }
    super::sort(&mut repaired);
    super::sort(&mut discarded);
    let mut report = Report { repaired, discarded, ..Scan::of(brick, false, meets)?.report() };
    for problem in &mut report.problems {
        let same = |p: &Problem| (p.kind, &p.path, p.gfid) == (problem.kind, &problem.path, problem.gfid);
        if let Some((_, why)) = failed.iter().find(|(failed, _)| same(failed)) {
            problem.text = format!("{} (repair failed: {why})", problem.text);
        }
    }
    Ok(report)
}

fn apply(brick: &BrickDir, state: &StateDir, path: &Path, fix: &Fix) -> Result<()> {
    match fix {
        Fix::MakeState => Ok(()),
        Fix::RemoveNote(payload) => state.forget_awaited(*payload),
        Fix::LinkHandle(gfid) => link_handle(brick, path, *gfid),
        Fix::LinkSnapDir { parent } => {
            link_dir(brick, parent.snap_dir(), &Link { parent: *parent, name: SNAP_DIR.into() })
        }
        Fix::LinkDir(gfid, place) => link_dir(brick, *gfid, place),
        Fix::Quarantine(gfid) => quarantine(brick, state, path, *gfid),
        Fix::Discard(_) => Ok(()),
        Fix::Sweep(name) => sys::remove_dir(&state.dir, name.as_slice()).doing("remove a directory"),
    }
}

fn link_dir(brick: &BrickDir, gfid: Gfid, place: &Link) -> Result<()> {
    sys::symlink(&place.soft_handle(), brick.make_handle_dir(gfid)?, gfid.to_string().as_str())
        .doing("make the handle of a directory")
}

fn link_handle(brick: &BrickDir, path: &Path, gfid: Gfid) -> Result<()> {
    let dir = walk::open_dir(brick, walk::parent(path)).doing("open a directory")?;
    let handles = brick.make_handle_dir(gfid)?;
    linkat(&dir, walk::leaf(path), handles, gfid.to_string().as_str(), AtFlags::empty())
        .doing("link a handle")
}

/// The handle first and the note last: from where a crash leaves it the next repair goes on.
fn quarantine(brick: &BrickDir, state: &StateDir, path: &Path, gfid: Gfid) -> Result<()> {
    let dir = walk::open_dir(brick, walk::parent(path)).doing("open a directory")?;
    let name = walk::leaf(path).as_bytes();
    let (file, stat) = open_leaf(&dir, name, Access::Read)?.ok_or(Error::Gone)?;
    if xattrs::payload_record(&file)?.is_none_or(|record| record.gfid != gfid) {
        return Err(Error::Gone);
    }
    if path != gfid.handle()
        && let Ok(handles) = brick.handle_dir(gfid)
    {
        sys::unlink_if_same(handles, gfid.to_string().as_str(), &stat)?;
    }
    state.quarantine(brick, &dir, name, &format!("snapshot-{gfid}"))?;
    state.forget_awaited(gfid)
}
