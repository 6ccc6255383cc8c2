//! For every option of GlusterFS that reaches a brick: the same script is answered the same, and leaves the same, with fsnap and
//! without, with snapshots and without.
#![allow(missing_docs)]

mod common;
mod matrix;
mod script;

use std::time::Instant;

use matrix::{Setting, Stage, differences, found, table};

/// With `FSNAP_ALL=1` each option is tried on its own.
const BATCH: usize = 16;

#[track_caller]
fn same(stage: &Stage, settings: &[Setting]) {
    let mut failed = Vec::new();
    for setting in settings {
        println!("with {}", setting.name());
        let begin = Instant::now();
        let lines = differences(stage, setting);
        let verdict = if lines.is_empty() { "the same" } else { "DIFFERENT" };
        println!("    {verdict} ({:.1} s)", begin.elapsed().as_secs_f32());
        if !lines.is_empty() {
            failed.push(format!("with {}:\n    {}", setting.name(), lines.join("\n    ")));
        }
    }
    assert!(failed.is_empty(), "{} settings differ\n{}", failed.len(), failed.join("\n"));
}

#[test]
fn options_that_change_what_is_done() {
    let all = table::alone();
    same(&Stage::new(), &all[..all.len() / 2]);
}

#[test]
fn more_options_that_change_what_is_done() {
    let all = table::alone();
    same(&Stage::new(), &all[all.len() / 2..]);
}

#[test]
fn all_other_options() {
    let stage = Stage::new();
    let begin = Instant::now();
    let options = found::brick_side(&stage.scene);
    println!("{} options reach the brick ({:.1} s)", options.len(), begin.elapsed().as_secs_f32());
    let size = if std::env::var_os("FSNAP_ALL").is_some() { 1 } else { BATCH };
    same(&stage, &found::batches(&options, size));
}
