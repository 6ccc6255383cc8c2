//! The same script on volumes with the same options: without fsnap, with fsnap that nobody uses, and with snapshots of all files.
#![allow(missing_docs)]

pub mod found;
pub mod table;

use std::fmt::Debug;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use fsnap_testbed::{Disk, Errno, Fs, Mount, Scene, Volume, try_wait_until};

use crate::common::{MIB, problems, scene_with_fsnap};
use crate::script::{Script, story, tree};
use table::Known;

/// How long it takes until snapshots have followed a file after that.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(6);
const GFIDS_WITHIN: Duration = Duration::from_secs(10);

/// The brick of each volume is a directory on the same disk.
pub struct Stage {
    _disk: Disk,
    pub scene: Scene,
}

impl Stage {
    pub fn new() -> Stage {
        let scene = scene_with_fsnap();
        scene.start_glusterd();
        Stage { _disk: scene.disk(Fs::Xfs, 8192 * MIB, "/run/scene/b1"), scene }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    Without,
    Unused,
    Snapshots,
}

/// Options that are set together, and what else is known of them.
#[derive(Clone, Debug)]
pub struct Setting {
    pub options: Vec<(String, String)>,
    pub known: Known,
}

impl Setting {
    pub fn name(&self) -> String {
        let words = self.options.iter().map(|(option, value)| format!("{option}={value}"));
        let commands = self.known.commands.iter().map(|command| (*command).to_owned());
        let all: Vec<String> = words.chain(commands).collect();
        let name = if all.is_empty() { "no option".to_owned() } else { all.join(" ") };
        if self.known.purge { format!("{name} (purge)") } else { name }
    }
}

/// What became of the script.
struct Outcome {
    answers: Vec<String>,
    /// As a mount shows it that was made afterwards.
    mount: Vec<String>,
    brick: Vec<String>,
    /// What the snapshots were answered before the setting took effect, and with it.
    taken: [Vec<(String, Result<(), Errno>)>; 2],
    problems: Vec<String>,
}

/// One volume under a setting.
struct Run<'a> {
    setting: &'a Setting,
    variant: Variant,
    volume: Volume,
    at: String,
}

impl Run<'_> {
    fn new<'a>(scene: &Scene, setting: &'a Setting, variant: Variant) -> Run<'a> {
        static VOLUMES: AtomicU32 = AtomicU32::new(0);
        let name = format!("v{}", VOLUMES.fetch_add(1, Ordering::Relaxed));
        let mut builder = scene.volume(&name).brick(format!("/run/scene/b1/{name}"));
        if variant != Variant::Without {
            builder = builder.with_fsnap();
            if setting.known.purge {
                builder = builder.option("user.xlator.fsnap.on-unlink", "purge");
            }
        }
        if !setting.known.late {
            builder = setting
                .options
                .iter()
                .fold(builder, |builder, (option, value)| builder.option(option, value));
        }
        Run { setting, variant, volume: builder.start(), at: format!("/run/scene/m-{name}") }
    }

    fn mount(&self) -> Mount {
        self.volume.mount_with(&self.at, &["--attribute-timeout=0", "--acl"])
    }

    fn script(&self, mount: &Mount) -> Script {
        Script::new(&mount.path(), self.variant == Variant::Snapshots)
    }

    /// The commands are for a volume that runs.
    fn command(&self) {
        for command in self.setting.known.commands {
            let (verb, rest) = command.split_once(' ').expect("two words");
            let words = ["volume", verb, self.volume.name()].into_iter().chain(rest.split(' '));
            self.volume.gluster(words).unwrap_or_else(|error| panic!("{error}"));
        }
    }

    /// The options take effect, if they have not yet, for all that comes.
    fn set_late(&self) {
        if self.setting.known.late {
            self.volume.stop();
            for (option, value) in &self.setting.options {
                self.volume.set(option, value);
            }
            self.volume.start();
        }
        self.command();
    }

    fn play(&self) -> Outcome {
        let mount = self.mount();
        let mut before = self.script(&mount);
        story::begin(&mut before);
        let mut answers = std::mem::take(&mut before.answers);
        let taken = std::mem::take(&mut before.taken);
        drop((before, mount));
        self.set_late();

        let mount = self.mount();
        let mut script = self.script(&mount);
        story::go_on(&mut script);
        answers.append(&mut script.answers);
        let taken = [taken, std::mem::take(&mut script.taken)];
        drop((script, mount));

        let mount = self.mount();
        let seen = seen(&mount.path());
        drop(mount);
        // What went to a directory that the bin had just made follows when that has a gfid: it may have got that now.
        if self.setting.options.iter().any(|(option, _)| option.starts_with("features.trash")) {
            thread::sleep(FOLLOWED_WITHIN);
        }
        let brick = tree::of_brick(&self.volume.brick_path(0));
        let problems = match self.variant {
            Variant::Without => Vec::new(),
            _ => problems(&self.volume, 0).into_iter().map(|problem| format!("{problem:?}")).collect(),
        };
        Outcome { answers, mount: seen, brick, taken, problems }
    }

    /// glusterd takes a second to stop a volume, and then one after the other: so they stay with the scene.
    fn end(self) {
        self.volume.kill_brick(0);
        std::fs::remove_dir_all(self.volume.brick_path(0)).expect("the brick's directory");
    }
}

/// What is not as it is without fsnap, one line each.
pub fn differences(stage: &Stage, setting: &Setting) -> Vec<String> {
    let all = [Variant::Without, Variant::Unused, Variant::Snapshots];
    let play = |variant: Variant| {
        let run = Run::new(&stage.scene, setting, variant);
        let outcome = run.play();
        run.end();
        outcome
    };
    // Each in a thread of its own, at once: much of it is waiting.
    let [without, unused, snapshots] = thread::scope(|scope| {
        all.map(|variant| scope.spawn(move || play(variant))).map(|thread| thread.join().expect("the script"))
    });
    let mut lines = compare(&setting.known, &without, &unused, "unused");
    lines.extend(compare(&setting.known, &without, &snapshots, "with snapshots"));
    lines.extend(not_expected(
        &snapshots.taken[0],
        if setting.known.late { Ok(()) } else { setting.known.snapshots },
    ));
    lines.extend(not_expected(&snapshots.taken[1], setting.known.snapshots));
    lines
}

/// What a mount shows when everything has a gfid: features/trash makes directories without, and storage/posix gives them one when
/// they are looked up a second later or more.
fn seen(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let _ = try_wait_until("nothing listed is missing", GFIDS_WITHIN, || {
        lines = tree::of_mount(root);
        !lines.iter().any(|line| line.ends_with("No such file or directory (os error 2)"))
    });
    lines
}

fn not_expected(taken: &[(String, Result<(), Errno>)], expected: Result<(), Errno>) -> Vec<String> {
    let wrong = taken.iter().filter(|(_, answer)| *answer != expected);
    wrong.map(|(file, answer)| format!("a snapshot of {file}: {answer:?}, not {expected:?}")).collect()
}

fn compare(known: &Known, without: &Outcome, with: &Outcome, variant: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let is_compared =
        |answer: &str| !(known.io_fails && (answer.contains(": read ") || answer.contains(": EINVAL")));
    for (one, other) in without.answers.iter().zip(&with.answers) {
        if one != other && is_compared(one) && is_compared(other) {
            lines.push(format!("answers: without fsnap {one:?}, {variant} {other:?}"));
        }
    }
    let compared = |tree: &[String]| -> Vec<String> {
        let lines = tree.iter().map(|line| if known.io_fails { without_content(line) } else { line.clone() });
        lines.collect()
    };
    for (what, one, other) in [("mount", &without.mount, &with.mount), ("brick", &without.brick, &with.brick)]
    {
        let (one, other) = (compared(one), compared(other));
        lines.extend(only_in(&one, &other).map(|line| format!("{what}: only without fsnap: {line}")));
        lines.extend(only_in(&other, &one).map(|line| format!("{what}: only {variant}: {line}")));
    }
    lines.extend(with.problems.iter().map(|problem| format!("{variant}, the checker: {problem}")));
    lines
}

fn without_content(line: &str) -> String {
    match (line.split_once('['), line.split_once(']')) {
        (Some((before, _)), Some((_, behind))) => format!("{before}{behind}"),
        _ => line.to_owned(),
    }
}

/// The lines of one sorted list that the other has not, or not as often.
fn only_in<'a>(one: &'a [String], other: &'a [String]) -> impl Iterator<Item = &'a String> {
    let count = |list: &[String], line: &String| list.iter().filter(|other| *other == line).count();
    one.iter()
        .enumerate()
        .filter(move |(n, line)| one[..=*n].iter().filter(|l| l == line).count() > count(other, line))
        .map(|(_, line)| line)
}
