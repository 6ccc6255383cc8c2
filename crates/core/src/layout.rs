//! DHT's layout of a directory on one brick, and the part of a file's name that it hashes.

/// The xattr of a directory that holds it.
pub const XATTR: &str = "trusted.glusterfs.dht";

/// The xattr of a directory that it has on the one brick (or set of bricks) whose attributes and xattrs count: a big-endian i32, the
/// changes that the others have missed. (`mds_xattr_key` of cluster/dht.)
pub const MDS: &str = "trusted.glusterfs.dht.mds";

/// The hash of the name `.fsnap`. Source: `gf_dm_hashfn` of libglusterfs.
pub const SNAP_DIR_HASH: u32 = 2_028_634_235;

/// The first word of a layout that promises nothing of where names are: what is not where its name belongs is looked for everywhere,
/// whatever `cluster.lookup-optimize` is. (`DHT_LAYOUT_HASH_INVALID` of cluster/dht.)
const NO_COMMIT: [u8; 4] = 1u32.to_be_bytes();

/// The value of [`XATTR`] for the `.fsnap` of a directory that has this one on the same brick; `None` if it is not of the known form.
///
/// The same hashes, so that a name which is hashed as that of its file is looked for where that is, and the same type, with no commit
/// hash: snapshots of renamed and of deleted files, and of files that are not where their names belong, are on other bricks. Where no
/// name belongs it is zeros, as DHT writes it to a directory that it has made where it was missing (`dht_selfheal_dir_xattr`).
pub fn for_snap_dir(directory: &[u8]) -> Option<[u8; 16]> {
    if Layout::decode(directory)?.is_empty() {
        return Some([0; 16]);
    }
    let mut value: [u8; 16] = directory.try_into().ok()?;
    value[..4].copy_from_slice(&NO_COMMIT);
    Some(value)
}

/// The hashes of names that belong to this brick, both ends included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    start: u32,
    stop: u32,
}

impl Layout {
    /// Reads the xattr's bytes; `None` if they are not of the known form.
    ///
    /// Source: `dht_disk_layout_extract` of cluster/dht: commit hash, type, start and stop, each a big-endian u32.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (words, []) = bytes.as_chunks::<4>() else { return None };
        let [_, _, start, stop] = words else { return None };
        Some(Layout { start: u32::from_be_bytes(*start), stop: u32::from_be_bytes(*stop) })
    }

    /// Whether no name belongs to the brick.
    pub fn is_empty(&self) -> bool {
        self.stop == 0
    }

    /// Whether all names belong to the brick (or its set of bricks): there is no other.
    pub fn is_all(&self) -> bool {
        (self.start, self.stop) == (0, u32::MAX)
    }

    /// Whether this brick is one of several, and the one that DHT looks at for a `.fsnap`.
    pub fn is_asked_for_snap_dir(&self) -> bool {
        !self.is_all() && self.has(SNAP_DIR_HASH)
    }

    /// Whether names of this hash belong to the brick. A layout from 0 to 0 holds none.
    pub fn has(&self, hash: u32) -> bool {
        (self.start..=self.stop).contains(&hash) && !self.is_empty()
    }
}

/// What DHT hashes of a name: all of it, but of `.NAME.SUFFIX`, as rsync calls what it is about to rename to `NAME`, that.
///
/// Source: `dht_hash_compute` of cluster/dht, with the default of `rsync-hash-regex`, `^\.(.+)\.[^.]+$`.
pub fn hashed_part(name: &[u8]) -> &[u8] {
    let inner = name.strip_prefix(b".").and_then(|rest| {
        let dot = rest.iter().rposition(|&b| b == b'.')?;
        (dot > 0 && dot + 1 < rest.len()).then(|| &rest[..dot])
    });
    inner.unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts() {
        let bytes = |start: u32, stop: u32| [1u32, 0, start, stop].map(u32::to_be_bytes).concat();
        let half = Layout::decode(&bytes(0x8000_0000, u32::MAX)).unwrap();
        assert!(half.has(0x8000_0000) && half.has(u32::MAX) && !half.has(0x7fff_ffff));
        assert!(!half.is_empty());
        assert!(!Layout::decode(&bytes(0, 0)).unwrap().has(0));
        assert!(Layout::decode(&bytes(0, 0)).unwrap().is_empty());
        assert!(Layout::decode(&bytes(0, u32::MAX)).unwrap().has(0));
        assert!(Layout::decode(&bytes(0, u32::MAX)).unwrap().is_all() && !half.is_all());
        assert_eq!(Layout::decode(&[0; 15]), None);
        assert_eq!(Layout::decode(&[0; 20]), None);
        assert_eq!(Layout::decode(b""), None);
    }

    #[test]
    fn of_a_directory_for_its_snapshots() {
        let words = |words: [u32; 4]| words.map(u32::to_be_bytes).concat();
        let given = words([0x3fff_0001, 2, 7, 0x8000_0000]);
        assert_eq!(for_snap_dir(&given).unwrap().to_vec(), words([1, 2, 7, 0x8000_0000]));
        assert_eq!(for_snap_dir(&words([0x3fff_0001, 0, 0, 0])), Some([0; 16]));
        assert_eq!(for_snap_dir(&[0; 15]), None);
        assert_eq!(for_snap_dir(b""), None);
    }

    #[test]
    fn names_of_rsync() {
        let cases = [
            ("vm.img", "vm.img"),
            (".vm.img.Ab12Cd", "vm.img"),
            (".vm.img", "vm"),
            (".hidden", ".hidden"),
            ("..a", "..a"),
            (".a.", ".a."),
            (".", "."),
            ("", ""),
            (".a.b.c", "a.b"),
        ];
        for (name, part) in cases {
            assert_eq!(hashed_part(name.as_bytes()), part.as_bytes(), "{name}");
        }
    }
}
