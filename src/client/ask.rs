//! Questions to the bricks.

use std::ffi::CString;

use fsnap_core::command;
use serde_json::Value;

use crate::ffi::{ClientFile, Node};

/// The JSON that `to` answers to `glusterfs.fsnap.QUESTION`; `EIO` if it is none.
pub fn ask(file: &mut ClientFile, to: Node, question: &str) -> Result<Value, i32> {
    let key = CString::new(format!("{}{question}", command::PREFIX)).map_err(|_| libc::EINVAL)?;
    serde_json::from_slice(&file.get(to, &key)?).map_err(|_| libc::EIO)
}
