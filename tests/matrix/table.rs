//! What is known of options: those that change what operations do, each tried on its own, and those that are left out.

use fsnap_testbed::Errno;

use super::Setting;

/// What is known of a setting.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// `OPTION=VALUE …`
    options: &'static str,
    /// `gluster volume VERB VOLUME REST`, as `VERB REST`, when the volume runs.
    pub commands: &'static [&'static str],
    /// There are files already when it takes effect: it lets nobody make any, or it leaves those alone that were there before.
    pub late: bool,
    /// Snapshots go with their files (`on-unlink purge`), so that nobody needs to delete them.
    pub purge: bool,
    /// Some reads and writes fail there at random, without fsnap too: answers that tell of it, what is read, and contents are not
    /// compared.
    pub io_fails: bool,
    /// What taking a snapshot is answered.
    pub snapshots: Result<(), Errno>,
}

pub const PLAIN: Known =
    Known { options: "", commands: &[], late: false, purge: false, io_fails: false, snapshots: Ok(()) };

const fn set(options: &'static str) -> Known {
    Known { options, ..PLAIN }
}

const fn late(options: &'static str) -> Known {
    Known { options, late: true, ..PLAIN }
}

/// They change what operations do, or who may do what, or a translator comes into the graph.
const ALONE: &[Known] = &[
    PLAIN,
    Known { purge: true, ..PLAIN },
    set("features.trash=on"),
    set(
        "features.trash=on features.trash-internal-op=on features.trash-max-filesize=4KB features.trash-eliminate-path=t/names",
    ),
    set("features.trash=on features.trash-dir=bin"),
    late("features.read-only=on"),
    late("features.worm=on"),
    late("features.worm-file-level=on"),
    late("features.worm-file-level=on features.worm-files-deletable=off features.retention-mode=enterprise"),
    set("features.sdfs=on"),
    set("features.leases=on features.lease-lock-recall-timeout=10"),
    set("features.ctime=off"),
    // fsnap finds a file's name by it (docs/semantics.md, EOPNOTSUPP).
    Known { options: "storage.gfid2path=off", snapshots: Err(Errno::EOPNOTSUPP), ..PLAIN },
    set("storage.build-pgfid=on"),
    set("features.barrier-timeout=1 features.barrier=on"),
    set("features.cache-invalidation=on features.cache-invalidation-timeout=10"),
    set("features.selinux=off"),
    set("network.compression=on"),
    set("features.acl=off"),
    set("locks.mandatory-locking=forced"),
    set("locks.mandatory-locking=optimal features.enforce-mandatory-lock=on"),
    set("storage.create-mask=0750 storage.create-directory-mask=0770"),
    set("storage.force-create-mode=0222 storage.force-directory-mode=0555"),
    set("storage.owner-uid=1000 storage.owner-gid=1000"),
    set("storage.max-hardlinks=1"),
    // EINVAL, of 10.3: it turns O_DIRECT on and off in a file while other requests are under way.
    Known { options: "storage.linux-aio=on", io_fails: true, ..PLAIN },
    set("storage.linux-io_uring=on"),
    set("storage.batch-fsync-delay-usec=1000 storage.batch-fsync-mode=syncfs"),
    // With a limit of 1 a directory is sometimes answered as stale after a rename that has failed, without fsnap too.
    set("network.inode-lru-limit=30"),
    set("changelog.changelog=on changelog.capture-del-path=on"),
    set("geo-replication.indexing=on"),
    set("features.tag-namespaces=on"),
    // Only root may delete snapshots of deleted files, and nobody is root here.
    Known { options: "server.root-squash=on", purge: true, ..PLAIN },
    Known { options: "server.all-squash=on", purge: true, ..PLAIN },
    set("server.manage-gids=on"),
    set("performance.iot-pass-through=on"),
    // Blocks that are shared are not what quota counts. It counts inodes as well, without another command.
    Known { commands: &["quota enable"], late: true, snapshots: Err(Errno::EOPNOTSUPP), ..PLAIN },
    Known { commands: &["bitrot enable"], ..PLAIN },
];

/// Each of those that change something, as settings.
pub fn alone() -> Vec<Setting> {
    let pairs = |options: &str| {
        let pairs = options.split_whitespace().map(|pair| pair.split_once('=').expect("OPTION=VALUE"));
        pairs.map(|(option, value)| (option.to_owned(), value.to_owned())).collect()
    };
    ALONE.iter().map(|known| Setting { options: pairs(known.options), known: *known }).collect()
}

/// Options that are tried by other means than a setting of a brick, or not at all, and why.
pub const LEFT_OUT: &[(&str, &str)] = &[
    ("auth.", "who may connect at all: fsnap sees nobody who may not"),
    ("server.allow-insecure", "who may connect at all"),
    ("ssl.", "of connections; the volume would need keys and certificates"),
    ("server.ssl", "of connections; the volume would need keys and certificates"),
    ("client.ssl", "of connections; the volume would need keys and certificates"),
    ("transport.address-family", "of connections"),
    ("nfs.", "of a server of its own, which Debian does not build"),
    ("ganesha.", "of a server of its own"),
    ("cluster.metadata-self-heal", "of replicate, a translator of clients and of the self-heal daemon"),
    ("cluster.data-self-heal", "of replicate"),
    ("cluster.entry-self-heal", "of replicate"),
    ("cluster.self-heal-daemon", "of replicate"),
    ("cluster.disperse-self-heal-daemon", "of disperse"),
    ("cluster.shd-max-threads", "of the self-heal daemon"),
    ("disperse.shd-max-threads", "of the self-heal daemon"),
    ("disperse.quorum-count", "of disperse, a translator of clients"),
    ("cluster.server-quorum-ratio", "of glusterd: when it stops bricks"),
    ("cluster.enable-shared-storage", "of glusterd: it makes a volume"),
    ("cluster.daemon-log-level", "of daemons that are not bricks"),
    ("cluster.brick-multiplex", "of all volumes; tests/concurrency.rs"),
    ("cluster.brick-graceful-cleanup", "of all volumes; the end of bricks under multiplexing"),
    ("cluster.max-bricks-per-process", "of multiplexing"),
    ("glusterd.vol_count_per_thread", "of glusterd"),
    ("features.quota-deem-statfs", "of quota: what df shows"),
    ("features.quota", "a command of its own: see the settings"),
    ("features.inode-quota", "a command of its own: see the settings"),
    ("features.bitrot", "a command of its own: see the settings"),
    ("features.scrub", "of the scrubber, a client of the brick"),
    ("features.snapshot-directory", "of snapshots of whole volumes, in clients"),
    ("changelog.changelog-dir", "a place on the server's disk"),
    ("server.statedump-path", "a place on the server's disk"),
];

/// Legal values of options that do not tell theirs, or of which one should not be taken at random.
pub const VALUES: &[(&str, &str)] = &[
    ("network.tcp-window-size", "262144"),
    ("storage.gfid2path-separator", ";"),
    ("storage.reserve", "3"),
    ("server.keepalive-count", "5"),
    // A switch, though its default is a number.
    ("transport.keepalive", "0"),
    ("server.anonuid", "1234"),
    ("server.anongid", "1234"),
];
