//! The command line.

use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use fsnap_check::Flags;
use fsnap_core::SnapName;

use crate::target::Named;

const EXAMPLES: &str = "\
Examples:
  fsnap create /mnt/vm.img --name monday     take a snapshot
  fsnap list /mnt                            what there is in a directory
  qemu-img info /mnt/.fsnap/vm.img@monday    look inside: snapshots are files, read-only
  fsnap restore /mnt/vm.img@monday           make the file what it was
  fsnap delete /mnt/vm.img@monday

A snapshot is given as FILE@NAME, or by its path: DIR/.fsnap/FILE@NAME, and that of a file which was deleted
DIR/.fsnap/FILE@NAME@XXXXXXXX, as `fsnap list DIR` shows it. Before a snapshot the application should fsync, before a
restore it must be stopped.

Exit codes:
  0  done
  1  refused or failed, of several at least one; check: there are problems
  2  wrong arguments
  3  check: could not check

More: `fsnap COMMAND --help`, and docs/command.md.";

/// Writers let go of a file after a second at most (cluster.post-op-delay-secs), if they can.
const PATIENCE: u16 = 10;

const CREATE: &str = "\
Examples:
  fsnap create vm.img                        named by the time, YYYYMMDDTHHMMSSZ (UTC)
  fsnap create a.img b.img --name monday     the same name for both, at nearly the same time
  S=$(fsnap create vm.img)                   prints what was taken, as other commands take it: vm.img@NAME";

const LIST: &str = "\
Examples:
  fsnap list vm.img
  fsnap list -r /mnt/images
  fsnap list --json /mnt | jq -r '.snapshots[] | select(.held) | .snapshot'

STATE: deleted (the file is gone; `restore` brings it back), held (can't be deleted until it is released), unsettled
(the bricks may have different contents until they are healed). Times are UTC. What is not known is a \"-\".";

const RESTORE: &str = "\
Examples:
  fsnap restore vm.img@monday                        asks first
  fsnap restore vm.img@monday --yes                  for scripts
  fsnap restore .fsnap/vm.img@monday@1b4e28ba        brings a deleted file back
  fsnap restore .fsnap/vm.img@monday@1b4e28ba --to new/vm.img

Stop what uses the file first. The file stays the same, with its owner, mode and xattrs; its other snapshots stay. What
it was before is kept as a snapshot before-restore-TIME, unless --no-backup. Bricks that are away are healed when they are
back. A deleted file comes back where it was, or --to another path on the volume: the same file, with all its snapshots.";

const CHECK: &str = "\
The same as fsnap-check, for several bricks one after the other. Root only, on the server that has them.

Exit codes: 0 nothing is wrong, 1 there are problems, 3 a brick could not be checked.";

/// Snapshots of files on GlusterFS mounts.
#[derive(Parser)]
#[command(name = "fsnap", version, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand)]
pub enum Command {
    /// Take a snapshot of each file
    #[command(after_help = CREATE)]
    Create {
        /// The files
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// The snapshots' name: 1 to 64 of A-Z a-z 0-9 . _ + -, the first a letter or digit [default: the time]
        #[arg(long, short, value_parser = name)]
        name: Option<SnapName>,
        /// How long to wait until all writers of a file have stopped, on replicate volumes
        #[arg(long, value_name = "SECONDS", default_value_t = PATIENCE)]
        timeout: u16,
        #[command(flatten)]
        form: ListForm,
    },
    /// List the snapshots of files, or of all files in directories
    #[command(after_help = LIST)]
    List {
        /// Files and directories
        #[arg(default_value = ".", value_name = "FILE|DIR")]
        paths: Vec<PathBuf>,
        /// Directories with all that are below
        #[arg(long, short)]
        recursive: bool,
        #[command(flatten)]
        form: ListForm,
    },
    /// Show one snapshot
    Show {
        #[command(flatten)]
        snapshot: One,
        #[command(flatten)]
        form: Form,
    },
    /// Delete snapshots
    Delete(Many),
    /// Forbid the deletion of snapshots
    Hold(Many),
    /// Allow the deletion of snapshots again
    Release(Many),
    /// Make a file what it was, or bring a deleted one back
    #[command(after_help = RESTORE)]
    Restore {
        #[command(flatten)]
        snapshot: One,
        /// Where a deleted file is to be: a path on the same volume [default: where it was]
        #[arg(long, value_name = "PATH")]
        to: Option<PathBuf>,
        /// Don't ask
        #[arg(long, short)]
        yes: bool,
        /// Don't keep what the file is now
        #[arg(long)]
        no_backup: bool,
    },
    /// Show the volume that a path is on, and fsnap there
    Status {
        /// A path on the mount
        #[arg(default_value = ".")]
        path: PathBuf,
        #[command(flatten)]
        form: Form,
    },
    /// Check, or repair, what is on bricks of this server
    #[command(after_help = CHECK)]
    Check {
        /// The bricks' directories
        #[arg(required = true, value_name = "BRICK")]
        bricks: Vec<PathBuf>,
        #[command(flatten)]
        flags: Flags,
    },
}

impl Command {
    /// How many seconds to wait until all writers of a file have stopped.
    pub fn patience(&self) -> u16 {
        match self {
            Command::Create { timeout, .. } => *timeout,
            _ => PATIENCE,
        }
    }
}

/// How to tell.
#[derive(Args)]
pub struct Form {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// How to tell of several.
#[derive(Args)]
pub struct ListForm {
    #[command(flatten)]
    pub form: Form,
    /// Print what commands take for each snapshot and a NUL behind it, nothing escaped (with --raw they take it from xargs -0)
    #[arg(short = '0', long = "null", conflicts_with = "json")]
    pub null: bool,
}

/// How what is given is spelled.
#[derive(Args)]
pub struct Spelling {
    /// Take it as it is: a backslash is one, and not the beginning of what the command prints for a byte
    #[arg(long)]
    pub raw: bool,
}

/// One snapshot.
#[derive(Args)]
pub struct One {
    /// The snapshot
    #[arg(value_name = "FILE@NAME", value_parser = named())]
    pub named: Named,
    #[command(flatten)]
    pub spelling: Spelling,
}

/// One or more snapshots.
#[derive(Args)]
pub struct Many {
    /// The snapshots
    #[arg(required = true, value_name = "FILE@NAME", value_parser = named())]
    pub named: Vec<Named>,
    #[command(flatten)]
    pub spelling: Spelling,
}

fn named() -> impl TypedValueParser<Value = Named> {
    OsStringValueParser::new().try_map(Named::parse)
}

fn name(text: &str) -> Result<SnapName, fsnap_core::Error> {
    SnapName::parse(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_is_wrong_is_found_before_anything_is_done() {
        for wrong in [
            &["fsnap"][..],
            &["fsnap", "create"],
            &["fsnap", "create", "f", "--name", "a b"],
            &["fsnap", "delete", "f"],
            &["fsnap", "delete", "f@a", "f"],
            &["fsnap", "show", "f@a", "f@b"],
            &["fsnap", "restore", "f@-"],
            &["fsnap", "check"],
            &["fsnap", "list", "-0", "--json"],
        ] {
            assert!(Cli::try_parse_from(wrong).is_err(), "{wrong:?}");
        }
        for right in [
            &["fsnap", "create", "f", "-n", "a"][..],
            &["fsnap", "list"],
            &["fsnap", "list", "-r", "--json", "a", "b"],
            &["fsnap", "list", "-r0", "a"],
            &["fsnap", "delete", "--raw", "f@a", "g@a"],
            &["fsnap", "restore", "-y", "d/f@a@b"],
            &["fsnap", "restore", "d/.fsnap/f@a@0123abcd", "--to", "e/f"],
            &["fsnap", "check", "--repair", "/b1", "/b2"],
            &["fsnap", "check", "--empty-quarantine", "/b1"],
        ] {
            assert!(Cli::try_parse_from(right).is_ok(), "{right:?}");
        }
    }
}
