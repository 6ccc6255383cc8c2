//! Handles that are gone are put back where the host has told the way to what they were of.

use fsnap_store::Store;

use super::pool::{Entrance, Key};

/// Puts back the handles that are gone of what lies on the way `path` from the brick's root, unless somebody is at work on it. True
/// if any was.
pub fn mend(store: &Store, entrance: &Entrance, path: &[u8]) -> bool {
    let mut mended = false;
    for lost in store.without_handles(path).unwrap_or_default() {
        let Some(_alone) = entrance.enter(&[Key::File(lost.gfid)]) else { continue };
        match store.put_back(&lost) {
            Ok(()) => {
                tracing::info!("the handle of {}, which was gone, is back", lost.gfid);
                mended = true;
            }
            Err(error) => {
                tracing::error!("the handle of {} is gone, and can't be put back: {error}", lost.gfid)
            }
        }
    }
    mended
}
