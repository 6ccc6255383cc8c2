//! What clients may have cached, and have to be told of: it is changed here, beneath the caches of GlusterFS.

use std::sync::OnceLock;

use fsnap_core::Gfid;

use crate::Store;
use crate::brick::OpenFile;
use crate::rights::Rights;

/// What was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Notice<'a> {
    /// There is a new name in this directory.
    Added(Gfid),
    /// There is no such name in directory `dir` any more, as which there was `file`.
    Removed {
        /// The directory.
        dir: Gfid,
        /// The name.
        name: &'a [u8],
        /// The file, or directory.
        file: Gfid,
    },
    /// This file or directory has other rights.
    Rights(Gfid),
}

type Tell = dyn Fn(Notice<'_>) + Send + Sync;

/// Who is told.
#[derive(Default)]
pub(crate) struct Listener(OnceLock<Box<Tell>>);

impl Store {
    /// `tell` is told of what changes from now on, by the thread that has changed it, once it can be seen. It must not wait for another
    /// call of the store. There can be one such function; a second one is not told.
    pub fn tells(&self, tell: impl Fn(Notice<'_>) + Send + Sync + 'static) {
        let _ = self.listener.0.set(Box::new(tell));
    }

    pub(crate) fn notice(&self, notice: Notice<'_>) {
        if let Some(tell) = self.listener.0.get() {
            tell(notice);
        }
    }

    /// Makes these the rights of a snapshot.
    pub(crate) fn ensure_rights(&self, rights: &Rights, payload: &OpenFile) -> fsnap_core::Result<()> {
        let changed = rights.ensure(&payload.file)?;
        if changed {
            self.notice(Notice::Rights(payload.gfid));
        }
        Ok(())
    }
}
