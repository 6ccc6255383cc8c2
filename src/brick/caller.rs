//! What a caller is: an application, or a part of the cluster, which puts a number of its own for the process id into its requests.

use crate::ffi::{Call, HiddenXattrs};

/// `GF_CLIENT_PID_*` of glusterfs.h: self-heal (in any process), and the mount that fills a new replica.
const HEAL: [i32; 2] = [-6, -12];
/// Rebalance and glfsheal: they carry or compare all xattrs of a file.
const CARRIERS: [i32; 2] = [REBALANCE, -7];
/// Who stamps times on what has none, at a first lookup.
pub const STAMPER: i32 = -13;

/// `GF_CLIENT_PID_DEFRAG` there.
pub const REBALANCE: i32 = -3;

/// The workers of geo-replication (`GF_CLIENT_PID_GSYNCD` there).
const REPLICATING: i32 = -1;

/// What all our xattrs' names start with.
pub const XATTRS: HiddenXattrs = c"trusted.fsnap.";

/// Clients of the cluster itself that must see everything on the brick (`GF_CLIENT_PID_*` of glusterfs.h): self-heal
/// daemon, its query tool, and the two crawlers of quota. Rebalance and geo-replication are not among them.
const SEE_ALL: [i32; 4] = [-6, -7, -5, -100];

/// Whether self-heal asks, from outside.
pub fn is_heal(call: &Call<'_>) -> bool {
    !call.from_within() && HEAL.contains(&call.pid())
}

/// Whether self-heal asks, or a translator of the brick itself.
pub fn heals(call: &Call<'_>) -> bool {
    call.from_within() || is_heal(call)
}

/// Whether who asks finds deleted files that are kept: whoever heals or sees everything, and the daemon of self-heal by any number:
/// for disperse it looks for what there is to heal under its process id (`ec_shd_index_heal`).
pub fn finds_deleted(call: &Call<'_>) -> bool {
    heals(call) || sees_all(call) || call.is_by_process(c"glustershd")
}

/// Whether geo-replication asks, which is to take snapshots for files that were removed in the meantime.
pub fn replicates(call: &Call<'_>) -> bool {
    call.pid() == REPLICATING
}

/// Whether who asks carries or compares all xattrs of a file.
pub fn sees_xattrs(call: &Call<'_>) -> bool {
    heals(call) || CARRIERS.contains(&call.pid())
}

/// Whether who asks must see everything on the brick.
pub fn sees_all(call: &Call<'_>) -> bool {
    call.from_within() || SEE_ALL.contains(&call.pid())
}
