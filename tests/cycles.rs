//! Many commands leave nothing behind: no fd, no memory, no file.
#![allow(missing_docs)]

mod common;

use common::{MIB, Usage, counter, distribute, fsnap, ls, names, usage};
use fsnap_testbed::fill;

#[test]
fn a_thousand_cycles_leave_nothing() {
    let setup = distribute(1);
    let file = setup.mount.path().join("f");
    fill(&file, MIB, 1);
    let cycles = |count: usize| {
        for n in 0..count {
            fsnap(&file, "create", format!("n{n}")).unwrap();
            assert_eq!(names(&file).len(), 1);
            fsnap(&file, "delete", format!("n{n}")).unwrap();
        }
    };
    let pid = setup.volume.brick_pid(0);
    cycles(200);
    let Usage { files: fds, resident: memory, .. } = usage(pid);
    cycles(1000);
    let Usage { files: fds_after, resident: memory_after, .. } = usage(pid);
    assert!(fds_after <= fds, "{fds} fds before, {fds_after} after");
    // 1,000 leaks of a page each would be twice this.
    let grown = memory_after.saturating_sub(memory);
    assert!(grown < 2048, "{memory} KiB before, {memory_after} KiB after");
    assert!(ls(setup.mount.path().join(".fsnap")).is_empty());
    let brick = setup.volume.brick_path(0);
    assert!(ls(brick.join(".fsnap")).is_empty());
    assert!(ls(brick.join(".glusterfs/fsnap/lost")).is_empty());
    assert!(ls(brick.join(".glusterfs/fsnap/intents")).is_empty());
    let dump = setup.volume.statedump(0);
    assert_eq!((counter(&dump, "create.done"), counter(&dump, "delete.done")), (1200, 1200));
    assert_eq!((counter(&dump, "workers.busy"), counter(&dump, "commands.waiting")), (0, 0));
}
