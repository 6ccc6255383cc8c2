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
}
