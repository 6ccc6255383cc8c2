//! The marks that the replicate translator leaves on files: which brick missed what (`trusted.afr.VOLUME-client-N`), and
//! what is under way (`trusted.afr.dirty`).
//!
//! Source: `AFR_NUM_CHANGE_LOGS` of cluster/afr: three big-endian 32-bit counts, of data, metadata and entry operations.

/// What the names of all marks start with.
pub const PREFIX: &str = "trusted.afr.";
/// The mark of what is under way.
pub const DIRTY: &str = "trusted.afr.dirty";
/// The bytes of a mark.
pub const SIZE: usize = 12;
/// A mark that says nothing; added to one, it changes nothing.
pub const NOTHING: [u8; SIZE] = [0; SIZE];
/// One operation on entries.
pub const ENTRY: [u8; SIZE] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// What of the mark `name` on a file is true of its snapshot as well; `None` if that is nothing, or if it is none of
/// the known form.
///
/// That a brick missed data or metadata is. That data is being written is: the bricks may have it or not. That metadata is
/// being changed is not: the change is the command itself, which replicate takes for one.
pub fn inherited(name: &[u8], value: &[u8]) -> Option<[u8; SIZE]> {
    let mut mark = <[u8; SIZE]>::try_from(value).ok()?;
    let kept = if name == DIRTY.as_bytes() { 4 } else { 8 };
    mark[kept..].fill(0);
    (mark != NOTHING).then_some(mark)
}

/// Whether a mark tells of metadata operations. One that is of no known form may.
pub fn tells_of_metadata(value: &[u8]) -> bool {
    tells_of(value, 4)
}

/// Whether a mark tells of operations on entries. One that is of no known form may.
pub fn tells_of_entries(value: &[u8]) -> bool {
    tells_of(value, 8)
}

fn tells_of(value: &[u8], at: usize) -> bool {
    match <[u8; SIZE]>::try_from(value) {
        Ok(mark) => mark[at..at + 4] != [0; 4],
        Err(_) => value.iter().any(|&byte| byte != 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_snapshot_inherits() {
        let mark = |data: u32, metadata: u32, entry: u32| {
            let counts = [data, metadata, entry].map(u32::to_be_bytes);
            <[u8; SIZE]>::try_from(counts.concat()).unwrap()
        };
        assert_eq!(inherited(b"trusted.afr.v-client-2", &mark(7, 1, 3)), Some(mark(7, 1, 0)));
        assert_eq!(inherited(b"trusted.afr.v-client-2", &mark(0, 0, 3)), None);
        assert_eq!(inherited(DIRTY.as_bytes(), &mark(2, 1, 0)), Some(mark(2, 0, 0)));
        assert_eq!(inherited(DIRTY.as_bytes(), &mark(0, 1, 0)), None);
        assert_eq!(inherited(DIRTY.as_bytes(), b"\0\0\0\x01"), None);
        assert_eq!(ENTRY, mark(0, 0, 1));
        assert!(tells_of_metadata(&mark(0, 1, 0)) && tells_of_metadata(&mark(7, 1 << 24, 3)));
        assert!(!tells_of_metadata(&mark(7, 0, 3)) && !tells_of_metadata(&NOTHING));
        assert!(tells_of_entries(&mark(0, 0, 1)) && !tells_of_entries(&mark(1, 1, 0)));
        assert!(tells_of_metadata(b"\0\x01") && !tells_of_metadata(b"\0\0") && !tells_of_metadata(b""));
    }
}
