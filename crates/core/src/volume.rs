//! What glusterd recorded about a volume (`vols/VOLUME/info` in its working directory).

use serde::Serialize;

use crate::Gfid;

/// How a volume keeps its files.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum VolumeType {
    /// Each file whole, on one brick.
    Distribute,
    /// Each file whole, on several bricks.
    Replicate,
    /// Each file in fragments, on several bricks.
    Disperse,
}

impl VolumeType {
    /// From the word that is used for it.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "distribute" => Some(VolumeType::Distribute),
            "replicate" => Some(VolumeType::Replicate),
            "disperse" => Some(VolumeType::Disperse),
            _ => None,
        }
    }
}

/// What fsnap needs to know of a volume.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VolumeInfo {
    /// `volume-id`.
    pub id: Gfid,
    /// `type`; `None` for one that is not known here.
    pub kind: Option<VolumeType>,
    /// `changelog.changelog` is on: geo-replication learns of changes from a journal.
    pub changelog: bool,
    /// `features.trash` is on: it copies what a truncate cuts off, and loses the truncate's xdata.
    pub trash: bool,
    /// `features.quota` is on: it counts what comes by way of its translators.
    pub quota: bool,
    /// `cluster.extra-hash-regex` or `cluster.rsync-hash-regex` says what part of a name DHT hashes: which names belong to a brick is
    /// not known here.
    pub hashes_otherwise: bool,
    /// `cluster.extra-hash-regex` is set and `cluster.lookup-optimize` on: files that the expression fits, and that were made before
    /// it was set, are looked for where they are not.
    pub may_miss: bool,
}

impl VolumeInfo {
    /// Reads the file's `KEY=VALUE` lines; `None` if it does not say which volume it is about.
    ///
    /// Source: `dht_init_regex` of cluster/dht for `none`, `glusterd_store_volinfo_write` of mgmt/glusterd and `gf_cluster_type_t` (0 none, 2 replicate,
    /// 4 disperse; 1 and 3 were stripe, 5 was tier).
    pub fn parse(text: &str) -> Option<Self> {
        // Later lines override earlier ones, as in glusterd.
        let value = |key: &str| {
            text.lines().rev().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).map(str::trim)
        };
        let kind = match value("type") {
            Some("0") => Some(VolumeType::Distribute),
            Some("2") => Some(VolumeType::Replicate),
            Some("4") => Some(VolumeType::Disperse),
            _ => None,
        };
        // As gf_string2boolean reads them: in small letters or capitals.
        let off = ["off", "no", "0", "false", "disable"];
        let on = |key| value(key).is_some_and(|v| !off.iter().any(|word| word.eq_ignore_ascii_case(v)));
        let set = |key| value(key).is_some_and(|v| !v.is_empty());
        let extra = set("cluster.extra-hash-regex") && value("cluster.extra-hash-regex") != Some("none");
        Some(VolumeInfo {
            id: Gfid::parse(value("volume-id")?).ok()?,
            kind,
            changelog: on("changelog.changelog"),
            trash: on("features.trash"),
            quota: on("features.quota"),
            hashes_otherwise: extra || set("cluster.rsync-hash-regex"),
            may_miss: extra && (value("cluster.lookup-optimize").is_none() || on("cluster.lookup-optimize")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_glusterd_writes() {
        let info = "type=0\ncount=2\nvolume-id=11111111-2222-4333-8444-555555555555\nfeatures.quota=off\n";
        let read = VolumeInfo::parse(info).unwrap();
        assert_eq!((read.kind, read.changelog), (Some(VolumeType::Distribute), false));
        let on = VolumeInfo::parse(&format!("{info}changelog.changelog=on\n")).unwrap();
        assert!(on.changelog && !on.trash);
        assert!(!read.quota);
        assert!(VolumeInfo::parse(&info.replace("quota=off", "quota=on")).unwrap().quota);
        let off = VolumeInfo::parse(&format!("{info}changelog.changelog=OFF\n")).unwrap();
        assert!(!off.changelog);
        assert_eq!(
            VolumeInfo::parse(&info.replace("type=0", "type=4")).unwrap().kind,
            Some(VolumeType::Disperse)
        );
        assert_eq!(VolumeInfo::parse(&info.replace("type=0", "type=9")).unwrap().kind, None);
        let with = |lines: &str| {
            let read = VolumeInfo::parse(&format!("{info}{lines}")).unwrap();
            (read.hashes_otherwise, read.may_miss)
        };
        assert_eq!(with(""), (false, false));
        assert_eq!(with("cluster.extra-hash-regex=^([^@]+)@.+$\n"), (true, true));
        assert_eq!(
            with("cluster.extra-hash-regex=^([^@]+)@.+$\ncluster.lookup-optimize=off\n"),
            (true, false)
        );
        assert_eq!(with("cluster.extra-hash-regex=none\ncluster.lookup-optimize=on\n"), (false, false));
        assert_eq!(with("cluster.rsync-hash-regex=none\n"), (true, false));
        assert_eq!(VolumeInfo::parse("type=0\n"), None);
        assert_eq!(VolumeInfo::parse(""), None);
    }
}
