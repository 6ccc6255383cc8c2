//! The static library is of use: linked with `cc -shared` it is a translator that loads.
#![allow(missing_docs)]

mod common;

use std::path::PathBuf;
use std::process::Command;

use common::{MIB, fsnap, names};
use fsnap_testbed::{Fs, Scene, VOLFILE_FSNAP, fill, run, translator_path};

#[test]
fn linked_by_hand_it_loads_and_works() {
    let archive = translator_path().with_file_name("libfsnap.a");
    let so = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("by-hand.so");
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-Wl,-z,nodelete", "-Wl,--whole-archive"]).arg(&archive);
    cc.args(["-Wl,--no-whole-archive", "-lglusterfs", "-lgcc_s", "-lpthread", "-ldl", "-lm"]);
    run(cc.arg("-o").arg(&so));
    let scene = Scene::new();
    scene.install_translator(&so, "fsnap");
    let _disk = scene.disk(Fs::Xfs, 512 * MIB, "/run/scene/b1");
    let mount = scene.mount_volfile(VOLFILE_FSNAP, "/run/scene/b1/brick", "/run/scene/m");
    let file = mount.path().join("f");
    fill(&file, MIB, 1);
    fsnap(&file, "create", "s").unwrap();
    assert_eq!(names(&file), ["s"]);
}
