//! Is a bare restore safe on this volume? glusterd's records tell.

use std::path::Path;

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

/// What the glusterd of this server recorded about the volume.
fn recorded(volumes: &Path, id: Gfid) -> Option<VolumeInfo> {
    let entries = std::fs::read_dir(volumes).ok()?;
    entries.flatten().find_map(|entry| {
        let text = std::fs::read_to_string(entry.path().join("info")).ok()?;
        VolumeInfo::parse(&text).filter(|info| info.id == id)
    })
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
}
