//! The rows of the table, each in a file of its own.

mod command;
mod create;
mod first;
mod fops;
mod list;
mod open;
mod rate;
mod restore;
mod rivals;
mod space;
mod through;
mod walk;

use crate::figure::Outcome;

/// How large everything is.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// A tenth of it.
    pub quick: bool,
}

impl Scale {
    /// So many, or a tenth of them.
    pub fn of(self, full: u64) -> u64 {
        if self.quick { (full / 10).max(1) } else { full }
    }

    /// So many rounds, or a tenth of them, but not fewer than three.
    pub fn rounds(self, full: usize) -> usize {
        if self.quick { (full / 10).max(3) } else { full }
    }
}

/// One row of the table.
pub struct Row {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is about.
    pub title: &'static str,
    /// Measures it.
    pub run: fn(Scale, &mut Outcome),
}

/// All rows, in the order of the table.
pub const ROWS: &[Row] = &[
    Row { name: "list", title: "List by getxattr", run: list::run },
    Row { name: "open", title: "Stat and open of a file with snapshots", run: open::run },
    Row { name: "create", title: "Create by setxattr", run: create::run },
    Row { name: "rate", title: "Creates each second", run: rate::run },
    Row { name: "restore", title: "Restore by setxattr", run: restore::run },
    Row { name: "names", title: "Rename, unlink, link and rmdir of ordinary files", run: fops::names },
    Row { name: "fops", title: "Other fops of ordinary files", run: fops::others },
    Row { name: "space", title: "What a snapshot of a small file takes", run: space::run },
    Row { name: "command", title: "The command", run: command::run },
    Row { name: "walk", title: "Walks over many files", run: walk::run },
    Row { name: "rivals", title: "What else people do", run: rivals::run },
    Row { name: "first", title: "Lookups of the first open of a snapshot by name", run: first::run },
    Row { name: "through", title: "Reads and writes of ordinary files", run: through::run },
];
