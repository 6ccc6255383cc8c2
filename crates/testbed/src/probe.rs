//! Small questions that every test asks: extended attributes, contents, used space, the output of a command.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::process::{Command, Output};

use nix::errno::Errno;
use nix::sys::statvfs::fstatvfs;
use nix::unistd::syncfs;

/// Sets an extended attribute; of a symbolic link, its own.
pub fn setx(path: impl AsRef<Path>, name: impl AsRef<OsStr>, value: impl AsRef<[u8]>) -> Result<(), Errno> {
    xattr::set(path, name, value.as_ref()).map_err(errno)
}

/// The value of an extended attribute, `ENODATA` if there is none.
pub fn getx(path: impl AsRef<Path>, name: impl AsRef<OsStr>) -> Result<Vec<u8>, Errno> {
    xattr::get(path, name).map_err(errno)?.ok_or(Errno::ENODATA)
}

/// Removes an extended attribute.
pub fn removex(path: impl AsRef<Path>, name: impl AsRef<OsStr>) -> Result<(), Errno> {
    xattr::remove(path, name).map_err(errno)
}

/// The names of a file's extended attributes, sorted.
pub fn listx(path: impl AsRef<Path>) -> Result<Vec<OsString>, Errno> {
    let mut names: Vec<OsString> = xattr::list(path).map_err(errno)?.collect();
    names.sort();
    Ok(names)
}

fn errno(error: io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw)
}

/// Runs a command to its end.
///
/// # Panics
/// If it cannot be started or fails; the message has what it printed.
#[track_caller]
pub fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// The bytes in use on the file system that holds `path`, after a sync: Btrfs counts only what is committed.
///
/// # Panics
/// If the file system does not answer.
pub fn df_used(path: impl AsRef<Path>) -> u64 {
    let path = path.as_ref();
    let ask = || -> io::Result<u64> {
        let file = File::open(path)?;
        syncfs(&file)?;
        let stat = fstatvfs(&file)?;
        Ok((stat.blocks() - stat.blocks_free()) * stat.fragment_size())
    };
    ask().unwrap_or_else(|error| panic!("cannot tell the used space of {}: {error}", path.display()))
}

/// `len` bytes that look random and depend on `seed` alone. A shorter content is the beginning of a longer one.
pub fn content(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len);
    Content::new(seed).take(len as u64).read_to_end(&mut bytes).expect("generated, not read");
    bytes
}

/// Makes or truncates the file and fills it with the first `len` bytes of [`content`].
///
/// # Panics
/// If the file cannot be written.
pub fn fill(path: impl AsRef<Path>, len: u64, seed: u64) {
    let path = path.as_ref();
    let write = || -> io::Result<()> {
        let mut file = BufWriter::with_capacity(1 << 17, File::create(path)?);
        io::copy(&mut Content::new(seed).take(len), &mut file)?;
        file.flush()
    };
    write().unwrap_or_else(|error| panic!("cannot fill {}: {error}", path.display()));
}

/// A 64-bit checksum (FNV-1a) of the file's bytes: to compare contents, no more.
///
/// # Panics
/// If the file cannot be read.
pub fn checksum(path: impl AsRef<Path>) -> u64 {
    let path = path.as_ref();
    try_checksum(path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
}

/// Like [`checksum`], for a file that may not be readable.
pub fn try_checksum(path: impl AsRef<Path>) -> io::Result<u64> {
    let mut file = BufReader::with_capacity(1 << 17, File::open(path)?);
    let mut sum = 0xcbf2_9ce4_8422_2325;
    let mut buffer = vec![0; 1 << 17];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(sum);
        }
        for &byte in &buffer[..count] {
            sum = (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// An endless stream of pseudo-random bytes (SplitMix64).
struct Content {
    state: u64,
    word: [u8; 8],
    used: usize,
}

impl Content {
    fn new(seed: u64) -> Content {
        Content { state: seed, word: [0; 8], used: 8 }
    }

    fn next_word(&mut self) -> [u8; 8] {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)).to_le_bytes()
    }
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = &self.word[self.used..];
        let (head, body) = buffer.split_at_mut(left.len().min(buffer.len()));
        head.copy_from_slice(&left[..head.len()]);
        self.used += head.len();
        for chunk in body.chunks_mut(self.word.len()) {
            self.word = self.next_word();
            self.used = chunk.len();
            chunk.copy_from_slice(&self.word[..chunk.len()]);
        }
        Ok(buffer.len())
    }
}
