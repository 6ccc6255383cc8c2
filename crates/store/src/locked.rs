//! Who has to know that the kernel keeps others away from a file.
//!
//! FICLONE and the exchange of contents hold the locks of both files from their first extent to their last: seconds, where there
//! are many. Whoever writes to one of them meanwhile waits in the kernel, and so does who changes its attributes or xattrs.
//! Readers wait as well, but not of what is cloned on XFS since Linux 6.7 (`XFS_IREMAPPING`), nor on btrfs, which
//! locks ranges (who reads past the page cache waits there).

use std::sync::OnceLock;

use fsnap_core::Gfid;

use crate::Store;

/// Is told when a file is kept locked for long, by the thread that does it.
pub trait Watch: Send + Sync {
    /// It is about to begin; with `readers`, those wait as well. The longer this takes to return, the later it begins.
    fn begins(&self, file: Gfid, readers: bool);

    /// It is over.
    fn ends(&self, file: Gfid);
}

/// Who is told.
#[derive(Default)]
pub(crate) struct Watcher(OnceLock<Box<dyn Watch>>);

/// For as long as it lives a file may be locked.
pub(crate) struct Locked<'a>(Option<(&'a dyn Watch, Gfid)>);

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        if let Some((watch, file)) = self.0 {
            watch.ends(file);
        }
    }
}

impl Store {
    /// From now on `watch` is told, unless somebody is already.
    pub fn watch(&self, watch: impl Watch + 'static) {
        let _ = self.watcher.0.set(Box::new(watch));
    }

    /// Before the content of `file` is cloned.
    pub(crate) fn locks_source(&self, file: Gfid) -> Locked<'_> {
        self.locks_for(file, !self.readers_go_on)
    }

    /// Before `file` gets another content.
    pub(crate) fn locks(&self, file: Gfid) -> Locked<'_> {
        self.locks_for(file, true)
    }

    fn locks_for(&self, file: Gfid, readers: bool) -> Locked<'_> {
        let watch = self.watcher.0.get();
        if let Some(watch) = watch {
            watch.begins(file, readers);
        }
        Locked(watch.map(|watch| (&**watch, file)))
    }
}

/// Whether who reads a file that is cloned does not wait. `is_xfs` says whether the file system is XFS.
pub(crate) fn readers_go_on(is_xfs: bool) -> bool {
    !is_xfs || std::fs::read_to_string("/proc/sys/kernel/osrelease").is_ok_and(|release| since_6_7(&release))
}

fn since_6_7(release: &str) -> bool {
    let mut numbers =
        release.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(7))
}

#[cfg(test)]
mod tests {
    use super::since_6_7;

    #[test]
    fn releases() {
        for (release, since) in [
            ("6.1.0-13-amd64", false),
            ("6.6.100", false),
            ("6.7.0-rc1", true),
            ("6.12.3+deb13-amd64\n", true),
            ("7.0.1", true),
            ("5.19", false),
            ("", false),
            ("next", false),
        ] {
            assert_eq!(since_6_7(release), since, "{release}");
        }
    }
}
