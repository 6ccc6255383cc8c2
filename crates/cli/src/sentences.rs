//! What an errno means, in a sentence, by what was tried. docs/command.md has this table too.

use nix::errno::Errno;

/// What was tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deed {
    /// To write out what this client has.
    Drain,
    /// To take a snapshot.
    Create,
    /// To delete one.
    Delete,
    /// To forbid its deletion.
    Hold,
    /// To allow it.
    Release,
    /// To restore one.
    Restore,
    /// To bring a deleted file back.
    Revive,
    /// To ask for one or all, or to look into a directory.
    Look,
    /// To ask for fsnap itself.
    Status,
}

use Deed::{Create, Delete, Drain, Hold, Look, Release, Restore, Revive, Status};

/// Whatever was tried.
const ANY: &[Deed] = &[];

/// `EOPNOTSUPP`, where the reason can be seen.
pub const DISABLED: &str =
    "fsnap is switched off on this volume; `gluster volume set VOLUME user.xlator.fsnap.enabled on`";
pub const NO_REFLINK: &str =
    "the brick's file system can't share blocks: it must be XFS with reflink, or btrfs";

/// Errno, deeds, sentence. Of several rows that fit the first one counts.
const SENTENCES: &[(Errno, &[Deed], &str)] = &[
    (Errno::ENOENT, ANY, "there is no such file; the snapshots of deleted files are in `fsnap list DIR`"),
    (Errno::EACCES, &[Drain, Look], "you have no read permission for it"),
    (Errno::EACCES, &[Status], "you have no permission to look there"),
    (
        Errno::EACCES,
        &[Revive],
        "a deleted file is brought back by its owner, or root, who may write to it and make files in the directory that it comes to",
    ),
    (
        Errno::EACCES,
        &[Delete, Hold, Release],
        "you have no write permission for the file; if it was deleted, you are neither its owner nor root",
    ),
    (Errno::EACCES, ANY, "you have no write permission for the file"),
    (Errno::EINVAL, ANY, "the client has lost track of the file: look at it again (stat), then try again"),
    (Errno::EEXIST, &[Create], "there is a snapshot of that name: choose another, or delete that one first"),
    (
        Errno::EEXIST,
        &[Revive],
        "the deleted file can't come back, its name is another file's: rename that one first, or give --to PATH",
    ),
    (Errno::ENODATA, ANY, "there is no such snapshot: `fsnap list FILE` shows what there is"),
    (
        Errno::EBUSY,
        &[Delete],
        "it is held (`fsnap release` allows its deletion), or a restore, other commands or rebalance are at work on the file: try \
         again then",
    ),
    (
        Errno::EBUSY,
        &[Create],
        "its writers have not stopped in time (--timeout), or rebalance or other commands are at work on the file: try again",
    ),
    (
        Errno::EBUSY,
        &[Restore],
        "another restore of the file, other commands or rebalance are at work on it, or self-heal is not done with the snapshot: try \
         again later",
    ),
    (
        Errno::EBUSY,
        &[Revive],
        "somebody else is about to bring the file back, or other commands are at work on it: try again later",
    ),
    (Errno::EBUSY, ANY, "rebalance or other commands are at work on the file: try again later"),
    (
        Errno::E2BIG,
        &[Create],
        "its user.* xattrs, which each snapshot has a copy of, take more than 256 KiB: remove some (`setfattr -x`)",
    ),
    (
        Errno::EDQUOT,
        ANY,
        "the file has as many snapshots as it may (option max-snapshots): delete some first",
    ),
    (
        Errno::ENOSPC,
        &[Create],
        "its brick has too little free space (option min-free, `fsnap status`): make room, or delete snapshots",
    ),
    (Errno::ENOSPC, ANY, "its brick, or a brick of the set, is full: make room, or delete snapshots"),
    (
        Errno::ENAMETOOLONG,
        ANY,
        "file name and snapshot name together exceed 255 bytes: choose a shorter name for the snapshot",
    ),
    (
        Errno::EROFS,
        &[Create],
        "it is a snapshot, and they have none; or the mount is read-only, or too few bricks are up to write (`gluster volume status`)",
    ),
    (
        Errno::EROFS,
        &[Restore],
        "the volume or the file is write-once (features.worm, features.worm-file-level), or the mount is read-only, or too few bricks \
         are up to write, or a snapshot was given whose file is not beside it: give FILE@NAME",
    ),
    (
        Errno::EROFS,
        ANY,
        "the mount is read-only, or too few bricks are up to write (`gluster volume status`)",
    ),
    (
        Errno::EAGAIN,
        &[Restore],
        "somebody has a mandatory lock on the file (locks.mandatory-locking): restore it when that is released",
    ),
    (
        Errno::EOPNOTSUPP,
        &[Restore],
        "not possible here: features.trash is on, bitrot has signed the file, or it is under quota on a disperse volume, where it \
         must not be longer than the snapshot (`truncate` it first); the log of its brick says which",
    ),
    (
        Errno::EOPNOTSUPP,
        &[Revive],
        "not possible here: features.trash or quota is on, or bitrot has signed the file; the log of its brick says which",
    ),
    (
        Errno::EOPNOTSUPP,
        ANY,
        "not possible for this file: it is sharded, under quota, or something else named .fsnap is in its directory; the log of its \
         brick says which",
    ),
    (Errno::EPERM, ANY, "it is not permitted to you"),
    (Errno::ESTALE, ANY, "the file was deleted or replaced meanwhile: look again, then try again"),
    (
        Errno::EIO,
        ANY,
        "what is on the disk is damaged or not healed yet; the log of its brick says what. Look with `fsnap-check BRICK` on the servers \
         and `gluster volume heal VOLUME info`",
    ),
    (Errno::ENOTCONN, ANY, UNREACHED),
    (Errno::ETIMEDOUT, ANY, UNREACHED),
    (Errno::EPROTO, ANY, "the volume's answer can't be understood: is this fsnap too old for it?"),
];

const UNREACHED: &str = "too few of its bricks can be reached (`gluster volume status`). What was asked may be done when they are back: \
                         look with `fsnap list`";

/// What `errno` means when `deed` was tried, as far as that alone tells.
pub fn sentence(deed: Deed, errno: Errno) -> String {
    let fits = |(code, deeds, _): &&(Errno, &[Deed], &str)| {
        *code == errno && (deeds.is_empty() || deeds.contains(&deed))
    };
    let known = SENTENCES.iter().find(fits).filter(|(code, deeds, _)| {
        // Writing out fails for reasons of its own.
        deed != Drain || deeds.contains(&Drain) || *code == Errno::ENOENT
    });
    match known {
        Some((_, _, text)) => (*text).to_owned(),
        None if deed == Drain => {
            format!("its data can't be written out ({}): nothing was done", errno.desc())
        }
        None => format!("{} ({errno:?}); the log of its brick may say more", errno.desc()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEEDS: [Deed; 9] = [Drain, Create, Delete, Hold, Release, Restore, Revive, Look, Status];

    /// What the docs call it.
    fn shown(deed: Deed) -> &'static str {
        match deed {
            Drain => "writing out",
            Create => "create",
            Delete => "delete",
            Hold => "hold",
            Release => "release",
            Restore => "restore",
            Revive => "restore of a deleted file",
            Look => "list, show, finding the file",
            Status => "status",
        }
    }

    /// `FSNAP_PRINT=1` prints what is to be there.
    #[test]
    fn the_docs_have_the_table() {
        let rows: Vec<String> = SENTENCES
            .iter()
            .map(|(errno, deeds, text)| {
                let deeds: Vec<_> = deeds.iter().map(|deed| shown(*deed)).collect();
                format!("| `{errno:?}` | {} | {text} |", deeds.join("; "))
            })
            .collect();
        if std::env::var_os("FSNAP_PRINT").is_some() {
            println!("{}", rows.join("\n"));
        }
        let docs = include_str!("../../../docs/command.md");
        assert!(
            docs.contains(&rows.join("\n")),
            "docs/command.md, \"What an errno means\", is not the table"
        );
    }

    #[test]
    fn every_errno_has_a_sentence() {
        for deed in DEEDS {
            for code in 1..134 {
                let text = sentence(deed, Errno::from_raw(code));
                assert!(
                    text.len() > 10 && !text.ends_with('.') && !text.contains("  "),
                    "{deed:?} {code}: {text}"
                );
            }
        }
    }

    #[test]
    fn sentences_fit_the_deed() {
        for (deed, errno, part) in [
            (Create, Errno::EEXIST, "choose another"),
            (Revive, Errno::EEXIST, "rename that one"),
            (Delete, Errno::EBUSY, "fsnap release"),
            (Hold, Errno::EBUSY, "try again later"),
            (Drain, Errno::ENOSPC, "can't be written out"),
            (Drain, Errno::EACCES, "read permission"),
            (Create, Errno::ENOSPC, "min-free"),
            (Create, Errno::E2BIG, "256 KiB"),
            (Look, Errno::EACCES, "read permission"),
            (Delete, Errno::EACCES, "write permission"),
            (Revive, Errno::EACCES, "owner"),
            (Hold, Errno::EMFILE, "EMFILE"),
            (Restore, Errno::EROFS, "write-once"),
            (Restore, Errno::EAGAIN, "mandatory lock"),
            (Revive, Errno::EOPNOTSUPP, "quota"),
        ] {
            assert!(sentence(deed, errno).contains(part), "{deed:?} {errno}");
        }
    }

    /// Of two rows for an errno the one for less comes first, or the other would hide it.
    #[test]
    fn no_row_is_hidden() {
        for (n, (errno, deeds, text)) in SENTENCES.iter().enumerate() {
            let deed = deeds.first().copied().unwrap_or(Status);
            let hidden = SENTENCES[..n]
                .iter()
                .any(|(other, before, _)| other == errno && (before.is_empty() || before.contains(&deed)));
            assert!(!hidden || deeds.is_empty(), "{errno:?}: {text}");
        }
    }
}
