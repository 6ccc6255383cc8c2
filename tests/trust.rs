//! What somebody else may put in the way of a command that root runs: mounts, servers, files.
#![allow(missing_docs)]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::distribute;
use common::stage::{Said, Stage, fsnap_in, install};
use fsnap_testbed::{Scene, VolumeType, fill, run, wait_until};

/// `nobody`: fusermount wants one that has a name.
const USER: u32 = 65534;
/// Where a server listens that is no glusterd; a mount says that it is from there.
const ELSEWHERE: &str = "127.0.0.9";
/// What is there when something was loaded or run that should not have been.
const MARK: &str = "/run/scene/mark";
/// What the server is to answer, and what it has been asked.
const VOLFILE: &str = "/run/scene/volfile";
const ASKED: &str = "/run/scene/asked";

/// A scene with the program, without a volume, and a server that gives volfiles.
struct Place {
    scene: Scene,
    children: Vec<Child>,
}

impl Drop for Place {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Place {
    fn new() -> Place {
        let scene = Scene::new();
        install(&scene);
        compile(&scene, "impostor", &["tests/impostor.c"], &pkg_config("fuse3"));
        // Everybody may mount, as with Debian's udev, and let others look.
        run(scene.command("mknod").args(["--mode=666", "/run/scene/fuse", "c", "10", "229"]));
        fs::write(scene.path("/run/scene/fuse.conf"), "user_allow_other\n").unwrap();
        for (from, to) in [("fuse", "/dev/fuse"), ("fuse.conf", "/etc/fuse.conf")] {
            run(scene.command("mount").arg("--bind").arg(format!("/run/scene/{from}")).arg(to));
        }
        fs::copy(std::env::current_exe().unwrap(), scene.path("/run/scene/server")).unwrap();
        let mut server = scene.command("/run/scene/server");
        server.args(["--ignored", "--exact", "the_server"]);
        let mut place = Place { scene, children: vec![server.spawn().unwrap()] };
        place.answers("");
        let asked = place.scene.path(ASKED);
        wait_until("the server is there", Duration::from_secs(20), || asked.exists());
        place.mount(0, "root");
        place
    }

    /// A mount that says it is of GlusterFS, made by a user; its file.
    fn mount(&mut self, uid: u32, name: &str) -> PathBuf {
        let at = Path::new("/run/scene").join(name);
        let point = self.scene.path(&at);
        fs::create_dir(&point).unwrap();
        chown(&point, Some(uid), Some(uid)).unwrap();
        let mut command = self.scene.command_as(uid, uid, "/run/scene/impostor");
        command.arg(&at).args(["-f", "-o"]);
        command.arg(format!("subtype=glusterfs,fsname={ELSEWHERE}:v,allow_other"));
        self.children.push(command.spawn().unwrap());
        wait_until("the mount is there", Duration::from_secs(20), || point.join("f").exists());
        let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", self.scene.pid())).unwrap();
        let line = mounts.lines().find(|line| line.contains(at.to_str().unwrap())).unwrap();
        assert!(line.contains(&format!(" - fuse.glusterfs {ELSEWHERE}:v ")), "{line}");
        assert!(line.contains(&format!("user_id={uid},")), "{line}");
        at.join("f")
    }

    fn answers(&self, volfile: &str) {
        fs::write(self.scene.path(VOLFILE), volfile).unwrap();
    }

    fn fsnap(&self, uid: u32, args: &[&str]) -> Said {
        fsnap_in(&self.scene, uid, uid, "/", args)
    }

    fn asked(&self) -> usize {
        fs::read(self.scene.path(ASKED)).unwrap().len()
    }

    #[track_caller]
    fn unmarked(&self) {
        assert!(!self.scene.path(MARK).exists(), "what a server or user names was loaded or run");
    }
}

fn pkg_config(library: &str) -> Vec<String> {
    let flags = run(Command::new("pkg-config").args(["--cflags", "--libs", library]));
    String::from_utf8(flags.stdout).unwrap().split_whitespace().map(str::to_owned).collect()
}

fn compile(scene: &Scene, to: &str, from: &[&str], flags: &[String]) {
    let mut cc = Command::new("cc");
    cc.args(from).arg("-o").arg(scene.path(Path::new("/run/scene").join(to))).args(flags);
    run(cc.current_dir(env!("CARGO_MANIFEST_DIR")));
}

/// A shared object that leaves the mark where it is loaded.
fn make_evil(scene: &Scene) {
    let source = scene.path("/run/scene/evil.c");
    let text = format!(
        "#include <fcntl.h>\n__attribute__((constructor)) static void f(void) {{ creat(\"{MARK}\", 0600); }}\n"
    );
    fs::write(&source, text).unwrap();
    compile(scene, "evil.so", &[source.to_str().unwrap()], &["-shared".into(), "-fPIC".into()]);
}

/// A volfile as glusterd gives them, but for the type of what is on top, and an option of the client.
fn volfile(kind: &str, option: &str) -> String {
    format!(
        "volume v-client-0\n    type protocol/client\n    option {option}\n    option remote-subvolume /b\n    \
         option remote-host {ELSEWHERE}\nend-volume\n\nvolume v\n    type {kind}\n    subvolumes v-client-0\nend-volume\n"
    )
}

/// It is gone up from the directory of GlusterFS's own shared objects.
const UP: &str = "../../../../../../../../run/scene/evil";

#[test]
fn what_a_user_has_mounted_is_not_used_by_root() {
    let mut place = Place::new();
    make_evil(&place.scene);
    place.answers(&volfile(UP, "ping-timeout 42"));
    let file = place.mount(USER, "users");
    let file = file.to_str().unwrap();
    let snapshot = format!("{file}@a");
    for args in [
        &["create", file][..],
        &["list", file],
        &["list", "-r", "/run/scene/users"],
        &["show", &snapshot],
        &["delete", &snapshot],
        &["restore", "-y", &snapshot],
        &["restore", "-y", "--no-backup", &snapshot],
        &["status", "/run/scene/users"],
    ] {
        place.fsnap(0, args).refused("was made by user 65534");
    }
    // Also by another way: a link, a bind mount.
    std::os::unix::fs::symlink(file, place.scene.path("/run/scene/link")).unwrap();
    place.fsnap(0, &["create", "/run/scene/link"]).refused("was made by user 65534");
    fs::create_dir(place.scene.path("/run/scene/bound")).unwrap();
    run(place.scene.command("mount").args(["--bind", "/run/scene/users", "/run/scene/bound"]));
    place.fsnap(0, &["create", "/run/scene/bound/f"]).refused("was made by user 65534");
    // It is that user's own: what can be said of it is said.
    place.fsnap(USER, &["status", "/run/scene/users"]).refused("fsnap is not on this volume");
    assert_eq!(place.asked(), 0, "nobody has gone to the server that the mount names");
    place.unmarked();
}

#[test]
fn what_a_server_gives_is_looked_at_first() {
    let place = Place::new();
    make_evil(&place.scene);
    let create = || place.fsnap(0, &["create", "/run/scene/root/f"]);
    let command = format!("`touch {MARK}`");
    for (volfile, why) in [
        (volfile(UP, "ping-timeout 42"), "has a translator of type \"../../.."),
        (
            volfile(&format!("performance/{UP}"), "ping-timeout 42"),
            "has a translator of type \"performance/../..",
        ),
        (
            volfile("features/unheard-of", "ping-timeout 42"),
            "of type \"features/unheard-of\", which is none that GlusterFS",
        ),
        (volfile("debug/io-stats", &format!("transport-type {UP}")), "has \"option transport-type ../.."),
        (
            volfile("debug/io-stats", "transport.socket.bind-path /run/scene/mark"),
            "bind-path /run/scene/mark\"",
        ),
        (volfile("debug/io-stats", &format!("ping-timeout {command}")), "can't be understood"),
        (volfile("debug/io-stats", &format!("ping-timeout 42 type {UP}")), "can't be understood"),
        (volfile("debug/io-stats", &format!("ping-timeout 42\rtype {UP}")), "can't be understood"),
    ] {
        place.answers(&volfile);
        let said = create();
        place.unmarked();
        said.refused(why);
    }
    place.answers(&volfile("features/unheard-of", "ping-timeout 42"));
    create().refused("setfattr");
    // What is in comments is left out.
    place.answers(&format!("# {command}\n{}", volfile("debug/io-stats", "ping-timeout 42")));
    assert_eq!(create().code, 1);
    place.unmarked();
    assert!(place.asked() > 8);
}

/// Not a test: answers every question for a volfile by what is in [`VOLFILE`].
#[test]
#[ignore = "a part of the others"]
fn the_server() {
    let listener = TcpListener::bind((ELSEWHERE, 24007)).unwrap();
    fs::write(ASKED, "").unwrap();
    for connection in listener.incoming() {
        std::thread::spawn(move || answer(connection.unwrap()));
    }
}

fn answer(mut connection: TcpStream) -> Option<()> {
    loop {
        let mut mark = [0; 4];
        connection.read_exact(&mut mark).ok()?;
        let mut call = vec![0; (u32::from_be_bytes(mark) & 0x7fff_ffff) as usize];
        connection.read_exact(&mut call).ok()?;
        fs::File::options().append(true).open(ASKED).ok()?.write_all(b"?").ok()?;
        let mut spec = fs::read(VOLFILE).ok()?;
        let size = spec.len() as u32;
        spec.resize(spec.len().next_multiple_of(4), 0);
        let number = |n: u32| n.to_be_bytes().to_vec();
        // To this call (xid), a reply that is accepted; then op_ret, op_errno, the volfile, no xdata. Of other procedures: failed.
        let body = match call[20..24] {
            [0, 0, 0, 2] => [number(size), number(0), number(size), spec, number(0)].concat(),
            _ => [number(u32::MAX), number(22), number(0), number(0)].concat(),
        };
        let reply = [call[..4].to_vec(), number(1), vec![0; 16], body].concat();
        connection.write_all(&[number(0x8000_0000 | reply.len() as u32), reply].concat()).ok()?;
    }
}

#[test]
fn a_fifo_in_place_of_a_file_holds_nobody_up() {
    const ROUNDS: usize = 25;
    /// What `timeout` ends with, if it was needed.
    const LATE: i32 = 124;
    let stage = Stage::new(distribute(1));
    fs::set_permissions(stage.file(""), fs::Permissions::from_mode(0o777)).unwrap();
    let [file, real, fifo] = ["f", "real", "fifo"].map(|name| stage.file(name));
    fill(&file, 1000, 1);
    run(stage.0.scene.command("mkfifo").arg("/run/scene/m/fifo"));
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                for (from, to) in [(&file, &real), (&fifo, &file), (&file, &fifo), (&real, &file)] {
                    fs::rename(from, to).unwrap();
                }
            }
        });
        let mut ends = Vec::new();
        for n in 0..ROUNDS {
            let mut command = stage.0.scene.command("timeout");
            command.args(["60", "/run/scene/fsnap"]);
            command.args(if n % 5 == 4 {
                &["restore", "-y", "--no-backup", "/run/scene/m/f@a"][..]
            } else {
                &["create", "/run/scene/m/f"]
            });
            ends.push(command.output().unwrap().status.code());
            if ends.last() == Some(&Some(LATE)) {
                break;
            }
        }
        over.store(true, Ordering::Relaxed);
        assert!(!ends.contains(&Some(LATE)), "it hangs: {ends:?}");
    });
    stage.ok(["create", "f", "-n", "last"]);
    stage.refused(["create", "fifo"], "only regular files");
}

/// glusterd proves who it is then, and is asked by GlusterFS's own means.
#[test]
fn over_tls() {
    let scene = common::scene_with_fsnap();
    let mut openssl = scene.command("openssl");
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "9", "-subj", "/CN=all"]);
    run(openssl.args(["-keyout", "/run/scene/key", "-out", "/run/scene/pem"]));
    run(scene.command("mount").args(["-t", "tmpfs", "tls", "/usr/lib/ssl"]));
    for (from, to) in [("key", "key"), ("pem", "pem"), ("pem", "ca")] {
        run(scene
            .command("cp")
            .arg(format!("/run/scene/{from}"))
            .arg(format!("/usr/lib/ssl/glusterfs.{to}")));
    }
    fs::write(scene.path("/var/lib/glusterd/secure-access"), "").unwrap();
    scene.start_glusterd();
    let disks = scene.disks(3, fsnap_testbed::Fs::Xfs, 320 * common::MIB);
    let volume = scene.volume("v").layout(VolumeType::Replicate(3)).disks(&disks).with_fsnap().start();
    let mount = volume.mount("/run/scene/m");
    let stage = Stage::new(common::Setup { mount, volume, disks, scene });
    fill(stage.file("f"), 1000, 1);
    assert_eq!(stage.ok(["create", "f", "-n", "a"]), "f@a\n");
    stage.restore("f", "a");
    // By whoever may use the keys.
    fs::set_permissions(stage.0.scene.path("/usr/lib/ssl/glusterfs.key"), fs::Permissions::from_mode(0o600))
        .unwrap();
    fs::set_permissions(stage.file("f"), fs::Permissions::from_mode(0o666)).unwrap();
    let said = fsnap_in(&stage.0.scene, 1000, 1000, "/run/scene/m", ["create", "f"]);
    said.refused("/usr/lib/ssl/glusterfs.key can't be read by whoever runs this (Permission denied)");
    // Who comes without is not answered.
    let secure = stage.0.scene.path("/var/lib/glusterd/secure-access");
    fs::rename(&secure, secure.with_extension("not")).unwrap();
    stage.refused(["create", "f"], "It may want TLS, which /var/lib/glusterd/secure-access switches on");
}

/// A mount that knows names for long takes one for what another has renamed meanwhile.
#[test]
fn what_is_found_is_what_was_given() {
    let stage = Stage::new(distribute(1));
    let common::Setup { volume, scene, .. } = &stage.0;
    let late = volume.mount_with("/run/scene/late", &["--entry-timeout=600", "--attribute-timeout=600"]);
    for (name, content) in [("f", 1), ("g", 2)] {
        fill(stage.file(name), 1000, content);
        fs::metadata(late.path().join(name)).unwrap();
    }
    for (from, to) in [("f", "other"), ("g", "f"), ("other", "g")] {
        fs::rename(stage.file(from), stage.file(to)).unwrap();
    }
    for args in [&["create", "f", "-n", "a"][..], &["create", "g"]] {
        fsnap_in(scene, 0, 0, "/run/scene/late", args).refused("deleted or replaced meanwhile");
    }
    for name in ["f", "g"] {
        assert_eq!(common::names(stage.file(name)), [""; 0]);
    }
    // Where inode numbers have 32 bits.
    let short = volume.mount_with("/run/scene/short", &["--enable-ino32"]);
    assert!(fs::metadata(short.path().join("f")).unwrap().ino() <= u32::MAX.into());
    let said = fsnap_in(scene, 0, 0, "/run/scene/short", ["create", "f", "-n", "a"]);
    assert_eq!((said.code, &said.out[..]), (0, "f@a\n"), "{}", said.err);
}
