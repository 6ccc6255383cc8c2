//! A command at work.

use serde_json::Value;

use super::ask::{ask, of_each};
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

    /// The same of every brick at once, in their order.
    pub fn ask_all(&mut self, question: &str) -> Vec<Result<Value, i32>> {
        of_each(self.host, &mut self.file, &self.set.bricks(), |file, brick| ask(file, brick, question))
    }

    /// Asks every brick which deleted file this is a snapshot of, upon which each lets this graph find it. Not by way of the cluster
    /// translators, which would ask one, or note on the snapshot which brick has not answered. What the first says that answers.
    ///
    /// What a brick says that refuses, if all do; `ENOTCONN` if none answers.
    pub fn claim(&mut self) -> Result<String, i32> {
        let answers: Vec<_> = self.set.bricks().into_iter().map(|brick| self.ask(brick, "deleted")).collect();
        // One that has missed the deletion refuses it: it has the file, and needs no leave.
        if let Some(answer) = answers.iter().flatten().next() {
            return Ok(answer.to_string());
        }
        let away = |errno: &i32| [libc::ENOTCONN, libc::ENOENT, libc::ESTALE].contains(errno);
        let refused = answers.into_iter().filter_map(Result::err).find(|errno| !away(errno));
        Err(refused.unwrap_or(libc::ENOTCONN))
    }
}
