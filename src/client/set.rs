//! Where a file is: the bricks that have it, and the translator that keeps their copies the same.

use std::ffi::CStr;

use fsnap_core::{SnapName, afr};
use serde_json::{Value, json};

use super::ask::ask;
use crate::ffi::{ClientFile, Node};

/// What an xattr of DHT's link files has in it; a file's own data is elsewhere then.
const LINKTO: &CStr = c"trusted.glusterfs.dht.linkto";

/// How the bricks of a set share a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SetKind {
    /// Each has all of it, or an arbiter its metadata.
    Replicate,
    /// Each has a fragment.
    Disperse,
    /// There is but one.
    Single,
}

impl SetKind {
    fn of(node: Node) -> Option<Self> {
        match node.kind().to_bytes() {
            b"cluster/replicate" => Some(SetKind::Replicate),
            b"cluster/disperse" => Some(SetKind::Disperse),
            b"protocol/client" => Some(SetKind::Single),
            _ => None,
        }
    }
}

/// The bricks that have a file.
pub struct Set {
    pub kind: SetKind,
    /// The translator above them, or the one to the only brick.
    pub node: Node,
}

impl Set {
    /// The set that has `file`, also when rebalance is about to move it from there: of that its bricks know. `EBUSY` if it has just
    /// gone, `ESTALE` if none has it; else what one says that can't tell.
    pub fn of(file: &mut ClientFile, top: Node) -> Result<Set, i32> {
        let mut unsure = libc::ESTALE;
        for (kind, node) in sets(top) {
            match file.is_sticky_with(node, LINKTO) {
                Ok(false) => return Ok(Set { kind, node }),
                // A link file (`check_is_linkfile` of cluster/dht): the data is in another set, or on its way here.
                Ok(true) => unsure = libc::EBUSY,
                Err(libc::ENOENT | libc::ESTALE) => {}
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

    /// How many of the bricks it takes to read a file.
    pub fn needed(&self) -> usize {
        let redundancy = self.node.option("redundancy").and_then(|count| count.parse().ok());
        match self.kind {
            SetKind::Disperse => self.bricks().len().saturating_sub(redundancy.unwrap_or(0)),
            SetKind::Replicate | SetKind::Single => 1,
        }
    }

    /// Each brick, what its fsnap says or the errno with which it does not, and whether another brick knows that its copy of
    /// snapshot `name` is not right:
    /// `{"version":1,"bricks":[{"name","host","path","status":{…}|null,"errno":N,"blamed":bool}],"unsettled":bool,"snapshot":…}`:
    /// whether it [is unsettled](Self::is_unsettled), and at last the snapshot, as `info` answers, `null` if no brick knows it.
    pub fn describe(&self, file: &mut ClientFile, name: &SnapName) -> String {
        let marks = self.marks(file, name);
        let bricks: Vec<Value> =
            self.pending().map(|(brick, mark)| describe(file, brick, marks.contains(&mark))).collect();
        let reached = |brick: &Value| brick["blamed"] == true && !brick["status"].is_null();
        let unsettled = marks.iter().any(|mark| mark == afr::DIRTY) || bricks.iter().any(reached);
        let snapshot = self.snapshot(file, name).ok();
        json!({ "version": 1, "bricks": bricks, "unsettled": unsettled, "snapshot": snapshot }).to_string()
    }

    /// Whether snapshot `name` may differ between the bricks that can be reached: one of them has marked it as being changed, or
    /// blames another.
    pub fn is_unsettled(&self, file: &mut ClientFile, name: &SnapName) -> bool {
        let marks = self.marks(file, name);
        marks.iter().any(|mark| mark == afr::DIRTY)
            || self.pending().any(|(brick, mark)| marks.contains(&mark) && ask(file, brick, "status").is_ok())
    }

    /// The marks of the replicate translator that snapshot `name` has on any brick.
    fn marks(&self, file: &mut ClientFile, name: &SnapName) -> Vec<String> {
        self.bricks().into_iter().flat_map(|brick| marks(file, brick, name)).collect()
    }

    /// Each brick, and the mark by which others blame it, where bricks do that.
    fn pending(&self) -> impl Iterator<Item = (Node, String)> {
        let names = self.node.option("afr-pending-xattr").unwrap_or_default();
        let marks: Vec<String> = names.split(',').map(|name| format!("{}{name}", afr::PREFIX)).collect();
        self.bricks().into_iter().zip(marks.into_iter().chain(std::iter::repeat(String::new())))
    }

    /// What `info` answers, as most of the bricks know it that do. They are asked one by one: the disperse translator asks one
    /// brick, and answers `EIO` if that is just being healed (`ec_complete`).
    ///
    /// What the first brick says if none knows: `ENODATA` if it has no such snapshot.
    pub fn snapshot(&self, file: &mut ClientFile, name: &SnapName) -> Result<Value, i32> {
        let answers: Vec<_> =
            self.bricks().into_iter().map(|brick| ask(file, brick, &format!("info.{name}"))).collect();
        let known: Vec<&Value> = answers.iter().flatten().collect();
        let count = |value: &&&Value| known.iter().filter(|other| *other == *value).count();
        match (known.iter().max_by_key(count), answers.first()) {
            (Some(most), _) => Ok((*most).clone()),
            (None, Some(Err(errno))) => Err(*errno),
            (None, _) => Err(libc::EIO),
        }
    }
}

/// The marks of the replicate translator that a snapshot has on a brick; none if that can't be told.
fn marks(file: &mut ClientFile, brick: Node, name: &SnapName) -> Vec<String> {
    let answer = ask(file, brick, &format!("marks.{name}")).ok();
    let marks = answer.and_then(|mut answer| serde_json::from_value(answer["marks"].take()).ok());
    marks.unwrap_or_default()
}

fn describe(file: &mut ClientFile, brick: Node, blamed: bool) -> Value {
    let answer = ask(file, brick, "status");
    json!({
        "name": brick.name().to_string_lossy(),
        "host": brick.option("remote-host"),
        "path": brick.option("remote-subvolume"),
        "status": answer.as_ref().ok(),
        "errno": answer.as_ref().err().unwrap_or(&0),
        "blamed": blamed,
    })
}

/// All sets beneath `top`.
fn sets(top: Node) -> Vec<(SetKind, Node)> {
    let mut sets = Vec::new();
    walk(top, &mut |node| {
        let kind = SetKind::of(node);
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
