//! What each fop of ordinary files costs, in instructions of the translator's own library: not more than was written down, and not less
//! without its being written down.
#![allow(missing_docs)]

mod common;

use std::fmt::Write;
use std::fs;
use std::process::Command;

use common::instructions::measure;

/// Percent by which they may differ.
const TOLERANCE: u64 = 2;
/// Or so many: of a fop that we hardly touch 2 % are nothing.
const FEW: u64 = 40;

/// `FSNAP_BLESS=1` writes them down anew. They are of one compiler, in the profile of tests.
#[test]
fn fops_cost_what_was_written_down() {
    if Command::new("valgrind").arg("--version").output().is_err() {
        eprintln!("SKIPPED: instructions are not counted, there is no valgrind");
        return;
    }
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/instructions.txt");
    let version = Command::new("rustc").arg("--version").output().expect("rustc");
    let compiler = String::from_utf8(version.stdout).unwrap().trim().to_owned();
    let known = fs::read_to_string(file).unwrap();
    let bless = std::env::var_os("FSNAP_BLESS").is_some();
    if !bless && !known.starts_with(&format!("{compiler}\n")) {
        let of = known.lines().next().unwrap_or_default();
        eprintln!("SKIPPED: the numbers written down are of {of}, and this is {compiler}");
        return;
    }
    let measured = measure(10, 6);
    if bless {
        let mut text = format!("{compiler}\nfop: no snapshots, other files have some\n");
        for (name, [without, with]) in &measured {
            writeln!(text, "{name}: {}, {}", without.own, with.own).unwrap();
        }
        fs::write(file, text).unwrap();
        return;
    }
    let mut wrong = Vec::new();
    for (name, costs) in &measured {
        let line = known.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        let numbers: Vec<u64> =
            line.into_iter().flat_map(|line| line.split(", ")).map(|n| n.parse().unwrap()).collect();
        assert_eq!(numbers.len(), 2, "{name} is not in {file}");
        for ((now, was), state) in costs.iter().zip(numbers).zip(["no snapshots", "other files have some"]) {
            if now.own.abs_diff(was) > (was * TOLERANCE / 100).max(FEW) {
                wrong.push(format!("{name}, {state}: {} and not {was}", now.own));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "instructions of fsnap.so: {wrong:#?}\nFSNAP_BLESS=1 writes down what is right now"
    );
}
