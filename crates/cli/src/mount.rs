//! Which volume a path is on: `/proc/self/mountinfo`, the only place that tells it to everybody.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The type of FUSE mounts of GlusterFS.
const KIND: &str = "fuse.glusterfs";

/// A mount, as one line of mountinfo tells of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mount {
    /// Where it is mounted.
    pub point: PathBuf,
    /// What of the file system is mounted there: `/`, or a directory if it is a bind mount.
    pub root: PathBuf,
    /// The type of the file system.
    pub kind: String,
    /// What is mounted; of GlusterFS mostly `SERVER:VOLUME`.
    pub source: String,
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

/// A path on a mount of GlusterFS.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MountPath {
    /// The mount.
    pub mount: Mount,
    /// The path without symbolic links.
    pub path: PathBuf,
}

impl MountPath {
    /// Where `path` is, which need not exist, but its directory has to.
    ///
    /// `InvalidInput` with a text if that is no mount of GlusterFS.
    pub fn of(path: &Path) -> io::Result<MountPath> {
        let path = canonical(path)?;
        let mounts = parse(&fs::read("/proc/self/mountinfo")?);
        match holding(&mounts, &path) {
            Some(mount) if mount.kind == KIND => Ok(MountPath { mount: mount.clone(), path }),
            Some(other) => Err(elsewhere(&format!("{} at {}", other.kind, other.point.display()))),
            None => Err(elsewhere("an unknown file system")),
        }
    }

    /// The path from the root of what is mounted in its volume.
    pub fn in_volume(&self) -> PathBuf {
        let below = self.path.strip_prefix(&self.mount.point).unwrap_or(&self.path);
        let subdir = self.mount.volume().map_or_else(|| "/".into(), |volume| volume.subdir);
        let root = self.mount.root.strip_prefix("/").unwrap_or(&self.mount.root);
        // Joined with nothing, a path would end in a slash.
        [root, below]
            .iter()
            .filter(|part| !part.as_os_str().is_empty())
            .fold(subdir, |path, part| path.join(part))
    }
}

impl Mount {
    /// The volume; `None` if the client was given its volfile as a file.
    pub fn volume(&self) -> Option<MountSource> {
        // The address of a server may have colons, the directory may too.
        let (server, rest) = match self.source.split_once(":/") {
            Some(parts) => parts,
            None => self.source.rsplit_once(':')?,
        };
        let (name, subdir) = rest.split_once('/').unwrap_or((rest, ""));
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

/// Resolves symbolic links; what does not exist stays as the last part.
fn canonical(path: &Path) -> io::Result<PathBuf> {
    match (fs::canonicalize(path), path.file_name()) {
        (Err(e), Some(name)) if e.kind() == io::ErrorKind::NotFound => {
            Ok(fs::canonicalize(parent(path))?.join(name))
        }
        (other, _) => other,
    }
}

/// The directory that a path's last part is in.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if dir.as_os_str().is_empty() => Path::new("."),
        Some(dir) => dir,
        None => path,
    }
}

/// The mount that `path`, without symbolic links, is on: that with the longest mount point, of several at one point
/// the last, which covers the others.
fn holding<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    mounts
        .iter()
        .filter(|mount| path.starts_with(&mount.point))
        .max_by_key(|mount| mount.point.as_os_str().len())
}

/// All lines of a mountinfo that can be read. See proc_pid_mountinfo(5).
fn parse(mountinfo: &[u8]) -> Vec<Mount> {
    mountinfo.split(|&b| b == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let fields: Vec<&[u8]> = line.split(|&b| b == b' ').collect();
    // Any number of optional fields end with a dash.
    let dash = fields.iter().skip(6).position(|field| *field == b"-")? + 6;
    let text = |field: &[u8]| String::from_utf8_lossy(&unescaped(field)).into_owned();
    let path = |field: &[u8]| PathBuf::from(OsString::from_vec(unescaped(field)));
    Some(Mount {
        root: path(fields[3]),
        point: path(fields[4]),
        kind: text(fields.get(dash + 1)?),
        source: text(fields.get(dash + 2)?),
    })
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

/// Whether the last part of the path is the directory of snapshots.
pub fn is_snap_dir(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_bytes() == fsnap_core::SNAP_DIR.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTINFO: &[u8] = b"22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
        30 22 0:30 / /mnt rw,relatime shared:7 master:2 - fuse.glusterfs server1:vol rw,allow_other\n\
        31 22 0:31 / /mnt/with\\040blank rw - fuse.glusterfs s1,s2:/vol2/sub/dir rw\n\
        32 30 254:1 / /mnt/deep/disk rw - xfs /dev/vdb rw\n\
        33 22 0:30 /d/e /bind rw - fuse.glusterfs server1:vol rw\n\
        34 22 0:34 / /over rw - tmpfs tmpfs rw\n\
        35 34 0:35 / /over rw - fuse.glusterfs /etc/v.vol rw\n\
        not a line\n\
        36 22 0:36 / /cut rw\n";

    fn mount_of(path: &str) -> Mount {
        holding(&parse(MOUNTINFO), Path::new(path)).unwrap().clone()
    }

    #[test]
    fn the_longest_mount_point_holds_a_path() {
        for (path, point, kind) in [
            ("/home/x", "/", "ext4"),
            ("/mnt", "/mnt", KIND),
            ("/mnt/a", "/mnt", KIND),
            ("/mntx/a", "/", "ext4"),
            ("/mnt/with blank/f", "/mnt/with blank", KIND),
            ("/mnt/deep/disk/f", "/mnt/deep/disk", "xfs"),
            ("/mnt/deep/f", "/mnt", KIND),
            ("/over/f", "/over", KIND),
            ("/cut/f", "/", "ext4"),
        ] {
            let mount = mount_of(path);
            assert_eq!((mount.point.to_str().unwrap(), &mount.kind[..]), (point, kind), "{path}");
        }
        assert_eq!(holding(&[], Path::new("/")), None);
    }

    fn volume(source: &str) -> Option<(String, String, String)> {
        let mount = Mount { point: "/m".into(), root: "/".into(), kind: KIND.into(), source: source.into() };
        mount.volume().map(|v| (v.server, v.name, v.subdir.display().to_string()))
    }

    #[test]
    fn sources() {
        for (source, server, name, subdir) in [
            ("host:vol", "host", "vol", "/"),
            ("host:/vol", "host", "vol", "/"),
            ("a,b:/vol/sub/dir:x", "a,b", "vol", "/sub/dir:x"),
            ("fe80::1:vol", "fe80::1", "vol", "/"),
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
        for (path, expected) in [
            ("/mnt", "/"),
            ("/mnt/a/b", "/a/b"),
            ("/mnt/with blank/f", "/sub/dir/f"),
            ("/bind/f", "/d/e/f"),
            ("/bind", "/d/e"),
            ("/over/f", "/f"),
        ] {
            let place = MountPath { mount: mount_of(path), path: path.into() };
            assert_eq!(place.in_volume().to_str().unwrap(), expected, "{path}");
        }
    }

    #[test]
    fn escapes() {
        assert_eq!(unescaped(b"a\\040b\\134\\011\\xx\\12"), b"a b\\\t\\xx\\12");
        assert_eq!(unescaped(b"\\777\\377\\"), b"\\777\xff\\");
    }

    #[test]
    fn what_is_on_no_volume_is_told() {
        let error = MountPath::of(Path::new("/proc/self/status")).unwrap_err();
        assert!(error.to_string().contains("on no GlusterFS mount (but on proc at /proc)"), "{error}");
        assert_eq!(MountPath::of(Path::new("/nowhere/f")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn parents() {
        for (path, dir) in [("f", "."), ("d/f", "d"), ("/f", "/"), ("/", "/"), ("d/..", "d")] {
            assert_eq!(parent(Path::new(path)), Path::new(dir), "{path}");
        }
    }
}
