//! How many instructions each fop costs, of all in a process that has the whole graph, and of the translator's own library. With and without
//! snapshots on the brick.
//!
//! `instructions [COUNT]`: how often each is done, 200 if not given. Needs root and valgrind. `FSNAP_SO` names another library, to
//! compare with.

#[path = "../tests/common/mod.rs"]
mod common;

use std::process::ExitCode;

use common::instructions::{Costs, measure};

fn main() -> ExitCode {
    let count = std::env::args().nth(1).map_or(Ok(200), |arg| arg.parse());
    let Ok(count @ 1..=100_000) = count else {
        eprintln!("usage: instructions [COUNT], from 1 to 100000");
        return ExitCode::from(2);
    };
    println!("{:<18} {:>12} {:>12}  {:>12} {:>12}", "instructions", "all", "fsnap", "all", "fsnap");
    println!("{:<18} {:>25}  {:>25}", "", "no snapshots", "other files have some");
    for (name, [without, with]) in measure(count, 1) {
        let Costs { all, own } = without;
        println!("{name:<18} {all:>12} {own:>12}  {:>12} {:>12}", with.all, with.own);
    }
    ExitCode::SUCCESS
}
