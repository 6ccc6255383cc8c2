//! GlusterFS's own tests end with fsnap in the bricks as they do without.
#![allow(missing_docs)]

mod common;

use std::env;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Instant;

use common::{MIB, scene_with_fsnap};
use fsnap_testbed::{Fs, Scene, run};

/// What is run if nothing is said: a minute.
const SOME: &[&str] = &["features/trash.t"];
/// What is run with `FSNAP_ALL=1`: names, what else lies in the brick's graph, and what storage/posix does. None that needs NFS
/// or makes no volume.
const MORE: &[&str] = &[
    "basic/fops-sanity.t",
    "basic/hardlink-limit.t",
    "basic/pgfid-feat.t",
    "basic/quota-rename.t",
    "basic/sdfs-sanity.t",
    "bugs/posix/bug-1360679.t",
    "bugs/posix/bug-1619720.t",
    "bugs/posix/bug-gfid-path.t",
    "bugs/posix/disallow-gfid-volumeid-removexattr.t",
    "features/worm.t",
    "features/worm_sh.t",
];
/// They wait for fixed times: a difference has to be there so often.
const TRIES: usize = 3;

/// Where the tests make what they make, and remove it: the scene's own places.
const PLACES: &[(&str, &str)] = &[
    ("B0", "/run/scene/b1/backends"),
    ("M0", "/run/scene/m0"),
    ("M1", "/run/scene/m1"),
    ("M2", "/run/scene/m2"),
    ("M3", "/run/scene/m3"),
    ("N0", "/run/scene/n0"),
    ("N1", "/run/scene/n1"),
];

/// A test that waits in vain, for ten minutes each time, is cut off, in seconds.
const ENOUGH: &str = "300";

/// What the tests are told of the machine.
const ENVIRONMENT: &str = r#"
export PATH=/run/scene/bin:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin
export GLUSTERD_PIDFILEDIR=/run/gluster GLUSTERD_WORKDIR=/var/lib/glusterd GLUSTER_CMD_DIR=/usr/sbin
export GLUSTER_XLATOR_DIR=$(glusterfs --print-xlatordir) GLUSTER_LIBEXECDIR=$(glusterfs --print-libexecdir)
export PYTHON=python3 RUN_NFS_TESTS=0 SSL_CERT_PATH=/run/scene/ssl
"#;

/// `gluster` for the tests: each volume that is made gets fsnap, and is noted.
const WRAPPER: &str = r#"#!/bin/bash
/usr/sbin/gluster "$@"
status=$?
words=()
for word; do [[ $word = --* ]] || words+=("$word"); done
if [ $status = 0 ] && [ "${words[*]:0:2}" = "volume create" ]; then
    /usr/sbin/gluster --mode=script volume set "${words[2]}" user.xlator.fsnap posix >/dev/null || exit
    echo "${words[2]}" >>/run/scene/volumes
fi
exit $status
"#;

/// The host has an address that is not that of the loopback device, as the tests demand.
const HOST: &str = r#"
ip addr add 192.0.2.1/32 dev lo
hostname upstream
printf "127.0.0.1 localhost\n192.0.2.1 upstream\n" >/run/private/hosts
mount --bind /run/private/hosts /etc/hosts
"#;

fn source() -> PathBuf {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
    let said = run(&mut Command::new(scripts.join("upstream"))).stdout;
    String::from_utf8(said).unwrap().trim().into()
}

fn stage(source: &Path, with_fsnap: bool) -> Scene {
    let scene = scene_with_fsnap();
    let disk = scene.disk(Fs::Xfs, 4096 * MIB, "/run/scene/b1");
    // It stays mounted as long as the scene is there.
    drop(disk);
    run(scene.command("sh").args(["-ec", HOST]));
    run(scene.command("cp").arg("-r").arg(source.join("tests")).arg("/run/scene/"));
    fs::write(scene.path("/run/scene/tests/env.rc"), ENVIRONMENT).unwrap();
    if with_fsnap {
        fs::create_dir(scene.path("/run/scene/bin")).unwrap();
        let wrapper = scene.path("/run/scene/bin/gluster");
        fs::write(&wrapper, WRAPPER).unwrap();
        fs::set_permissions(wrapper, Permissions::from_mode(0o755)).unwrap();
    }
    scene
}

/// Each check of a test: whether it holds and which line it is, and what it says, in which there may be times.
fn verdicts(source: &Path, test: &str, with_fsnap: bool) -> Vec<(String, String)> {
    let begin = Instant::now();
    let scene = stage(source, with_fsnap);
    let script = format!("cd /run/scene && exec timeout --kill-after=5 {ENOUGH} bash tests/{test} 2>&1");
    let mut command = scene.command("bash");
    let output = command.args(["-c", &script]).envs(PLACES.iter().copied()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    // `ok  12 [   15/  1023] <  104> 'command'`, with times in the brackets.
    let verdict = |line: &str| {
        let holds = if line.starts_with("ok ") { "ok" } else { "not ok" };
        let (which, what) = line.strip_prefix(holds)?.split_once(']')?.1.split_once('>')?;
        Some((format!("{holds}{which}>"), what.to_owned()))
    };
    let verdicts: Vec<_> = text.lines().filter_map(verdict).collect();
    let good = verdicts.iter().filter(|(verdict, _)| verdict.starts_with("ok")).count();
    let variant = if with_fsnap { "with fsnap" } else { "without fsnap" };
    let seconds = begin.elapsed().as_secs();
    println!("{test} {variant}: {good} of {} checks hold ({seconds} s)", verdicts.len());
    assert!(good * 2 > verdicts.len(), "{test} can't be run here: {text}");
    assert_eq!(with_fsnap, scene.path("/run/scene/volumes").exists(), "no volume got fsnap: {text}");
    verdicts
}

/// The checks on which both differ.
fn differences(source: &Path, test: &str) -> Vec<String> {
    let [without, with] = thread::scope(|scope| {
        [false, true]
            .map(|with_fsnap| scope.spawn(move || verdicts(source, test, with_fsnap)))
            .map(|thread| thread.join().expect("verdicts"))
    });
    let mut lines: Vec<String> = without
        .iter()
        .zip(&with)
        .filter(|(one, other)| one.0 != other.0)
        .map(|(one, other)| format!("{test}: without fsnap {}, with it {}{}", one.0, other.0, other.1))
        .collect();
    if without.len() != with.len() {
        lines.push(format!("{test}: without fsnap {} checks, with it {}", without.len(), with.len()));
    }
    lines
}

/// `FSNAP_UPSTREAM` says which tests, by their paths below GlusterFS's `tests`.
#[test]
fn same_verdicts() {
    let wanted = env::var("FSNAP_UPSTREAM").unwrap_or_default();
    let mut tests: Vec<&str> = wanted.split_whitespace().collect();
    if tests.is_empty() {
        tests = if env::var_os("FSNAP_ALL").is_some() { [SOME, MORE].concat() } else { SOME.to_vec() };
    }
    let source = source();
    let mut failed = Vec::new();
    for test in tests {
        let text =
            fs::read_to_string(source.join("tests").join(test)).unwrap_or_else(|e| panic!("{test}: {e}"));
        assert!(!text.contains("snapshot.rc"), "{test} would make things outside of the scene");
        let mut lines = differences(&source, test);
        for _ in 1..TRIES {
            if !lines.is_empty() {
                println!("{}\nagain:", lines.join("\n"));
                lines = differences(&source, test);
            }
        }
        failed.append(&mut lines);
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
