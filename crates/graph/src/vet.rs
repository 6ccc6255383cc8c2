//! Whether a volfile is one that a process may be made of, whoever it came from. GlusterFS itself does not ask: it loads the
//! shared object that a type or a transport names, relative to the directory of its own (`xlator_dynload`, `rpc_transport_load`),
//! and runs commands that it finds between backquotes (`preprocess` of graph.y).

use std::fmt;

use crate::volfile::{Translator, Volfile};

/// The types of translators that GlusterFS 10 and 11 have for clients: those that glusterd puts into client volfiles
/// (`client_graph_builder`, `check_and_add_debug_xl` and what they call), under each of their names.
const SHIPPED: &[&str] = &[
    "cluster/disperse",
    "cluster/distribute",
    "cluster/nufa",
    "cluster/replicate",
    "cluster/switch",
    "debug/delay-gen",
    "debug/error-gen",
    "debug/io-stats",
    "debug/sink",
    "debug/trace",
    "features/cdc",
    "features/cloudsync",
    "features/gfid-access",
    "features/quiesce",
    "features/quota",
    "features/read-only",
    "features/shard",
    "features/snapview-client",
    "features/utime",
    "performance/io-cache",
    "performance/io-threads",
    "performance/md-cache",
    "performance/nl-cache",
    "performance/open-behind",
    "performance/quick-read",
    "performance/read-ahead",
    "performance/readdir-ahead",
    "performance/stat-prefetch",
    "performance/write-behind",
    "protocol/client",
];

const INTERNET: &[&str] = &["inet", "inet6", "unspec"];

/// What an option that decides which code is loaded, or what kind of socket is made, may say.
const ONLY: &[(&str, &[&str])] = &[
    ("transport-type", &["tcp", "socket"]),
    ("transport.address-family", INTERNET),
    ("address-family", INTERNET),
];

/// Options of a socket in the file system, with whatever is before them: it would be made, or connected to, as the caller.
const SOCKETS: &[&str] = &["bind-path", "connect-path", "listen-path"];

/// The words of volfiles, which are nothing else in any place.
const WORDS: &[&str] = &["volume", "type", "option", "subvolume", "subvolumes", "end-volume"];

/// Why a volfile is not used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Objection {
    /// A translator of this type is not known.
    Type(String),
    /// An option, and its value.
    Option(String, String),
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Objection::Type(kind) => write!(
                f,
                "it has a translator of type \"{}\", which is none that GlusterFS 10 or 11 has for clients, and is not loaded",
                shown(kind)
            ),
            Objection::Option(name, value) => {
                write!(f, "it has \"option {} {}\", which is not allowed there", shown(name), shown(value))
            }
        }
    }
}

/// What somebody else has written, on a terminal.
fn shown(text: &str) -> String {
    const LONGEST: usize = 80;
    let cut = if text.chars().count() > LONGEST { "…" } else { "" };
    text.chars().take(LONGEST).flat_map(char::escape_default).collect::<String>() + cut
}

/// Whether it may be loaded.
pub fn vet(volfile: &Volfile) -> Result<(), Objection> {
    for Translator { kind, options, .. } in volfile.translators() {
        if !SHIPPED.contains(&kind.as_str()) {
            return Err(Objection::Type(kind.clone()));
        }
        for (name, value) in options {
            let only = ONLY.iter().find(|(other, _)| other == name).map(|(_, values)| values);
            let socket = name.rsplit('.').next().is_some_and(|last| SOCKETS.contains(&last));
            if socket || only.is_some_and(|values| !values.contains(&value.as_str())) {
                return Err(Objection::Option(name.clone(), value.clone()));
            }
        }
    }
    Ok(())
}

/// Whether GlusterFS takes `text` for one word and nothing more: its lexer (graph.l) goes by words, not by lines.
pub fn is_word(text: &str) -> bool {
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && !['`', '"', '\\'].contains(&c);
    !text.is_empty() && !text.starts_with('#') && text.chars().all(plain) && !WORDS.contains(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vetted(kind: &str, option: &str) -> Option<Result<(), Objection>> {
        let text = format!("volume v\n    type {kind}\n    option {option}\nend-volume\n");
        Volfile::parse(&text).map(|volfile| vet(&volfile))
    }

    #[test]
    fn what_glusterfs_has_is_loaded() {
        for kind in SHIPPED {
            assert_eq!(vetted(kind, "transport-type tcp"), Some(Ok(())), "{kind}");
        }
        for fine in
            ["remote-subvolume /bricks/b1", "transport.socket.ssl-own-cert /etc/ssl/a.pem", "a Ünï-code"]
        {
            assert_eq!(vetted("protocol/client", fine), Some(Ok(())), "{fine}");
        }
    }

    #[test]
    fn other_types_are_not() {
        for kind in [
            "../../../../../tmp/evil",
            "performance/../../../../../tmp/evil",
            "performance/",
            "performance/unknown",
            "/tmp/evil",
            "global",
            "user/fsnap-client",
            "storage/posix",
            "protocol/server",
            "mount/fuse",
            "Cluster/distribute",
        ] {
            assert_eq!(vetted(kind, "a b"), Some(Err(Objection::Type(kind.into()))), "{kind}");
        }
        let without = Volfile::parse("volume v\nend-volume").map(|volfile| vet(&volfile));
        assert_eq!(without, Some(Err(Objection::Type(String::new()))));
    }

    #[test]
    fn options_that_load_or_make_something() {
        for bad in [
            "transport-type ../../../../../tmp/evil",
            "transport-type rdma",
            "transport-type unix",
            "transport.address-family unix",
            "transport.socket.bind-path /etc/cron.d/x",
            "transport.socket.connect-path /run/evil",
            "bind-path /x",
        ] {
            let (name, value) = bad.split_once(' ').unwrap();
            let objection = Objection::Option(name.into(), value.into());
            assert_eq!(vetted("protocol/client", bad), Some(Err(objection)), "{bad}");
        }
    }

    #[test]
    fn what_glusterfs_would_read_otherwise_is_no_volfile() {
        for bad in [
            "a `touch /tmp/x`",
            "a `x`",
            "a b type ../../evil",
            "a b\rtype ../../evil",
            "a b\x0btype",
            "a \"b",
            "a \"b c\"",
            "a b\\",
            "a #b",
            "a",
            "a type",
            "volume b",
            "a b\0",
        ] {
            assert_eq!(vetted("protocol/client", bad), None, "{bad:?}");
        }
        for kind in ["protocol/client option a b", "`x`", "protocol/client\r"] {
            assert_eq!(vetted(kind, "a b"), None, "{kind:?}");
        }
    }

    #[test]
    fn messages_are_for_a_terminal() {
        let text = Objection::Type(format!("\x1b[2J{}", "x".repeat(500))).to_string();
        assert!(text.contains("\\u{1b}[2Jxxx") && text.len() < 260, "{text}");
    }
}
