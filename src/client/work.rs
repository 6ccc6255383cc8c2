//! A command at work.

use serde_json::Value;

use super::ask::ask;
use super::set::Set;
use crate::ffi::{ClientFile, Host, Node};

/// A command at work on a file.
pub struct Work {
    pub host: Host,
    pub file: ClientFile,
    pub top: Node,
    pub set: Set,
}

impl Work {
    /// See [`ask`].
    pub fn ask(&mut self, to: Node, question: &str) -> Result<Value, i32> {
        ask(&mut self.file, to, question)
    }

    /// Asks every brick which deleted file this is a snapshot of, upon which each lets this graph find it. Not by way of the cluster
    /// translators, which would ask one, or note on the snapshot which brick has not answered. What the first says that answers.
    ///
    /// What a brick says if it refuses; `ENOTCONN` if none answers.
    pub fn claim(&mut self) -> Result<String, i32> {
        let mut known = Err(libc::ENOTCONN);
        for brick in self.set.bricks() {
            match self.ask(brick, "deleted") {
                Ok(answer) => known = known.or(Ok(answer.to_string())),
                Err(libc::ENOTCONN | libc::ENOENT | libc::ESTALE) => {}
                Err(errno) => return Err(errno),
            }
        }
        known
    }
}
