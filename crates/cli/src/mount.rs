//! Mounts, and which volume one is of: `/proc/self/mountinfo`, the only place that tells it to everybody.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use nix::unistd::Uid;

/// The type of FUSE mounts of GlusterFS.
const KIND: &str = "fuse.glusterfs";

/// A mount, as one line of mountinfo tells of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mount {
    /// Its number.
    id: u64,
    /// Where it is mounted.
    pub point: PathBuf,
    /// What of the file system is mounted there: `/`, or a directory if it is a bind mount.
    pub root: PathBuf,
    /// The type of the file system.
    pub kind: String,
    /// What is mounted; of GlusterFS mostly `SERVER:VOLUME`.
    pub source: String,
    /// Nothing may be changed by way of it, be it this mount or the file system.
    read_only: bool,
    /// Of a FUSE mount, who has made it.
    by: Option<u32>,
}

/// A volume, as the source of a mount names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MountSource {
    /// The server, or several separated by commas, that the client got the volfile from.
    pub server: String,
    /// The volume's name.
    pub name: String,
    /// The directory of the volume that is mounted, `/` if it is all of it.
    pub subdir: PathBuf,
}

/// The mount with this number, among those of `mountinfo`.
///
/// `InvalidInput` with a text if it is none of GlusterFS, or one that somebody else could have made to look like one.
pub fn trusted(mountinfo: &[u8], id: u64) -> io::Result<Mount> {
    let mount = mountinfo.split(|&b| b == b'\n').filter_map(parse_line).find(|mount| mount.id == id);
    let Some(mount) = mount else { return Err(elsewhere("an unknown file system")) };
    if mount.kind != KIND {
        return Err(elsewhere(&format!("{} at {}", mount.kind, mount.point.display())));
    }
    // Any user may mount what calls itself anything (fusermount, `subtype` and `fsname`); who it was the kernel says.
    match mount.by {
        Some(by) if by == 0 || by == Uid::effective().as_raw() => Ok(mount),
        by => {
            let by = by.map_or_else(|| "somebody unknown".to_owned(), |by| format!("user {by}"));
            let text = format!(
                "the mount at {} was made by {by}, who may have made it up: only mounts that root or you have made are used",
                mount.point.display()
            );
            Err(io::Error::new(io::ErrorKind::InvalidInput, text))
        }
    }
}

impl Mount {
    /// Whether nothing may be changed by way of it. A private client graph would not know.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Where `path`, without symbolic links, is from the root of the volume.
    pub fn in_volume(&self, path: &Path) -> PathBuf {
        self.beneath(self.volume().map_or_else(|| "/".into(), |volume| volume.subdir), path)
    }

    /// The same from what the client has mounted for its root, the whole volume or a directory of it.
    pub fn in_client(&self, path: &Path) -> PathBuf {
        self.beneath("/".into(), path)
    }

    fn beneath(&self, top: PathBuf, path: &Path) -> PathBuf {
        let below = path.strip_prefix(&self.point).unwrap_or(path);
        let root = self.root.strip_prefix("/").unwrap_or(&self.root);
        // Joined with nothing, a path would end in a slash.
        [root, below]
            .iter()
            .filter(|part| !part.as_os_str().is_empty())
            .fold(top, |path, part| path.join(part))
    }

    /// The volume; `None` if the client was given its volfile as a file.
    pub fn volume(&self) -> Option<MountSource> {
        // The address of a server may have colons, the directory may too.
        let (server, rest) = match self.source.split_once(":/") {
            Some(parts) => parts,
            None => self.source.rsplit_once(':')?,
        };
        let (name, subdir) = rest.split_once('/').unwrap_or((rest, ""));
        // With the transport behind it, which clients may name; no volume's own name has a dot.
        let name = name.strip_suffix(".tcp").unwrap_or(name);
        let known = !server.is_empty() && !server.starts_with('/') && !name.is_empty();
        known.then(|| MountSource {
            server: server.to_owned(),
            name: name.to_owned(),
            subdir: Path::new("/").join(subdir),
        })
    }
}

fn elsewhere(what: &str) -> io::Error {
    let text = format!("it is on no GlusterFS mount (but on {what}): give a path on a mount of the volume");
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

/// The directory that a path's last part is in.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if dir.as_os_str().is_empty() => Path::new("."),
        Some(dir) => dir,
        None => path,
    }
}

/// What a line of a mountinfo tells, if it can be read. See proc_pid_mountinfo(5).
fn parse_line(line: &[u8]) -> Option<Mount> {
    let fields: Vec<&[u8]> = line.split(|&b| b == b' ').collect();
    // Any number of optional fields end with a dash.
    let dash = fields.iter().skip(6).position(|field| *field == b"-")? + 6;
    let text = |field: &[u8]| String::from_utf8_lossy(&unescaped(field)).into_owned();
    let path = |field: &[u8]| PathBuf::from(OsString::from_vec(unescaped(field)));
    let options = text(fields.get(dash + 3)?);
    Some(Mount {
        id: text(fields[0]).parse().ok()?,
        root: path(fields[3]),
        point: path(fields[4]),
        kind: text(fields.get(dash + 1)?),
        source: text(fields.get(dash + 2)?),
        read_only: [&text(fields[5]), &options]
            .iter()
            .any(|options| options.split(',').any(|option| option == "ro")),
        by: made_by(&options),
    })
}

/// What the kernel says of a FUSE mount besides (`fuse_show_options`): whose it is, exactly once.
fn made_by(options: &str) -> Option<u32> {
    let mut all = options.split(',').filter_map(|option| option.strip_prefix("user_id="));
    let (only, other) = (all.next()?, all.next());
    if other.is_some() { None } else { only.parse().ok() }
}

/// Blanks, tabs, newlines and backslashes are written as `\040` and so on.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        let code = tail.get(..3).filter(|_| *first == b'\\').and_then(octal);
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &tail[3..] } else { tail };
    }
    bytes
}

fn octal(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTINFO: &[u8] = b"22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
        30 22 0:30 / /mnt rw,relatime shared:7 master:2 - fuse.glusterfs server1:vol rw,user_id=0,group_id=0\n\
        31 22 0:31 / /mnt/with\\040blank rw - fuse.glusterfs s1,s2:/vol2/sub/dir rw,user_id=0\n\
        33 22 0:30 /d/e /bind rw - fuse.glusterfs server1:vol rw,user_id=0\n\
        40 22 0:40 / /home/u/m rw - fuse.glusterfs evil:vol rw,user_id=4294967294,group_id=0\n\
        41 22 0:41 / /twice rw - fuse.glusterfs evil:vol rw,user_id=0,user_id=1\n\
        42 22 0:42 / /silent rw - fuse.glusterfs evil:vol rw\n\
        43 22 0:43 / /name rw - fuse.glusterfs evil:vol,user_id=0 rw\n\
        44 22 0:44 / /sshfs rw - fuse.sshfs me@there: rw,user_id=0\n\
        not a line\n\
        36 22 0:36 / /cut rw\n";

    fn told(id: u64) -> String {
        let point = |mount: Mount| mount.point.display().to_string();
        trusted(MOUNTINFO, id).map_or_else(|error| error.to_string(), point)
    }

    #[test]
    fn mounts_of_root_are_trusted() {
        for (id, point) in [(30, "/mnt"), (31, "/mnt/with blank"), (33, "/bind")] {
            assert_eq!(told(id), point);
        }
        for (id, why) in [
            (22, "it is on no GlusterFS mount (but on ext4 at /)"),
            (44, "it is on no GlusterFS mount (but on fuse.sshfs at /sshfs)"),
            (36, "unknown file system"),
            (99, "unknown file system"),
            (40, "the mount at /home/u/m was made by user 4294967294"),
            (41, "made by somebody unknown"),
            (42, "made by somebody unknown"),
            (43, "made by somebody unknown"),
        ] {
            assert!(told(id).contains(why), "{id}: {}", told(id));
        }
    }

    #[test]
    fn what_is_read_only_is_known() {
        let is = |options: &str, of_all: &str| {
            let line = format!("50 22 0:50 / /m {options} - fuse.glusterfs s:v {of_all},user_id=0");
            parse_line(line.as_bytes()).unwrap().is_read_only()
        };
        assert!(is("ro,relatime shared:3", "rw") && is("rw", "ro") && is("ro", "ro"));
        assert!(!is("rw,nodev master:2", "rw,romount=1"));
    }

    #[test]
    fn what_one_has_mounted_oneself_is_trusted() {
        let me = Uid::effective().as_raw();
        let line = format!("50 22 0:50 / /m rw - fuse.glusterfs s:v rw,user_id={me},group_id=0\n");
        assert_eq!(trusted(line.as_bytes(), 50).unwrap().point, Path::new("/m"));
    }

    fn volume(source: &str) -> Option<(String, String, String)> {
        let line = format!("1 1 0:1 / /m rw - {KIND} {source} rw,user_id=0");
        parse_line(line.as_bytes())?.volume().map(|v| (v.server, v.name, v.subdir.display().to_string()))
    }

    #[test]
    fn sources() {
        for (source, server, name, subdir) in [
            ("host:vol", "host", "vol", "/"),
            ("host:/vol", "host", "vol", "/"),
            ("a,b:/vol/sub/dir:x", "a,b", "vol", "/sub/dir:x"),
            ("fe80::1:vol", "fe80::1", "vol", "/"),
            ("host:/vol.tcp", "host", "vol", "/"),
            ("host:/vol.tcp/d.tcp", "host", "vol", "/d.tcp"),
            ("fe80::1:/vol", "fe80::1", "vol", "/"),
        ] {
            assert_eq!(volume(source), Some((server.into(), name.into(), subdir.into())), "{source}");
        }
        for no in ["/etc/v.vol", "glusterfs", "/a:b", "host:", ":vol", ""] {
            assert_eq!(volume(no), None, "{no}");
        }
    }

    #[test]
    fn paths_in_the_volume() {
        for (id, path, expected) in [
            (30, "/mnt", "/"),
            (30, "/mnt/a/b", "/a/b"),
            (31, "/mnt/with blank/f", "/sub/dir/f"),
            (33, "/bind/f", "/d/e/f"),
            (33, "/bind", "/d/e"),
        ] {
            let mount = trusted(MOUNTINFO, id).unwrap();
            assert_eq!(mount.in_volume(Path::new(path)).to_str().unwrap(), expected, "{path}");
        }
    }

    #[test]
    fn escapes() {
        assert_eq!(unescaped(b"a\\040b\\134\\011\\xx\\12"), b"a b\\\t\\xx\\12");
        assert_eq!(unescaped(b"\\777\\377\\"), b"\\777\xff\\");
    }

    #[test]
    fn parents() {
        for (path, dir) in [("f", "."), ("d/f", "d"), ("/f", "/"), ("/", "/"), ("d/..", "d")] {
            assert_eq!(parent(Path::new(path)), Path::new(dir), "{path}");
        }
    }
}
