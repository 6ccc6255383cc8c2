//! Why a graph does not come to its bricks, found out afterwards: of libgfapi one hears no more than an errno.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::glusterd::{ANSWERED_WITHIN, CONNECTED_WITHIN, Glusterd};
use crate::volfile::{Translator, Volfile};
use crate::{CLIENT, SECURE_ACCESS, TRANSLATORS, glusterd, wants_tls};

/// Where GlusterFS has the files of TLS if its options do not say (`SSL_CERT_PATH` of socket.c, which is what OpenSSL was built for).
const TLS: [&str; 2] = ["/usr/lib/ssl", "/etc/ssl"];
/// Those files, and the options.
const TLS_FILES: [(&str, &str); 3] = [
    ("transport.socket.ssl-private-key", "glusterfs.key"),
    ("transport.socket.ssl-own-cert", "glusterfs.pem"),
    ("transport.socket.ssl-ca-list", "glusterfs.ca"),
];

/// Of how many bricks is told what is wrong.
const TOLD: usize = 3;

/// What is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reason {
    /// There is no translator, or one that can't be read.
    Library(PathBuf, Errno),
    /// A file of TLS can't be read by who asks.
    Tls(PathBuf, Errno),
    /// Bricks that can't be reached.
    Bricks(Vec<Trouble>),
    /// Nothing that could be seen.
    Refused,
}

/// What is wrong with a brick.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// There is no glusterd on this server that would tell its port.
    Glusterd(String, Errno),
    /// It is not running.
    Brick(String),
    /// It can't be reached.
    Port(String, Errno),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Library(path, errno) => write!(
                f,
                "fsnap is not installed here as {CLIENT} ({}: {}), which this needs",
                path.display(),
                errno.desc()
            ),
            Reason::Tls(path, errno) => write!(
                f,
                "the volume is to be talked to over TLS, and {} can't be read by whoever runs this ({}): have root run it",
                path.display(),
                errno.desc()
            ),
            Reason::Bricks(troubles) => {
                write!(f, "too few bricks can be reached: ")?;
                for (n, trouble) in troubles.iter().take(TOLD).enumerate() {
                    write!(f, "{}{trouble}", if n > 0 { "; " } else { "" })?;
                }
                match troubles.len().saturating_sub(TOLD) {
                    0 => Ok(()),
                    more => write!(f, "; and {more} more"),
                }
            }
            Reason::Refused => write!(
                f,
                "its bricks can be reached, and do not let this machine, or this user, in: see auth.allow, auth.reject, \
                 server.allow-insecure, auth.ssl-allow and client.ssl in `gluster volume info`, and the logs of the bricks"
            ),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Glusterd(server, errno) => {
                write!(
                    f,
                    "no glusterd answers on {server} ({}), which would tell where its bricks are: is glusterd up there?{}",
                    errno.desc(),
                    wants_tls(*errno)
                )
            }
            Trouble::Brick(brick) => write!(f, "brick {brick} is not running (`gluster volume status`)"),
            Trouble::Port(brick, errno) => {
                write!(f, "brick {brick} can't be reached ({}): is there a firewall?", errno.desc())
            }
        }
    }
}

impl Reason {
    /// Why a graph of this volfile, with our translator on top, has not come to its bricks.
    pub fn of(volfile: &Volfile) -> Reason {
        let library = Path::new(TRANSLATORS).join(CLIENT).with_extension("so");
        if let Err(errno) = readable(&library) {
            return Reason::Library(library, errno);
        }
        let clients =
            || volfile.translators().iter().filter(|translator| translator.kind == "protocol/client");
        let tls = |translator: &Translator| {
            ["on", "yes", "true", "enable", "1"]
                .contains(&option(translator, "transport.socket.ssl-enabled").unwrap_or_default())
        };
        let secured = Path::new(SECURE_ACCESS).exists();
        if let Some(client) = clients().find(|client| secured || tls(client))
            && let Some((file, errno)) = unreadable(|name| option(client, name))
        {
            return Reason::Tls(file, errno);
        }
        if secured {
            // It would not answer.
            return Reason::Refused;
        }
        let mut troubles = Vec::new();
        for client in clients() {
            let (Some(host), Some(brick)) =
                (option(client, "remote-host"), option(client, "remote-subvolume"))
            else {
                continue;
            };
            if let Some(trouble) = trouble(host, brick)
                && !troubles.contains(&trouble)
            {
                troubles.push(trouble);
            }
            if troubles.len() == TOLD {
                break;
            }
        }
        if troubles.is_empty() { Reason::Refused } else { Reason::Bricks(troubles) }
    }
}

/// The file of TLS that can't be read, where those are that processes of GlusterFS take if nothing else is said.
pub fn unreadable_tls() -> Option<Reason> {
    unreadable(|_| None).map(|(file, errno)| Reason::Tls(file, errno))
}

fn unreadable<'a>(said: impl Fn(&str) -> Option<&'a str>) -> Option<(PathBuf, Errno)> {
    let dir = TLS.iter().find(|dir| Path::new(dir).exists()).unwrap_or(&TLS[0]);
    TLS_FILES.iter().find_map(|(name, file)| {
        let path = said(name).map_or_else(|| Path::new(dir).join(file), PathBuf::from);
        readable(&path).err().map(|errno| (path, errno))
    })
}

/// The value of an option of a translator.
pub fn option<'a>(translator: &'a Translator, name: &str) -> Option<&'a str> {
    translator.options.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

fn trouble(host: &str, brick: &str) -> Option<Trouble> {
    let shown = format!("{host}:{brick}");
    match Glusterd::reach(host, CONNECTED_WITHIN, ANSWERED_WITHIN)
        .and_then(|mut glusterd| glusterd.port_of(brick))
    {
        Err(errno) => Some(Trouble::Glusterd(host.into(), errno)),
        Ok(None) => Some(Trouble::Brick(shown)),
        Ok(Some(port)) => {
            let reached = glusterd::reach(host, port, CONNECTED_WITHIN);
            reached.err().map(|error| Trouble::Port(shown, glusterd::errno(error)))
        }
    }
}

/// `EACCES`, for instance. Nothing but a regular file is opened.
fn readable(path: &Path) -> Result<(), Errno> {
    let errno = |error: io::Error| glusterd::errno(error);
    match std::fs::metadata(path).map_err(errno)?.is_file() {
        true => File::open(path).map(drop).map_err(errno),
        false => Err(Errno::EINVAL),
    }
}
