//! Whether an XFS has so much room that a clone over a file does not stop in the middle for want of it.

/// A record of where an extent lies takes so many bytes in a block of the tree that holds them. Source: `xfs_bmbt_rec_t`.
const RECORD: u64 = 16;
/// What else is in such a block, in bytes. Source: `XFS_BMBT_BLOCK_LEN`.
const HEADER: u64 = 72;
/// So many bytes are to be free besides what is needed: others write as well.
const SPARE: u64 = 64 << 20;
/// Of each group one part in so many is to be free. XFS shares nothing that lies in a group with hardly any room, about one part in
/// a thousand, whatever the others have. Source: `xfs_reflink_ag_has_free_space`.
const PART: u64 = 64;

/// An allocation group, in blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Group {
    /// How large it is.
    pub blocks: u32,
    /// How many blocks of it are free, without those that are kept for its own trees.
    pub free: u32,
}

/// Whether a file can get as many `extents` as that, the old ones and the new ones counted, on a file system with these `groups`
/// and blocks of `block` bytes, and nobody will miss what that takes.
pub fn is_ample(groups: &[Group], block: u32, extents: u64) -> bool {
    // At least half full they are, and those above the leaves are fewer than the leaves.
    let records = u64::from(block).saturating_sub(HEADER) / RECORD / 2;
    if records == 0 {
        return false;
    }
    let needed = extents.div_ceil(records).saturating_mul(2).saturating_add(SPARE / u64::from(block));
    let free: u64 = groups.iter().map(|group| u64::from(group.free)).sum();
    free >= needed && groups.iter().all(|group| u64::from(group.free) * PART >= u64::from(group.blocks))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// Groups of 1 GiB each, with so many MiB free, of blocks of 4 KiB.
    fn groups(free: &[u32]) -> Vec<Group> {
        free.iter().map(|free| Group { blocks: 1 << 18, free: free << 8 }).collect()
    }

    #[test]
    fn what_is_ample() {
        for (free, extents, ample) in [
            (&[512, 512][..], 10_000, true),
            (&[16, 48], 0, true),
            (&[16, 47], 0, false),
            // One group is full, and there is room in others.
            (&[15, 1000, 1000, 1000], 4, false),
            (&[16, 1000, 1000, 1000], 4, true),
            (&[0, 0], 0, false),
            (&[], 0, false),
            // 8 million extents take 512 MiB.
            (&[575], 1 << 23, false),
            (&[600], 1 << 23, true),
            (&[1 << 10; 4], u64::MAX, false),
        ] {
            assert_eq!(is_ample(&groups(free), 4096, extents), ample, "{free:?} {extents}");
        }
    }

    #[test]
    fn blocks_of_all_sizes() {
        let all = [Group { blocks: u32::MAX, free: u32::MAX }];
        for block in [0, 1, 72, 100] {
            assert!(!is_ample(&all, block, 1), "{block}");
        }
        for block in [512, 1024, 4096, 65536] {
            assert!(is_ample(&all, block, 1 << 20), "{block}");
            // Twice what the leaves take that are half full, and what others may want.
            let records = (u64::from(block) - HEADER) / RECORD / 2;
            let just = |blocks: u64| [Group { blocks: 1, free: blocks as u32 }];
            let spare = 64 * MIB / u64::from(block);
            assert!(is_ample(&just(spare + 2), block, records));
            assert!(!is_ample(&just(spare + 3), block, records + 1));
            assert!(is_ample(&just(spare + 4), block, records + 1));
        }
    }
}
