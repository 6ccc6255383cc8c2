//! Is a bare restore safe on this volume? glusterd's records tell.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use fsnap_core::options::{DirectRestore, Options};
use fsnap_core::volume::{VolumeInfo, VolumeType};
use fsnap_core::{Error, Gfid, Result};

/// Where glusterd keeps what it knows of volumes (`GLUSTERD_DEFAULT_WORKDIR`).
const VOLUMES: &str = "/var/lib/glusterd/vols";

/// Refuses a restore by bare setxattr where it would not reach every copy of the file or every reader of the changelog.
///
/// Asked anew for each restore: adding bricks turns a distribute volume into a replicate one while it runs.
/// [`Error::Unsupported`] (`EOPNOTSUPP`) where it is not safe, or not known to be.
pub fn allow_direct_restore(options: &Options, volume_id: Option<Gfid>) -> Result<()> {
    if options.direct_restore == DirectRestore::Off {
        return Err(Error::unsupported("restore by setfattr is switched off (option direct-restore)"));
    }
    let kind = match volume_id {
        Some(id) => recorded(Path::new(VOLUMES), id).map_or(Ok(None), |info| {
            trashed(&info)?;
            counted(&info)?;
            unnoticed(&info).map(|()| info.kind)
        })?,
        // No glusterd made this brick: a hand-written volfile says what it is.
        None => options.volume_type,
    };
    match kind {
        Some(VolumeType::Distribute) => Ok(()),
        Some(_) => Err(Error::unsupported("restore by setfattr on a replicate or disperse volume")),
        None => {
            Err(Error::unsupported("restore by setfattr on a volume whose type is not known on this server"))
        }
    }
}

/// Refuses what quota would not count, as `fsnap_store` does for a file that quota has noted something on: that it does a moment after
/// the file was made (`mq_create_xattrs_txn` of features/marker).
///
/// [`Error::Unsupported`] (`EOPNOTSUPP`) with quota on.
pub fn refuse_quota(volume_id: Option<Gfid>) -> Result<()> {
    volume_id.and_then(|id| recorded(Path::new(VOLUMES), id)).map_or(Ok(()), |info| counted(&info))
}

fn counted(info: &VolumeInfo) -> Result<()> {
    match info.quota {
        true => Err(Error::unsupported("quota is on: it would not count this")),
        false => Ok(()),
    }
}

/// Whether it is known here which names belong to a brick of several: nothing says that DHT hashes them in another way.
pub fn hashes_as_usual(volume_id: Option<Gfid>) -> bool {
    volume_id.and_then(|id| recorded(Path::new(VOLUMES), id)).is_none_or(|info| !info.hashes_otherwise)
}

/// Refuses a restore by a carrier where that would not come through.
///
/// [`Error::Unsupported`] (`EOPNOTSUPP`) with `features.trash` on.
pub fn allow_carried_restore(volume_id: Option<Gfid>) -> Result<()> {
    volume_id.and_then(|id| recorded(Path::new(VOLUMES), id)).map_or(Ok(()), |info| trashed(&info))
}

/// Refuses a restore that features/trash would make a copy of.
fn trashed(info: &VolumeInfo) -> Result<()> {
    match info.trash {
        true => Err(Error::unsupported(
            "restore with features.trash on: it copies what a restore replaces, and loses track of the restore",
        )),
        false => Ok(()),
    }
}

/// Whether other bricks of the volume hold the same files. False if it is not known.
pub fn has_copies(options: &Options, volume_id: Option<Gfid>) -> bool {
    kind(options, volume_id).is_some_and(|kind| kind != VolumeType::Distribute)
}

/// Whether no other brick of the volume holds the same files. False if it is not known.
pub fn is_alone(options: &Options, volume_id: Option<Gfid>) -> bool {
    kind(options, volume_id) == Some(VolumeType::Distribute)
}

/// How the volume keeps its files. `None` if it is not known.
pub fn kind(options: &Options, volume_id: Option<Gfid>) -> Option<VolumeType> {
    match volume_id {
        Some(id) => recorded(Path::new(VOLUMES), id).and_then(|info| info.kind),
        None => options.volume_type,
    }
}

/// Refuses a restore that would go unnoticed by those who must know: beneath these translators nothing tells them.
fn unnoticed(info: &VolumeInfo) -> Result<()> {
    if info.changelog {
        return Err(Error::unsupported(
            "restore on a volume with a changelog (geo-replication): it would miss the change",
        ));
    }
    Ok(())
}

/// A record of glusterd as it was read last.
struct Known {
    path: PathBuf,
    version: Version,
    info: VolumeInfo,
}

/// Tells one version of a file from the next: glusterd writes a new one and renames it (`gf_store_rename_tmppath`).
type Version = (u64, u64, i64, i64, u64);

/// Of the volumes of this process's bricks.
static KNOWN: Mutex<Vec<Known>> = Mutex::new(Vec::new());

/// What the glusterd of this server has recorded about the volume by now.
fn recorded(volumes: &Path, id: Gfid) -> Option<VolumeInfo> {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let is_it = |known: &Known| known.info.id == id && known.path.starts_with(volumes);
    if let Some(at) = known.iter().position(is_it) {
        if version(&known[at].path).is_some_and(|now| now == known[at].version) {
            return Some(known[at].info.clone());
        }
        known.swap_remove(at);
    }
    let found = std::fs::read_dir(volumes).ok()?.flatten().find_map(|entry| {
        let path = entry.path().join("info");
        let version = version(&path)?;
        let info = VolumeInfo::parse(&std::fs::read_to_string(&path).ok()?)?;
        (info.id == id).then_some(Known { path, version, info })
    })?;
    let info = found.info.clone();
    if info.may_miss {
        let name = found.path.parent().and_then(Path::file_name).unwrap_or_default();
        tracing::warn!(
            "cluster.extra-hash-regex is set and cluster.lookup-optimize is on: files whose names it fits, and that were made before it \
             was set, are not found until `gluster volume rebalance {} start force` is done, or lookup-optimize is off",
            name.display()
        );
    }
    known.push(found);
    Some(info)
}

fn version(path: &Path) -> Option<Version> {
    let stat = std::fs::metadata(path).ok()?;
    Some((stat.dev(), stat.ino(), stat.ctime(), stat.ctime_nsec(), stat.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(volume_type: Option<VolumeType>) -> Options {
        Options { volume_type, ..Options::default() }
    }

    #[test]
    fn a_volfile_speaks_for_itself_only_without_a_volume_id() {
        assert_eq!(allow_direct_restore(&options(Some(VolumeType::Distribute)), None), Ok(()));
        for (kind, id) in [
            (Some(VolumeType::Replicate), None),
            (Some(VolumeType::Disperse), None),
            (None, None),
            (Some(VolumeType::Distribute), Some(Gfid::from_bytes([9; 16]))),
        ] {
            assert_eq!(allow_direct_restore(&options(kind), id).unwrap_err().errno(), libc::EOPNOTSUPP);
        }
    }

    #[test]
    fn off_is_off() {
        let off = Options { direct_restore: DirectRestore::Off, ..options(Some(VolumeType::Distribute)) };
        assert_eq!(allow_direct_restore(&off, None).unwrap_err().errno(), libc::EOPNOTSUPP);
    }

    #[test]
    fn a_record_is_read_again_when_it_has_changed() {
        let volumes = std::env::temp_dir().join(format!("fsnap-volumes-{}", std::process::id()));
        let record = |volume: &str, id: u8, quota: &str| {
            let directory = volumes.join(volume);
            std::fs::create_dir_all(&directory).unwrap();
            let id = Gfid::from_bytes([id; 16]);
            let text = format!("type=0\nvolume-id={id}\nfeatures.quota={quota}\n");
            std::fs::write(directory.join("new"), text).unwrap();
            std::fs::rename(directory.join("new"), directory.join("info")).unwrap();
        };
        let quota = |id: u8| recorded(&volumes, Gfid::from_bytes([id; 16])).map(|info| info.quota);
        record("a", 1, "off");
        record("b", 2, "off");
        for _ in 0..2 {
            assert_eq!((quota(1), quota(2), quota(3)), (Some(false), Some(false), None));
        }
        record("a", 1, "on");
        assert_eq!((quota(1), quota(2)), (Some(true), Some(false)));
        // Another volume of that name.
        record("a", 3, "off");
        assert_eq!((quota(1), quota(2), quota(3)), (None, Some(false), Some(false)));
        std::fs::remove_dir_all(&volumes).unwrap();
        assert_eq!((quota(1), quota(2), quota(3)), (None, None, None));
    }
}
