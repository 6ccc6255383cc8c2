//! Whose snapshot a file is that self-heal wants to make.

use std::ops::ControlFlow;

use fsnap_core::gfid2path::Link;
use fsnap_core::{Error, Gfid, Result};

use crate::Store;
use crate::adopt::record_of;
use crate::brick::Access;
use crate::sys;
use crate::xattrs;

impl Store {
    /// The file whose snapshot `payload` is to be, which self-heal wants to make at `place`: as was noted when the catalogue came, or as
    /// the name tells if a payload got lost that nobody awaits.
    ///
    /// [`Error::Unhealed`] (`EIO`) if no catalogue on this brick names it, or it is here already, or [`Error::Damaged`]
    /// (`EIO`), or what a system call says.
    pub fn wanted(&self, payload: Gfid, place: &Link) -> Result<Gfid> {
        match self.brick.open_file(payload, Access::Read) {
            Err(Error::Gone) => {}
            Err(e) => return Err(e),
            Ok(_) => return Err(Error::Unhealed("the snapshot is here, under another name".into())),
        }
        let noted = match self.state.get() {
            Some(state) => state.awaited(payload)?,
            None => None,
        };
        if let Some(base) = noted.filter(|base| self.names(*base, payload)) {
            return Ok(base);
        }
        let named = self.named_by(place, payload)?;
        named
            .ok_or_else(|| Error::Unhealed("no catalogue on this brick has this snapshot, or not yet".into()))
    }

    /// Whether the catalogue of `base` has `payload`.
    fn names(&self, base: Gfid, payload: Gfid) -> bool {
        matches!(record_of(&self.brick, base, payload), Ok(Some(_)))
    }

    /// The file that `place`, in a `.fsnap`, is named after, if its catalogue has `payload`: one beside, or one that was deleted and has
    /// its tombstone there.
    fn named_by(&self, place: &Link, payload: Gfid) -> Result<Option<Gfid>> {
        let parent = match self.brick.soft_handle_of(place.parent) {
            Ok(Some(link)) => link.parent,
            Ok(None) | Err(Error::Gone) => return Ok(None),
            Err(e) => return Err(e),
        };
        if let Some(at) = place.name.iter().rposition(|&byte| byte == b'@') {
            let beside = xattrs::gfid_in(&self.brick.open_dir(parent)?.file, &place.name[..at])?;
            if let Some(base) = beside.filter(|base| self.names(*base, payload)) {
                return Ok(Some(base));
            }
        }
        let mut found = None;
        sys::each_name(&self.brick.open_dir(place.parent)?.file, |name| {
            let end =
                name.last_chunk::<36>().and_then(|end| Gfid::parse(std::str::from_utf8(end).ok()?).ok());
            let may_be = |file: &Gfid| file.is_tombstone(name) && file.may_have_tombstone(&place.name, name);
            found = end.filter(|file| may_be(file) && self.names(*file, payload));
            Ok(if found.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        Ok(found)
    }
}
