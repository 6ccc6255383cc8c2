//! DHT's layout of a directory on one brick, and the part of a file's name that it hashes.

/// The xattr of a directory that holds it.
pub const XATTR: &str = "trusted.glusterfs.dht";

/// The xattr of a directory that it has on the one brick (or set of bricks) whose attributes and xattrs count: a big-endian i32, the
/// changes that the others have missed. (`mds_xattr_key` of cluster/dht.)
pub const MDS: &str = "trusted.glusterfs.dht.mds";

/// The hash of the name `.fsnap`. Source: `gf_dm_hashfn` of libglusterfs.
pub const SNAP_DIR_HASH: u32 = 2_028_634_235;

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
