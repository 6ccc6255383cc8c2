//! A volume, and the command `fsnap` on it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::OnceLock;

use fsnap_testbed::{Scene, VolumeType, checksum, fill, run};
use serde_json::Value;

use super::{MIB, Setup};

/// The program, built as the running test was. The root package can't ask cargo for a program of another.
fn program() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let build = || {
        let exe = std::env::current_exe().expect("the path of the running test");
        let profile = exe.ancestors().nth(2).expect("target/PROFILE/deps/TEST");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(env!("CARGO_MANIFEST_DIR")).args(["build", "--quiet", "--locked"]);
        cargo.args(["--package", "fsnap-cli", "--target-dir"]).arg(profile.parent().expect("target"));
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        run(&mut cargo);
        profile.join("fsnap")
    };
    BUILT.get_or_init(build).clone()
}

/// A volume and the program, where everybody may run it.
pub struct Stage(pub Setup);

/// How it ended, and what it said.
pub struct Said {
    pub code: i32,
    /// What was printed, be it text or not.
    pub bytes: Vec<u8>,
    pub out: String,
    pub err: String,
}

/// Puts the program where everybody in the scene may run it.
pub fn install(scene: &Scene) {
    fs::copy(program(), scene.path("/run/scene/fsnap")).expect("the program");
}

/// `fsnap ARGS` in a directory of the scene.
pub fn fsnap_in<A: AsRef<OsStr>>(
    scene: &Scene,
    uid: u32,
    gid: u32,
    dir: &str,
    args: impl IntoIterator<Item = A>,
) -> Said {
    let mut command = scene.command_as(uid, gid, "env");
    // Others may not write there.
    let log = (uid == 0).then_some("FSNAP_LOG=/var/log/glusterfs/fsnap.log");
    command.arg(format!("--chdir={dir}")).args(log).arg("/run/scene/fsnap").args(args);
    said(command.output().expect("env"))
}

impl Stage {
    pub fn new(setup: Setup) -> Stage {
        install(&setup.scene);
        Stage(setup)
    }

    pub fn file(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.0.mount.path().join(name.as_ref())
    }

    /// `fsnap ARGS` in the root of the mount.
    pub fn fsnap<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Said {
        self.fsnap_as(0, 0, "/run/scene/m", args)
    }

    pub fn fsnap_as<A: AsRef<OsStr>>(
        &self,
        uid: u32,
        gid: u32,
        dir: &str,
        args: impl IntoIterator<Item = A>,
    ) -> Said {
        fsnap_in(&self.0.scene, uid, gid, dir, args)
    }

    /// What it prints if all goes well.
    #[track_caller]
    pub fn ok<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> String {
        let said = self.fsnap(args);
        assert!(said.code == 0 && said.err.is_empty(), "{}: {}{}", said.code, said.out, said.err);
        said.out
    }

    /// `fsnap restore FILE@NAME`, without a question and without a snapshot of what the file is now.
    #[track_caller]
    pub fn restore(&self, file: &str, name: &str) {
        self.ok(["restore", &format!("{file}@{name}"), "--yes", "--no-backup"]);
    }

    /// A file `f` with snapshots `s0` and `s1` of different sizes; the checksums of these. The first byte is the same in both, so
    /// that who reads and writes it changes neither, whenever the content changes under his hands.
    #[track_caller]
    pub fn two_contents(&self) -> [u64; 2] {
        let file = self.file("f");
        [(0, 3 * MIB + 100), (1, MIB)].map(|(n, size)| {
            fill(&file, size, n);
            fs::File::options().write(true).open(&file).expect("f").write_all_at(b"-", 0).expect("write");
            self.ok(["create", "f", "--name", &format!("s{n}")]);
            checksum(&file)
        })
    }

    /// Whichever brick of a disperse volume is away, files have that content. (Bricks of a replicate volume can be compared.)
    #[track_caller]
    pub fn whole_without_any(&self, layout: VolumeType, files: &[(&str, u64)]) {
        if !matches!(layout, VolumeType::Disperse { .. }) {
            return;
        }
        let Setup { volume, mount, .. } = &self.0;
        let all = volume.bricks().len();
        for down in 0..all {
            volume.kill_brick(down);
            mount.wait_connected(all - 1);
            let fresh = volume.mount("/run/scene/fresh");
            for (file, sum) in files {
                assert_eq!(checksum(fresh.path().join(file)), *sum, "{file} without brick {down}");
            }
            drop(fresh);
            volume.restart_brick(down);
            mount.wait_connected(all);
        }
    }

    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        let answer: Value = serde_json::from_str(&self.ok(args)).expect("JSON");
        assert_eq!(answer["version"], 1);
        answer
    }

    /// It is refused, and says something like `part`.
    #[track_caller]
    pub fn refused<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>, part: &str) {
        self.fsnap(args).refused(part);
    }
}

impl Said {
    #[track_caller]
    pub fn refused(&self, part: &str) {
        assert_eq!((self.code, &self.out[..]), (1, ""), "{}", self.err);
        assert!(self.err.starts_with("fsnap: ") && self.err.contains(part), "{}", self.err);
    }
}

fn said(output: Output) -> Said {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    Said { code: output.status.code().expect("an end"), out, err, bytes: output.stdout }
}

/// All `snapshot`s of an answer.
pub fn arguments(answer: &Value) -> Vec<&str> {
    let all = answer["snapshots"].as_array().expect("an array");
    all.iter().map(|entry| entry["snapshot"].as_str().expect("a text")).collect()
}
