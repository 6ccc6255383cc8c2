//! Samba and NFS-Ganesha, which serve a volume by libgfapi: snapshots are seen through them, files and directories go as elsewhere.
#![allow(missing_docs)]

mod common;

use std::fs;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{MIB, Setup, fsnap, ls, of_deleted_below, volume};
use fsnap_testbed::{Scene, VolumeType, checksum, run, wait_until};

const KINDS: [(VolumeType, usize); 2] = [(VolumeType::Distribute, 2), (VolumeType::Replicate(3), 3)];

/// How long a server may take until it answers.
const UP_WITHIN: Duration = Duration::from_secs(60);

/// A server that ends with this.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn serve(scene: &Scene, program: &str, args: &[&str]) -> Server {
    let mut command = scene.command(program);
    Server(command.args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

fn output(command: &mut Command) -> String {
    let output = run(command);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A file of two contents, the first in a snapshot.
fn snapped(setup: &Setup, path: &str) -> u64 {
    let file = setup.mount.path().join(path);
    fs::write(&file, format!("first {path}\n")).unwrap();
    fsnap(&file, "create", "a").unwrap();
    let sum = checksum(&file);
    fs::write(&file, "second\n").unwrap();
    sum
}

#[test]
fn samba() {
    let setup = volume(VolumeType::Replicate(3), 3, 1024 * MIB, |volume| volume);
    let scene = &setup.scene;
    fs::create_dir_all(setup.mount.path().join("d/e")).unwrap();
    let sum = snapped(&setup, "d/f");
    snapped(&setup, "d/e/g");
    let dirs = ["private", "lock", "state", "cache", "pid", "ncalrpc"].map(|dir| {
        fs::create_dir_all(scene.path(format!("/run/scene/smb/{dir}"))).unwrap();
        let option = if dir == "ncalrpc" { "ncalrpc dir".into() } else { format!("{dir} directory") };
        let option = option.replace("private directory", "private dir");
        format!("{option} = /run/scene/smb/{dir}\n")
    });
    let config = format!(
        "[global]\n{}log file = /run/scene/smb/log\nmap to guest = Bad User\nguest account = root\n\
         disable netbios = yes\nsmb ports = 445\nload printers = no\nbind interfaces only = no\n\
         [v]\npath = /\nvfs objects = glusterfs\nglusterfs:volume = v\nglusterfs:volfile_server = localhost\n\
         kernel share modes = no\nread only = no\nguest ok = yes\nforce user = root\n",
        dirs.concat()
    );
    fs::write(scene.path("/run/scene/smb/conf"), config).unwrap();
    let args = ["--foreground", "--no-process-group", "--configfile=/run/scene/smb/conf"];
    let _server = serve(scene, "smbd", &args);
    let smb = |commands: &str| {
        let mut client = scene.command("smbclient");
        client.args(["--configfile=/run/scene/smb/conf", "-N", "//127.0.0.1/v", "-c", commands]);
        client
    };
    wait_until("Samba answers", UP_WITHIN, || smb("ls").output().unwrap().status.success());
    // Each ends with the connection, and so with a graph that is taken down, which takes ten seconds.
    let listed = output(&mut smb("ls d\\*; ls d\\.fsnap\\*; get d\\.fsnap\\f@a /run/scene/got"));
    assert!(
        listed.contains("  f  ") && listed.contains("  f@a  ") && !listed.contains("  .fsnap  "),
        "{listed}"
    );
    assert_eq!(checksum(scene.path("/run/scene/got")), sum);
    // It can't be changed.
    fs::write(scene.path("/run/scene/put"), b"other").unwrap();
    let _ = smb("put /run/scene/put d\\.fsnap\\f@a; rm d\\.fsnap\\f@a").output().unwrap();
    assert_eq!(checksum(setup.mount.path().join("d/.fsnap/f@a")), sum);
    run(&mut smb("rm d\\e\\g; rmdir d\\e; rm d\\f; rmdir d"));
    let gone = || !setup.mount.path().join("d").exists();
    wait_until("the directory has gone", Duration::from_secs(10), gone);
    assert_eq!(checksum(of_deleted_below(&setup.mount.path(), "d/f", "a")), sum);
    of_deleted_below(&setup.mount.path(), "d/e/g", "a");
}

#[test]
fn ganesha() {
    for (layout, bricks) in KINDS {
        println!("{layout:?}");
        let setup = volume(layout, bricks, 1024 * MIB, |volume| volume);
        let scene = &setup.scene;
        fs::create_dir_all(setup.mount.path().join("d/e")).unwrap();
        let sum = snapped(&setup, "d/f");
        snapped(&setup, "d/e/g");
        let config = "NFS_CORE_PARAM { Protocols = 4; NFS_Port = 2049; Enable_NLM = false; Enable_RQUOTA = false; }\n\
             NFSv4 { Graceless = true; RecoveryRoot = \"/run/scene/nfs\"; RecoveryBackend = fs; }\n\
             EXPORT { Export_Id = 1; Path = \"/\"; Pseudo = \"/v\"; Access_Type = RW; Squash = No_root_squash; SecType = sys;\n\
             Protocols = 4; Transports = TCP; FSAL { Name = GLUSTER; Hostname = localhost; Volume = v; } }\n";
        fs::create_dir_all(scene.path("/run/scene/nfs")).unwrap();
        fs::write(scene.path("/run/scene/nfs/conf"), config).unwrap();
        let _server = serve(
            scene,
            "ganesha.nfsd",
            &["-F", "-f", "/run/scene/nfs/conf", "-L", "/run/scene/nfs/log", "-p", "/run/scene/nfs/pid"],
        );
        run(Command::new("cc")
            .args(["tests/nfs.c", "-o"])
            .arg(scene.path("/run/scene/nfs/client"))
            .arg("-lnfs")
            .current_dir(env!("CARGO_MANIFEST_DIR")));
        let nfs = |commands: &str| {
            let mut client = scene.command("/run/scene/nfs/client");
            client.args(["127.0.0.1", "/v"]).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut client = client.spawn().unwrap();
            client.stdin.take().unwrap().write_all(commands.as_bytes()).unwrap();
            let output = client.wait_with_output().unwrap();
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        wait_until("Ganesha answers", UP_WITHIN, || nfs("ls /\n").ends_with("ls /: 0\n"));
        assert_eq!(nfs("ls /d\n").lines().filter(|line| !line.contains(':')).count(), 2);
        assert_eq!(nfs("ls /d/.fsnap\n"), "f@a\nls /d/.fsnap: 0\n");
        assert_eq!(nfs("cat /d/.fsnap/f@a\n"), "first d/f\ncat /d/.fsnap/f@a: 0\n");
        let refused = nfs("write /d/.fsnap/f@a other\nrm /d/.fsnap/f@a\n");
        assert!(!refused.contains(": 0\n"), "{refused}");
        assert_eq!(checksum(setup.mount.path().join("d/.fsnap/f@a")), sum);
        let done = nfs("rm /d/e/g\nrmdir /d/e\nrm /d/f\nrmdir /d\n");
        assert_eq!(done, "rm /d/e/g: 0\nrmdir /d/e: 0\nrm /d/f: 0\nrmdir /d: 0\n");
        let gone = || !ls(setup.mount.path()).contains(&"d".to_owned());
        wait_until("the directory has gone", Duration::from_secs(10), gone);
        assert_eq!(checksum(of_deleted_below(&setup.mount.path(), "d/f", "a")), sum);
        of_deleted_below(&setup.mount.path(), "d/e/g", "a");
    }
}
