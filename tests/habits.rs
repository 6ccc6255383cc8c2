//! What people and their tools do with files goes on as if fsnap were not there.
#![allow(missing_docs)]

mod common;

use std::fs;

use common::{MIB, distribute, fsnap, ls, names};
use fsnap_testbed::{Scene, checksum, fill, run, setx};

fn sh(scene: &Scene, script: &str) -> String {
    let output = run(scene.command("sh").args(["-ec", script]));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn tools() {
    let setup = distribute(2);
    let root = setup.mount.path();
    let (src, scene) = (root.join("src"), &setup.scene);
    fs::create_dir(&src).unwrap();
    for n in 0..5 {
        fill(src.join(format!("f{n}")), 50_000, n);
        setx(src.join(format!("f{n}")), "user.colour", "red").unwrap();
    }
    // As many snapshots as a file can have.
    for n in 0..256 {
        fsnap(src.join("f0"), "create", format!("snapshot-with-quite-a-long-name-{n:03}")).unwrap();
    }
    assert_eq!(names(src.join("f0")).len(), 256);
    fsnap(src.join("f1"), "create", "s").unwrap();
    let files: Vec<String> = (0..5).map(|n| format!("f{n}")).collect();

    // getfattr shows what it shows of a file without snapshots.
    let all = |file: &str| {
        let text = sh(scene, &format!("cd /run/scene/m/src && getfattr -d -m . {file}"));
        let names = text.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name.to_owned());
        let mut names: Vec<String> = names.filter(|name| !name.starts_with("trusted.gfid2path.")).collect();
        names.sort();
        names
    };
    assert_eq!(all("f0"), all("f4"));
    assert!(all("f0").contains(&"user.colour".to_owned()));

    // Listings, sizes, copies.
    let found = sh(scene, "cd /run/scene/m && find . | sort");
    let expected: String = [".".to_owned(), "./src".to_owned()]
        .into_iter()
        .chain(files.iter().map(|f| format!("./src/{f}")))
        .map(|l| l + "\n")
        .collect();
    assert_eq!(found, expected);
    let used: u64 = sh(scene, "du -sk /run/scene/m/src | cut -f1").trim().parse().unwrap();
    assert!(used < 400, "du counts the files and not their snapshots: {used} KiB");
    sh(scene, "cp -a /run/scene/m/src /run/scene/m/cp");
    sh(scene, "rsync -aXH --delete /run/scene/m/src/ /run/scene/m/rsync/");
    sh(
        scene,
        "mkdir /run/scene/m/tar; cd /run/scene/m/src; tar --xattrs --xattrs-include='*' -cf - . | tar --xattrs --xattrs-include='*' -xf - -C ../tar",
    );
    for copy in ["cp", "rsync", "tar"] {
        assert_eq!(ls(root.join(copy)), files, "{copy}");
        for file in &files {
            assert_eq!(checksum(root.join(copy).join(file)), checksum(src.join(file)), "{copy} {file}");
        }
        assert_eq!(fsnap_testbed::getx(root.join(copy).join("f0"), "user.colour").unwrap(), b"red", "{copy}");
        assert!(names(root.join(copy).join("f0")).is_empty(), "{copy}: a copy is a file of its own");
        assert!(ls(root.join(copy).join(".fsnap")).is_empty(), "{copy}");
    }
    // A second run of rsync finds nothing to do, and deletes nothing.
    let again = sh(scene, "rsync -aXHi --delete /run/scene/m/src/ /run/scene/m/rsync/");
    assert_eq!(again, "");

    // Moved with the ordinary tools, the snapshots come along.
    sh(scene, "mkdir /run/scene/m/dst; mv /run/scene/m/src/* /run/scene/m/dst/; rmdir /run/scene/m/src");
    assert_eq!(names(root.join("dst/f0")).len(), 256);
    assert_eq!(ls(root.join("dst/.fsnap")).len(), 257);
    sh(scene, "rm -rf /run/scene/m/cp /run/scene/m/rsync /run/scene/m/tar");
    assert_eq!(ls(&root), ["dst"]);
}

/// Switched off, fsnap takes no commands; it hides, guards and keeps all the same.
#[test]
fn disabled_still_hides_guards_and_keeps() {
    let setup = distribute(1);
    let root = setup.mount.path();
    let file = root.join("f");
    fill(&file, MIB, 1);
    fsnap(&file, "create", "s").unwrap();
    let sum = checksum(&file);
    setup.volume.set("user.xlator.fsnap.enabled", "off");
    fsnap_testbed::wait_until("it is off", std::time::Duration::from_secs(20), || {
        fsnap(&file, "hold", "s").is_err()
    });
    assert_eq!(ls(&root), ["f"]);
    let snapshot = root.join(".fsnap/f@s");
    assert_eq!(checksum(&snapshot), sum);
    let denied = fs::remove_file(&snapshot).unwrap_err();
    assert_eq!(denied.raw_os_error(), Some(fsnap_testbed::Errno::EROFS as i32));
    fs::rename(&file, root.join("g")).unwrap();
    fs::remove_file(root.join("g")).unwrap();
    setup.volume.set("user.xlator.fsnap.enabled", "on");
    let left = ls(root.join(".fsnap")).pop().expect("the snapshot of the deleted file");
    let left = root.join(".fsnap").join(left);
    fsnap_testbed::wait_until("it is on", std::time::Duration::from_secs(20), || {
        fsnap(&left, "hold", "s").is_ok()
    });
    assert_eq!(checksum(&left), sum);
}
