//! Questions to the bricks.

use std::ffi::CString;
use std::panic::resume_unwind;
use std::thread::{Builder, scope};

use fsnap_core::command;
use serde_json::Value;

use crate::ffi::{ClientFile, Host, Node};

/// The JSON that `to` answers to `glusterfs.fsnap.QUESTION`; `EIO` if it is none.
pub fn ask(file: &mut ClientFile, to: Node, question: &str) -> Result<Value, i32> {
    let key = CString::new(format!("{}{question}", command::PREFIX)).map_err(|_| libc::EINVAL)?;
    serde_json::from_slice(&file.get(to, &key)?).map_err(|_| libc::EIO)
}

/// What each of the bricks answers to `question`, in their order. All are asked at once, each by a thread of its own; where there may be no
/// more threads, one after the other.
pub fn of_each<T: Send>(
    host: Host,
    file: &mut ClientFile,
    bricks: &[Node],
    question: impl Fn(&mut ClientFile, Node) -> T + Sync,
) -> Vec<T> {
    let Some((&first, others)) = bricks.split_first() else { return Vec::new() };
    let question = &question;
    scope(|scope| {
        let asked: Vec<_> = others
            .iter()
            .map(|&brick| {
                let mut file = file.again()?;
                let body = move || {
                    host.adopt_thread();
                    question(&mut file, brick)
                };
                Builder::new().name("fsnap-ask".into()).spawn_scoped(scope, body).ok()
            })
            .collect();
        let mut answers = vec![question(file, first)];
        for (thread, &brick) in asked.into_iter().zip(others) {
            answers.push(match thread {
                Some(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
                None => question(file, brick),
            });
        }
        answers
    })
}
