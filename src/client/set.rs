//! Where a file is: the bricks that have it, and the translator that keeps their copies the same.

use std::ffi::CStr;

use fsnap_core::{SnapName, afr};
use serde_json::{Value, json};

use super::ask::{ask, of_each};
use crate::ffi::{ClientFile, Host, Node};

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
#[derive(Clone)]
pub struct Set {
    host: Host,
    pub kind: SetKind,
    /// The translator above them, or the one to the only brick.
    pub node: Node,
}

impl Set {
    /// The set that has `file`, also when rebalance is about to move it from there: of that its bricks know. `EBUSY` if it has just
    /// gone, `ESTALE` if none has it; else what one says that can't tell.
    pub fn of(host: Host, file: &mut ClientFile, top: Node) -> Result<Set, i32> {
        let mut unsure = libc::ESTALE;
        for (kind, node) in sets(top) {
            match file.is_sticky_with(node, LINKTO) {
                Ok(false) => return Ok(Set { host, kind, node }),
                // A link file (`check_is_linkfile` of cluster/dht): the data is in another set, or on its way here.
                Ok(true) => unsure = libc::EBUSY,
                Err(libc::ENOENT | libc::ESTALE) => {}
                Err(errno) => unsure = errno,
            }
        }
        Err(unsure)
    }

    /// The same where there is but one set, without asking whether that has the file: what is locked then says so.
    pub fn likely(host: Host, file: &mut ClientFile, top: Node) -> Result<Set, i32> {
        match sets(top)[..] {
            [(kind, node)] => Ok(Set { host, kind, node }),
            _ => Self::of(host, file, top),
        }
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

    /// Each brick, what its fsnap says or the errno with which it does not, and, given the name of a snapshot, whether another brick knows
    /// that its copy of that is not right:
    /// `{"version":1,"bricks":[{"name","host","path","status":{…}|null,"errno":N,"blamed":bool}],"unsettled":bool,"snapshot":…}`:
    /// whether it [is unsettled](Told::is_unsettled), and at last the snapshot, as `info` answers, `null` if no brick knows it.
    pub fn describe(&self, file: &mut ClientFile, name: Option<&SnapName>) -> String {
        let told = self.told(file, name);
        let bricks: Vec<Value> = told.0.iter().map(|brick| brick.json(told.blames(brick))).collect();
        json!({ "version": 1, "bricks": bricks, "unsettled": told.is_unsettled(), "snapshot": told.snapshot().ok() })
            .to_string()
    }

    /// What each brick says of itself, and of a snapshot. All are asked at once.
    pub fn told(&self, file: &mut ClientFile, name: Option<&SnapName>) -> Told {
        let told = of_each(self.host, file, &self.bricks(), |file, brick| {
            let marks = name.map(|name| marks(file, brick, name)).unwrap_or_default();
            let status = ask(file, brick, "status");
            let info = name.map_or(Err(libc::ENODATA), |name| ask(file, brick, &format!("info.{name}")));
            (brick, status, marks, info)
        });
        let brick = |((brick, status, marks, info), blame)| Brick { brick, blame, status, marks, info };
        Told(told.into_iter().zip(self.pending()).map(brick).collect())
    }

    /// Of each brick the mark by which others blame it, where bricks do that.
    fn pending(&self) -> impl Iterator<Item = String> {
        let names = self.node.option("afr-pending-xattr").unwrap_or_default();
        let marks: Vec<String> = names.split(',').map(|name| format!("{}{name}", afr::PREFIX)).collect();
        marks.into_iter().chain(std::iter::repeat(String::new()))
    }
}

/// What each of the bricks says.
pub struct Told(Vec<Brick>);

struct Brick {
    brick: Node,
    /// The mark by which others blame it.
    blame: String,
    status: Result<Value, i32>,
    /// Those of the replicate translator that the snapshot has here.
    marks: Vec<String>,
    /// The snapshot.
    info: Result<Value, i32>,
}

impl Told {
    /// Whether the snapshot may differ between the bricks that can be reached: one of them has marked it as being changed, or blames
    /// another.
    pub fn is_unsettled(&self) -> bool {
        self.0.iter().any(|brick| {
            brick.marks.iter().any(|mark| mark == afr::DIRTY) || (self.blames(brick) && brick.status.is_ok())
        })
    }

    /// Whether another brick knows that the copy of this one is not right.
    fn blames(&self, brick: &Brick) -> bool {
        self.0.iter().any(|other| other.marks.contains(&brick.blame))
    }

    /// What `info` answers, as most of the bricks know it that do. They are asked one by one: the disperse translator asks one
    /// brick, and answers `EIO` if that is just being healed (`ec_complete`).
    ///
    /// What the first brick says if none knows: `ENODATA` if it has no such snapshot.
    pub fn snapshot(&self) -> Result<&Value, i32> {
        let known: Vec<&Value> = self.0.iter().filter_map(|brick| brick.info.as_ref().ok()).collect();
        let count = |value: &&&Value| known.iter().filter(|other| *other == *value).count();
        match (known.iter().max_by_key(count), self.0.first()) {
            (Some(most), _) => Ok(most),
            (None, Some(Brick { info: Err(errno), .. })) => Err(*errno),
            (None, _) => Err(libc::EIO),
        }
    }
}

impl Brick {
    fn json(&self, blamed: bool) -> Value {
        json!({
            "name": self.brick.name().to_string_lossy(),
            "host": self.brick.option("remote-host"),
            "path": self.brick.option("remote-subvolume"),
            "status": self.status.as_ref().ok(),
            "errno": self.status.as_ref().err().unwrap_or(&0),
            "blamed": blamed,
        })
    }
}

/// The marks of the replicate translator that a snapshot has on a brick; none if that can't be told.
fn marks(file: &mut ClientFile, brick: Node, name: &SnapName) -> Vec<String> {
    let answer = ask(file, brick, &format!("marks.{name}")).ok();
    let marks = answer.and_then(|mut answer| serde_json::from_value(answer["marks"].take()).ok());
    marks.unwrap_or_default()
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
