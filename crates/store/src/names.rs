//! The names that a file has: what its gfid2path xattrs say, and what of that is true.

use std::collections::BTreeMap;
use std::fs::File;
use std::time::Duration;

use fsnap_core::gfid2path::{self, Link};
use fsnap_core::{Error, Gfid, Result};
use nix::sys::stat::{FileStat, fstat};

use crate::Store;
use crate::brick::{Access, BrickDir, OpenDir, OpenFile};
use crate::sys::{self, Doing};
use crate::xattrs::{self, XattrNames};

/// How often a file's place is looked up again that a rename has made uncertain.
const TRIES: u64 = 4;

impl BrickDir {
    /// The directory that `link` is in if it leads to the inode that `stat` is of.
    pub(crate) fn dir_of(&self, link: &Link, stat: &FileStat) -> Result<Option<OpenDir>> {
        let dir = match self.open_dir(link.parent) {
            Err(Error::Gone) => return Ok(None),
            other => other?,
        };
        let there = sys::stat_in(&dir.file, link.name.as_slice())?;
        Ok(there.is_some_and(|there| sys::same_inode(&there, stat)).then_some(dir))
    }

    /// All names of the file that snapshots can lie beside, those first that are likeliest to be its owner's.
    pub(crate) fn current_names(&self, base: &OpenFile) -> Result<Vec<Link>> {
        let mut current = Vec::new();
        for link in links(&base.file)? {
            let dir = self.dir_of(&link, &base.stat)?;
            if let Some(dir) = dir.filter(|dir| dir.may_have_snapshots().is_ok()) {
                current.push((Whose::of(&dir, &base.stat)?, link));
            }
        }
        current.sort();
        Ok(current.into_iter().map(|(_, link)| link).collect())
    }
}

/// Who can have given a file a name in a directory. What anybody may link there must not decide where the owner's snapshots lie,
/// nor whether he can have any. (It is the same on all bricks, as directories are.)
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Whose {
    /// Nobody but the file's owner, and root.
    Owners,
    /// Nobody but root.
    Roots,
    /// Others as well, who may write to a directory of the owner's or of root's.
    Shared,
    /// Somebody else.
    Others,
}

impl Whose {
    fn of(dir: &OpenDir, file: &FileStat) -> Result<Self> {
        let dir = fstat(&dir.file).doing("stat")?;
        // With an ACL the bits of the group are those of its mask.
        let private = dir.st_mode & 0o022 == 0;
        Ok(match dir.st_uid {
            uid if uid == file.st_uid && private => Whose::Owners,
            0 if private => Whose::Roots,
            uid if uid == file.st_uid || uid == 0 => Whose::Shared,
            _ => Whose::Others,
        })
    }
}

impl Store {
    /// The directory and the name of the file. Of several hard links the one that a snapshot lies beside; else the one that is the
    /// likeliest to be the owner's, of these the smallest as an xattr: that is the same one on all bricks. But none that `fits`
    /// refuses, if there is another; its error if there is not.
    ///
    /// [`Error::Gone`] for a file that was deleted, [`Error::Unsupported`] without gfid2path xattrs.
    pub(crate) fn place_of(
        &self,
        base: &OpenFile,
        fits: impl Fn(&[u8]) -> Result<()>,
    ) -> Result<(OpenDir, Vec<u8>)> {
        for attempt in 0..TRIES {
            // A rename or a link sets the new xattr a moment after it has given the name.
            std::thread::sleep(Duration::from_millis(attempt * attempt));
            let links = links(&base.file)?;
            // Its handle may outlive its last name.
            if fstat(&base.file).doing("stat")?.st_nlink < 2 {
                return Err(Error::Gone);
            }
            if links.is_empty() && attempt + 1 == TRIES {
                return Err(Error::unsupported("the file has no gfid2path xattr: set storage.gfid2path on"));
            }
            let (mut buried, mut places) = (false, Vec::new());
            for link in links {
                match self.brick.dir_of(&link, &base.stat)? {
                    Some(dir) if is_tombstone(base, &dir, &link) => buried = true,
                    Some(dir) => places.push((Whose::of(&dir, &base.stat)?, link, dir)),
                    None => {
                        tracing::warn!(
                            "{} is not {} in {} any more",
                            base.gfid,
                            link.name.escape_ascii(),
                            link.parent
                        );
                    }
                }
            }
            if !places.is_empty() {
                return self.best_place(base, places, fits);
            }
            if buried {
                return Err(Error::Gone);
            }
        }
        Err(Error::Damaged(format!("{} is in none of the places that its gfid2path xattrs tell", base.gfid)))
    }

    fn best_place(
        &self,
        base: &OpenFile,
        mut places: Vec<(Whose, Link, OpenDir)>,
        fits: impl Fn(&[u8]) -> Result<()>,
    ) -> Result<(OpenDir, Vec<u8>)> {
        if places.len() > 1 {
            places.sort_by(|(whose, link, _), (other, smaller, _)| (whose, link).cmp(&(other, smaller)));
            let links: Vec<Link> = places.iter().map(|(_, link, _)| link.clone()).collect();
            if let Some(in_use) = self.in_use(base, &links)? {
                let place = places.remove(in_use);
                places.insert(0, place);
            }
        }
        let mut refused = Ok(());
        for (_, link, dir) in places {
            match fits(&link.name) {
                Ok(()) => return Ok((dir, link.name)),
                Err(e) => refused = refused.and(Err(e)),
            }
        }
        Err(refused.err().unwrap_or(Error::Gone))
    }

    /// Notes on `file`, if it is a regular file and has that name, that it has, where it is not noted. storage/posix takes a rename
    /// from one hard link of a file to another, which does nothing, for a move; and one to where it is told by path alone for one to
    /// where the file was. True if it is noted now and was not.
    ///
    /// [`Error::Damaged`] (`EIO`), or what a system call says.
    pub fn note_name(&self, file: Gfid, parent: Gfid, name: &[u8]) -> Result<bool> {
        let _change = self.change()?;
        let _reserve = self.may_use_reserve();
        let base = match self.brick.open_file(file, Access::Read) {
            Err(Error::Gone | Error::NotRegular) => return Ok(false),
            other => other?,
        };
        let link = Link { parent, name: name.to_vec() };
        if links(&base.file).is_ok_and(|links| links.contains(&link)) {
            return Ok(false);
        }
        let has_it = self.brick.dir_of(&link, &base.stat)?.is_some();
        if has_it {
            note(&base.file, &link).and_then(|()| self.brick.settle(&base.file))?;
        }
        Ok(has_it)
    }

    /// The same of what lies at `path` from the brick's root, if that is `file`. Then notes of names that it does not have go.
    pub fn note_path(&self, file: Gfid, path: &[u8]) -> Result<bool> {
        let Some(slash) = path.iter().rposition(|&byte| byte == b'/') else { return Ok(false) };
        let noted = self.note_name(file, self.dir_at(&path[..slash])?, &path[slash + 1..])?;
        if noted {
            for link in links(&self.brick.open_file(file, Access::Read)?.file)? {
                // Of a directory that is not to be found nobody knows what is in it.
                if self.brick.open_dir(link.parent).is_ok() {
                    self.forget_name(file, link.parent, &link.name)?;
                }
            }
        }
        Ok(noted)
    }

    /// Takes from `file` the note that it has that name, if it has not.
    ///
    /// [`Error::Gone`] (`ESTALE`), [`Error::NotRegular`] (`EINVAL`), [`Error::Damaged`] (`EIO`), or what a system call says.
    pub fn forget_name(&self, file: Gfid, parent: Gfid, name: &[u8]) -> Result<()> {
        let _change = self.change()?;
        let _reserve = self.may_use_reserve();
        let base = self.brick.open_file(file, Access::Read)?;
        let link = Link { parent, name: name.to_vec() };
        match self.brick.dir_of(&link, &base.stat)? {
            Some(_) => Ok(()),
            None => forget(&base.file, &[link]).and_then(|()| self.brick.settle(&base.file)),
        }
    }
}

fn is_tombstone(base: &OpenFile, dir: &OpenDir, link: &Link) -> bool {
    dir.is_snap_dir() && base.gfid.is_tombstone(&link.name)
}

/// All names of a file, as its gfid2path xattrs tell, the smallest first.
pub(crate) fn links(file: &File) -> Result<Vec<Link>> {
    let mut links = Vec::new();
    for key in XattrNames::of(file)?.starting(gfid2path::PREFIX) {
        if let Some(value) = xattrs::get(file, key)? {
            links.push(Link::decode(&value)?);
        }
    }
    links.sort();
    Ok(links)
}

/// Notes on `file` that it has the name `link`, or is about to get it.
pub(crate) fn note(file: &File, link: &Link) -> Result<()> {
    xattrs::set(file, link.key(), &link.encode())?;
    count_parents(file)
}

/// Takes from `file` the notes of names that it does not have any more.
pub(crate) fn forget(file: &File, gone: &[Link]) -> Result<()> {
    for link in gone {
        xattrs::remove(file, link.key())?;
    }
    count_parents(file)
}

/// Sets the [`xattrs::PGFID`] counts to what the gfid2path xattrs say, if the file has any.
fn count_parents(file: &File) -> Result<()> {
    let names = XattrNames::of(file)?;
    let counted: Vec<&str> = names.starting(xattrs::PGFID).collect();
    if counted.is_empty() {
        return Ok(());
    }
    let mut counts = BTreeMap::<String, u32>::new();
    for link in links(file)? {
        *counts.entry(format!("{}{}", xattrs::PGFID, link.parent)).or_default() += 1;
    }
    for (key, count) in &counts {
        xattrs::set(file, key, &count.to_be_bytes())?;
    }
    counted.into_iter().filter(|key| !counts.contains_key(*key)).try_for_each(|key| xattrs::remove(file, key))
}
