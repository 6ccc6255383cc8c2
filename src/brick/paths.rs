//! Who goes by paths, and who changes them.
//!
//! storage/posix goes by the path that the host tells, which is quicker than the handle of a directory, a chain of symlinks. But what a
//! path leads to changes when a directory above is renamed: then a removal would hit another file than the one that was looked at. So as
//! long as a directory is being renamed everybody goes by gfid, and that waits for those who go by path.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many there are of both.
#[derive(Default)]
pub struct Paths(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    followed: usize,
    changed: usize,
}

/// As long as it lives paths lead where they lead now.
pub struct Followed(Arc<Paths>);

/// As long as it lives nobody begins to go by path.
pub struct Changing(Arc<Paths>);

impl Paths {
    /// `None` while somebody renames a directory, or is about to.
    pub fn follow(self: &Arc<Self>) -> Option<Followed> {
        let mut counts = self.lock();
        if counts.changed > 0 {
            return None;
        }
        counts.followed += 1;
        Some(Followed(Arc::clone(self)))
    }

    /// A directory is about to be renamed.
    pub fn change(self: &Arc<Self>) -> Changing {
        self.lock().changed += 1;
        Changing(Arc::clone(self))
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Changing {
    /// Whether nobody goes by path.
    pub fn is_alone(&self) -> bool {
        self.0.lock().followed == 0
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.0.lock().followed -= 1;
    }
}

impl Drop for Changing {
    fn drop(&mut self) {
        self.0.lock().changed -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_goes_by_a_path_that_changes() {
        let paths = Arc::new(Paths::default());
        let (one, two) = (paths.follow().unwrap(), paths.follow().unwrap());
        let changing = paths.change();
        assert!(paths.follow().is_none() && !changing.is_alone());
        drop(one);
        drop(two);
        assert!(changing.is_alone() && paths.follow().is_none());
        let other = paths.change();
        drop(changing);
        assert!(paths.follow().is_none());
        drop(other);
        assert!(paths.follow().is_some());
    }
}
