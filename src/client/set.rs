//! Where a file is: the bricks that have it, and the translator that keeps their copies the same.

use std::ffi::CStr;

use serde_json::{Value, json};

use crate::ffi::{File, Node};

/// What an xattr of DHT's link files has in it; a file's own data is elsewhere then.
const LINKTO: &CStr = c"trusted.glusterfs.dht.linkto";
const STATUS: &CStr = c"glusterfs.fsnap.status";

/// How the bricks of a set share a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Each has all of it, or an arbiter its metadata.
    Replicate,
    /// Each has a fragment.
    Disperse,
    /// There is but one.
    Single,
}

impl Kind {
    fn of(node: Node) -> Option<Self> {
        match node.kind().to_bytes() {
            b"cluster/replicate" => Some(Kind::Replicate),
            b"cluster/disperse" => Some(Kind::Disperse),
            b"protocol/client" => Some(Kind::Single),
            _ => None,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Kind::Replicate => "replicate",
            Kind::Disperse => "disperse",
            Kind::Single => "distribute",
        }
    }
}

/// The bricks that have a file.
pub struct Set {
    pub kind: Kind,
    /// The translator above them, or the one to the only brick.
    pub node: Node,
}

impl Set {
    /// The set that has `file`. `ESTALE` if none has it; else what one says that can't tell.
    pub fn of(file: &mut File, top: Node) -> Result<Set, i32> {
        let mut unsure = libc::ESTALE;
        for (kind, node) in sets(top) {
            match file.get(node, LINKTO) {
                Err(libc::ENODATA) => return Ok(Set { kind, node }),
                // A link file: the data is in another set.
                Ok(_) | Err(libc::ENOENT | libc::ESTALE) => {}
                Err(errno) => unsure = errno,
            }
        }
        Err(unsure)
    }

    /// Its bricks: the translators that speak to them.
    pub fn bricks(&self) -> Vec<Node> {
        let mut bricks = Vec::new();
        walk(self.node, &mut |node| {
            let is_brick = node.kind() == c"protocol/client";
            bricks.extend(is_brick.then_some(node));
            !is_brick
        });
        bricks
    }

    /// Each brick and what its fsnap says, or the errno with which it does not:
    /// `{"version":1,"kind":KIND,"bricks":[{"name","host","path","status":{…}|null,"errno":N}]}`.
    pub fn describe(&self, file: &mut File) -> String {
        let bricks: Vec<Value> = self.bricks().into_iter().map(|brick| describe(file, brick)).collect();
        json!({ "version": 1, "kind": self.kind.word(), "bricks": bricks }).to_string()
    }
}

fn describe(file: &mut File, brick: Node) -> Value {
    let answer = file.get(brick, STATUS);
    let status = answer.as_ref().ok().and_then(|bytes| serde_json::from_slice::<Value>(bytes).ok());
    json!({
        "name": brick.name().to_string_lossy(),
        "host": brick.option("remote-host"),
        "path": brick.option("remote-subvolume"),
        "status": status,
        "errno": answer.err().unwrap_or(0),
    })
}

/// All sets beneath `top`.
fn sets(top: Node) -> Vec<(Kind, Node)> {
    let mut sets = Vec::new();
    walk(top, &mut |node| {
        let kind = Kind::of(node);
        sets.extend(kind.map(|kind| (kind, node)));
        kind.is_none()
    });
    sets
}

/// Shows `node` and what is beneath it to `look`, which says whether to go deeper.
fn walk(node: Node, look: &mut impl FnMut(Node) -> bool) {
    if look(node) {
        for child in node.children() {
            walk(child, look);
        }
    }
}
