//! A private client graph: the volume as a client sees it, without caches, with `user/fsnap-client` on top, in a process of our
//! own. No mount and no volfile of the volume changes.
//!
//! It is never taken down: that takes long, and the end of the process does it as well.

mod gfapi;
mod glusterd;
mod ports;
mod reason;
mod vet;
mod volfile;

use std::ffi::{CStr, CString};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use fsnap_core::Gfid;
use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};

use gfapi::Glfs;
pub use gfapi::{Content, Object, Undisturbed, end};
use glusterd::Known;
pub use reason::{Reason, Trouble};
pub use vet::Objection;
use vet::vet;
use volfile::Volfile;

/// What a private graph has nothing of: caches, which would answer what another client has changed, or hold back what is
/// written.
const LEFT_OUT: &[&str] = &["performance/"];
/// What is told the volume's id. Else the connections to the bricks take it from the answer of the first brick, each in its own
/// thread: GlusterFS 10 and 11 do not copy it in one piece, and with a part of it bricks refuse the client, for good
/// (`client_setvolume`, "Volume-ID different").
const KNOWS_ID: &str = "debug/io-stats";
const CLIENT: &str = "user/fsnap-client";
/// Where GlusterFS looks for translators, and which of them most graphs have, beside the transport of their connections.
const TRANSLATORS: &str = env!("FSNAP_TRANSLATORS");
const USUAL: &[&str] = &[
    "../rpc-transport/socket",
    "protocol/client",
    "cluster/distribute",
    "cluster/replicate",
    CLIENT,
    "features/utime",
    "debug/io-stats",
];

/// Where this is, processes of GlusterFS ask for volfiles over TLS only (`SECURE_ACCESS_FILE`).
const SECURE_ACCESS: &str = "/var/lib/glusterd/secure-access";

/// How often a volfile is asked for that can't be had, and how long after each.
const TRIES: usize = 4;
const PAUSE: Duration = Duration::from_secs(1);
/// How long a graph may take to come to its bricks if it may be that it never does.
const CONNECTED_WITHIN: Duration = Duration::from_secs(15);

/// Why there is no graph.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No volfile could be had.
    #[error("the volfile of {volume} can't be had: {}", missing(servers, *errno))]
    NoVolfile {
        /// The volume's name.
        volume: String,
        /// The servers that were asked.
        servers: String,
        /// What libgfapi says.
        errno: Errno,
    },
    /// The volfile can't be read.
    #[error("the volfile of {0} can't be understood: is this fsnap too old for it?")]
    Strange(String),
    /// The volfile is not one to make a process of.
    #[error(
        "the volfile of {volume} that {servers} gave is not used: {objection}. If the volume is to be like that, commands set on the \
         mount (setfattr) do without it; see \"Whom the command trusts\" in docs/command.md"
    )]
    Refused {
        /// The volume's name.
        volume: String,
        /// The servers that were asked.
        servers: String,
        /// What is wrong with it.
        objection: Objection,
    },
    /// The graph can't be started.
    #[error("{volume}: {reason}")]
    NotConnected {
        /// The volume's name.
        volume: String,
        /// What is wrong.
        reason: Reason,
    },
    /// Something else went wrong.
    #[error("{0}")]
    Os(#[from] Errno),
}

/// A volume from which private graphs are made.
pub struct Volume {
    name: String,
    log: CString,
    /// What the first graph is made in, as soon as it is there.
    spare: Mutex<Option<JoinHandle<Option<Glfs>>>>,
    volfile: Volfile,
    /// As glusterd knows it, if it has told.
    id: Option<Gfid>,
}

impl Volume {
    /// Fetches the client volfile of `volume` from one of `servers`, which are separated by commas. `log` is where libgfapi
    /// writes its log.
    pub fn fetch(servers: &str, volume: &str, log: &CStr) -> Result<Volume, Error> {
        let spare = prepare(volume, log);
        let fetch = || {
            for _ in 1..TRIES {
                match Self::fetch_once(servers, volume, log) {
                    // glusterd may be writing it.
                    Err(Error::NoVolfile { errno: Errno::EIO, .. }) => std::thread::sleep(PAUSE),
                    fetched => return fetched,
                }
            }
            Self::fetch_once(servers, volume, log)
        };
        let mut fetched = fetch()?;
        fetched.spare = Mutex::new(spare);
        Ok(fetched)
    }

    /// The volume as the client of a mount has it: `graph` is what that says of its graph (`.meta/graphs/active/volfile`), and `source` what
    /// it is mounted from, for people. No glusterd is asked for it.
    pub fn of_mount(graph: &str, source: &str, volume: &str, log: &CStr) -> Result<Volume, Error> {
        let mut volfile = Volfile::parse(graph).ok_or_else(|| Error::Strange(volume.into()))?;
        // What shows that itself.
        volfile.leave_out(&["meta"]);
        let id = volfile.option(KNOWS_ID, "volume-id").and_then(|id| Gfid::parse(id).ok());
        Self::vetted(volfile, id, source, volume, log)
    }

    fn vetted(
        volfile: Volfile,
        id: Option<Gfid>,
        servers: &str,
        volume: &str,
        log: &CStr,
    ) -> Result<Volume, Error> {
        vet(&volfile).map_err(|objection| Error::Refused {
            volume: volume.into(),
            servers: servers.into(),
            objection,
        })?;
        let spare = Mutex::default();
        Ok(Volume { name: volume.to_owned(), log: log.to_owned(), spare, volfile, id })
    }

    fn fetch_once(servers: &str, volume: &str, log: &CStr) -> Result<Volume, Error> {
        // glusterd proves there who it is, and libgfapi knows how to talk to it.
        let secured = Path::new(SECURE_ACCESS).exists();
        let known = match secured {
            true => known_to_gfapi(servers, volume, log)?,
            false => known_to_glusterd(servers, volume),
        };
        let failed = |errno| match reason::unreadable_tls().filter(|_| secured) {
            Some(reason) => Error::NotConnected { volume: volume.into(), reason },
            None => Error::NoVolfile { volume: volume.into(), servers: servers.into(), errno },
        };
        let Known { volfile, id } = known.map_err(failed)?;
        let volfile = Volfile::parse(&volfile).ok_or_else(|| Error::Strange(volume.into()))?;
        Self::vetted(volfile, id, servers, volume, log)
    }

    /// A graph whose root is the directory `top` of the volume, which may be all that bricks let this machine see (`auth.allow`), and that
    /// does not reach the bricks whose translators are named in `without`. `options` are those of our translator.
    pub fn graph(&self, top: &Path, without: &[String], options: &[(&str, &str)]) -> Result<Graph, Error> {
        let mut volfile = self.volfile.clone();
        volfile.leave_out(LEFT_OUT);
        // Whatever else it is told it would do (write files of statistics).
        volfile.strip(KNOWS_ID);
        if let Some(id) = self.id {
            volfile.set(|_, kind| kind == KNOWS_ID, "volume-id", &id.to_string());
        }
        // Nothing may be left to do once a call is answered: the process may end then.
        volfile.set(|_, kind| kind == "cluster/disperse", "eager-lock", "off");
        volfile.set(|_, kind| kind == "cluster/disperse", "other-eager-lock", "off");
        // Nor is it for this graph to heal.
        volfile.set(|_, kind| kind == "cluster/disperse", "background-heals", "0");
        for what in ["data-self-heal", "metadata-self-heal", "entry-self-heal"] {
            volfile.set(|_, kind| kind == "cluster/replicate", what, "off");
        }
        volfile.set(|_, kind| kind == "cluster/replicate", "eager-lock", "off");
        volfile.set(|_, kind| kind == "cluster/replicate", "post-op-delay-secs", "0");
        for (option, value) in
            [("remote-host", "127.0.0.1"), ("remote-port", "1"), ("transport.address-family", "inet")]
        {
            volfile.set(|name, _| without.iter().any(|other| other == name), option, value);
        }
        // It proves there who it is.
        if !Path::new(SECURE_ACCESS).exists() {
            ports::tell(&mut volfile);
        }
        let mut options = options.to_vec();
        // Any bytes, which a volfile can't have.
        let digits = hex::encode(top.as_os_str().as_bytes());
        if top != Path::new("/") {
            options.push(("subdir", &digits));
        }
        volfile.put_on_top(&format!("{}-fsnap-client", self.name), CLIENT, &options);
        let file = memfd_create(c"volfile", MFdFlags::MFD_CLOEXEC)?;
        let mut file = std::fs::File::from(file);
        file.write_all(volfile.to_string().as_bytes()).map_err(|_| Errno::ENOMEM)?;
        let name = CString::new(self.name.as_str()).map_err(|_| Errno::EINVAL)?;
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mount = match spare.and_then(|spare| spare.join().ok().flatten()) {
            Some(mount) => mount,
            None => Glfs::new(&name, &self.log)?,
        };
        mount.make_by(&file)?;
        let failed = |_| Error::NotConnected { volume: self.name.clone(), reason: Reason::of(&self.volfile) };
        match top == Path::new("/") {
            true => mount.connect().map_err(failed)?,
            // Of a brick without that directory nothing is heard at all (`client_setvolume_cbk`).
            false => mount.connect_within(CONNECTED_WITHIN).map_err(failed)?,
        }
        Ok(Graph(mount))
    }
}

/// Does what a graph of any volume needs, while glusterd is asked for the volfile.
fn prepare(volume: &str, log: &CStr) -> Option<JoinHandle<Option<Glfs>>> {
    let (name, log) = (CString::new(volume).ok()?, log.to_owned());
    let body = move || {
        let mount = Glfs::new(&name, &log).ok();
        gfapi::load(USUAL.iter().map(|name| Path::new(TRANSLATORS).join(format!("{name}.so"))));
        mount
    };
    Builder::new().name("fsnap-prepare".into()).spawn(body).ok()
}

/// What a volfile that can't be had is answered with, in words.
fn missing(servers: &str, errno: Errno) -> String {
    match errno {
        Errno::ENOENT => format!("{servers} has no volume of that name (any more)"),
        Errno::EIO => format!("{servers} has none: is the volume started?"),
        errno => format!(
            "no glusterd answers on {servers} ({}): is glusterd up there?{}",
            errno.desc(),
            wants_tls(errno)
        ),
    }
}

/// What else it may be, if a glusterd has closed the connection.
fn wants_tls(errno: Errno) -> String {
    match errno {
        Errno::ECONNRESET | Errno::EPIPE | Errno::EPROTO => {
            format!(" It may want TLS, which {SECURE_ACCESS} switches on")
        }
        _ => String::new(),
    }
}

/// What the first of `servers` that answers knows of `volume`, or how the last has failed.
fn known_to_glusterd(servers: &str, volume: &str) -> Result<Known, Errno> {
    let mut known = Err(Errno::EINVAL);
    for server in servers.split(',') {
        known = glusterd::ask(server, volume);
        if known.is_ok() {
            break;
        }
    }
    known
}

/// The same, by a graph of libgfapi's, which stays.
fn known_to_gfapi(servers: &str, volume: &str, log: &CStr) -> Result<Result<Known, Errno>, Error> {
    let text = |text: &str| CString::new(text).map_err(|_| Errno::EINVAL);
    let fetched = Glfs::new(&text(volume)?, log)?;
    for server in servers.split(',') {
        fetched.ask(&text(server)?)?;
    }
    // It may have the volfile and too few bricks: that is said with the private graph, if it is so there.
    let connected = fetched.connect();
    let volfile = fetched.volfile().map_err(|errno| connected.err().unwrap_or(errno));
    let id = fetched.volume_id().ok();
    Ok(volfile.map(|volfile| Known { volfile, id }))
}

/// A private client graph, connected.
pub struct Graph(Glfs);

impl Graph {
    /// The gfid of the regular file at `path`, which begins at the volume's root and has no symbolic links.
    ///
    /// `EINVAL` if something else is there, or what the volume says. A look by its name waits for nobody, unlike one at a file's
    /// attributes.
    pub fn find(&self, path: &Path) -> Result<Gfid, Errno> {
        let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
        self.0.find(&path)
    }

    /// The directory at `path`, which begins at the volume's root and has no symbolic links. `ENOTDIR` if something else is there, or
    /// what the volume says.
    pub fn directory(&self, path: &Path) -> Result<Object<'_>, Errno> {
        let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
        self.0.directory(&path)
    }

    /// The file with this gfid. `ESTALE` or `ENOENT` if there is none.
    pub fn file(&self, gfid: Gfid) -> Result<Object<'_>, Errno> {
        self.0.object(gfid)
    }
}
