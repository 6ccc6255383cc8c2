//! `trusted.glusterfs.mdata`: the times that GlusterFS keeps the same on all bricks of a set.
//!
//! Source: `posix_mdata_disk` of storage/posix (packed, big-endian): version u8, flags u64, then ctime, mtime and
//! atime, each as seconds u64 and nanoseconds u64.

use crate::Timestamp;

/// The xattr's name.
pub const XATTR: &str = "trusted.glusterfs.mdata";

/// How many bytes it has.
pub const SIZE: usize = 1 + 8 + 3 * 16;
const CTIME: usize = 1 + 8;
const MTIME: usize = CTIME + 16;

/// The mtime in the xattr's bytes; `None` if they are not of the known form or hold no times (as with the `ctime`
/// feature off). One before 1970 has negative seconds (`timespec64` in the bytes of a u64).
pub fn mtime(bytes: &[u8]) -> Option<Timestamp> {
    if bytes.len() != SIZE {
        return None;
    }
    // Of nothing that was ever stamped the ctime is the epoch; an mtime of that may be what an application has set.
    if bytes[CTIME..MTIME].iter().all(|&byte| byte == 0) {
        return None;
    }
    let word = |at: usize| Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let (seconds, nanos) = (word(MTIME)?, word(MTIME + 8)?);
    Timestamp::new(seconds.cast_signed(), nanos).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_mtime() {
        let mut b = vec![1];
        for word in [0u64, 10, 1, 20, 2, 30, 3] {
            b.extend(word.to_be_bytes());
        }
        assert_eq!(mtime(&b).unwrap().to_string(), "20.000000002");
        b[MTIME..MTIME + 16].fill(0);
        assert_eq!(mtime(&b).unwrap().to_string(), "0.000000000");
        b[MTIME..MTIME + 8].copy_from_slice(&(-1i64).to_be_bytes());
        assert_eq!(mtime(&b).unwrap().to_string(), "-1.000000000");
        b.push(0);
        assert_eq!(mtime(&b), None);
        assert_eq!(mtime(&[0; SIZE]), None);
        assert_eq!(mtime(&[0xff; SIZE]), None);
        assert_eq!(mtime(b""), None);
    }
}
