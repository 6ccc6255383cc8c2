//! `fsnap`: snapshots of files on GlusterFS mounts. See docs/command.md.

mod args;
mod cluster;
mod create;
mod entry;
mod failure;
mod found;
mod list;
mod mount;
mod place;
mod restore;
mod sentences;
mod several;
mod status;
mod target;
mod text;
mod volume;

use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use fsnap_check::{Flags, NOT_CHECKED, escaped};
use jiff::Timestamp as Moment;

use args::{Cli, Command, ListForm, Many};
use cluster::Graphs;
use create::Wish;
use entry::Entry;
use failure::{Deed, Failure};
use found::Found;
use list::{Listed, Lister};
use target::Target;

/// The exit code if something was refused or has failed.
const FAILED: u8 = 1;

fn main() -> ExitCode {
    let command = Cli::parse().command;
    let graphs = Graphs::new(command.patience());
    let code = match command {
        Command::Create { files, name, timeout: _, form } => {
            let wish = name.map_or_else(|| Wish::Free(text::name_of(Moment::now())), Wish::Name);
            create_all(&graphs, &files, &wish, &form)
        }
        Command::List { paths, recursive, form } => list_all(&paths, recursive, &form),
        Command::Show { snapshot, form } => told(
            Target::resolve(snapshot.named, snapshot.spelling.raw)
                .and_then(|target| list::show(&target))
                .map(|entry| match form.json {
                    true => entry::show_json(&entry),
                    false => entry.properties(),
                }),
        ),
        Command::Delete(many) => change_all(many, Deed::Delete, "delete", "deleted"),
        Command::Hold(many) => change_all(many, Deed::Hold, "hold", "held"),
        Command::Release(many) => change_all(many, Deed::Release, "release", "released"),
        Command::Restore { snapshot, to, yes, no_backup } => {
            let wishes = restore::Wishes { to, yes, backup: !no_backup };
            told(
                Target::resolve(snapshot.named, snapshot.spelling.raw)
                    .and_then(|target| restore::restore(&graphs, target, &wishes)),
            )
        }
        Command::Status { path, form } => told(status::about(&path).map(|about| match form.json {
            true => about.json(),
            false => about.text(),
        })),
        Command::Check { bricks, flags } => check_all(&bricks, &flags),
    };
    match graphs.is_empty() {
        true => ExitCode::from(code),
        false => fsnap_graph::end(code),
    }
}

fn create_all(graphs: &Graphs, files: &[PathBuf], wish: &Wish, form: &ListForm) -> u8 {
    let mut found = Listed::default();
    let json = form.form.json;
    let take = |file: &Found| create::create(graphs, file, wish, json);
    let line = |entry: &Entry| match (form.null, json) {
        (true, _) => with_nul(&entry.argument()),
        (_, true) => Vec::new(),
        _ => format!("{}\n", escaped(&entry.argument())).into_bytes(),
    };
    several::each(files, take, line, |taken| match taken {
        Ok(entry) => found.entries.push(entry),
        Err(failure) => found.failures.push(complain(failure)),
    });
    if json {
        print(&entry::list_json(&found.entries, &found.failures));
    }
    code(found.failures.is_empty())
}

fn list_all(paths: &[PathBuf], deep: bool, form: &ListForm) -> u8 {
    let mut lister = Lister::new();
    for path in paths {
        lister.add(path, deep);
    }
    let Listed { entries, failures } = lister.listed();
    match (form.null, form.form.json) {
        (true, _) => entries.iter().for_each(|entry| print_raw(&entry.argument())),
        (_, true) => print(&entry::list_json(&entries, &failures)),
        _ => print(&entry::table(&entries)),
    }
    let ok = failures.is_empty();
    for failure in failures {
        complain(failure);
    }
    code(ok)
}

fn change_all(all: Many, deed: Deed, verb: &str, done: &str) -> u8 {
    let mut ok = true;
    for named in all.named {
        match Target::resolve(named, all.spelling.raw).and_then(|target| change(&target, deed, verb)) {
            Ok(target) => print(&format!("{done} {}\n", escaped(&target))),
            Err(failure) => {
                complain(failure);
                ok = false;
            }
        }
    }
    code(ok)
}

fn change(target: &Target, deed: Deed, verb: &str) -> Result<PathBuf, Failure> {
    volume::command(&target.file.place, verb, target.name.as_str())
        .map(|()| target.typed.clone())
        .map_err(|errno| Failure::of(deed, &target.typed, &target.file.place, errno))
}

/// The worst of what was found: what could not be checked before what is wrong.
fn check_all(bricks: &[PathBuf], flags: &Flags) -> u8 {
    let check = |brick: &PathBuf| match fsnap_check::check(brick, flags) {
        Ok(clean) => code(clean),
        Err(why) => {
            eprintln!("fsnap: {why}");
            NOT_CHECKED
        }
    };
    bricks.iter().map(check).max().unwrap_or(0)
}

fn told(result: Result<String, Failure>) -> u8 {
    match result {
        Ok(text) => {
            print(&text);
            0
        }
        Err(failure) => {
            complain(failure);
            FAILED
        }
    }
}

fn code(ok: bool) -> u8 {
    if ok { 0 } else { FAILED }
}

fn complain(failure: Failure) -> Failure {
    eprintln!("fsnap: {failure}");
    failure
}

/// Whoever reads it may have read enough: what was done is done.
fn print(text: &str) {
    print_bytes(text.as_bytes());
}

/// With a NUL behind it, which no path has.
fn print_raw(path: &Path) {
    print_bytes(&with_nul(path));
}

fn with_nul(path: &Path) -> Vec<u8> {
    [path.as_os_str().as_bytes(), &[0]].concat()
}

fn print_bytes(text: &[u8]) {
    let mut out = io::stdout().lock();
    if let Err(e) = out.write_all(text).and_then(|()| out.flush())
        && e.kind() != io::ErrorKind::BrokenPipe
    {
        eprintln!("fsnap: cannot write to the output: {e}");
        std::process::exit(FAILED.into());
    }
}
