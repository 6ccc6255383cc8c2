//! Questions to a glusterd, in the protocol of its clients: ONC RPC over TCP (RFC 5531).
//!
//! libgfapi would ask as well, but it makes a graph of what it is answered before anybody can look at it.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use fsnap_core::Gfid;
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};

/// Where glusterd listens (`GLUSTERD_DEFAULT_PORT`).
const PORT: u16 = 24007;
/// After how long a server is given up, if nobody is in a hurry. It answers one after the other, and may be busy.
pub const CONNECTED_WITHIN: Duration = Duration::from_secs(10);
pub const ANSWERED_WITHIN: Duration = Duration::from_secs(60);

/// A procedure of a program of some version (protocol-common.h).
#[derive(Clone, Copy)]
struct Procedure {
    program: u32,
    version: u32,
    number: u32,
}

/// `GF_HNDSK_GETSPEC` and `GF_HNDSK_GET_VOLUME_INFO` of `GLUSTER_HNDSK_PROGRAM`, `GF_PMAP_PORTBYBRICK` of `GLUSTER_PMAP_PROGRAM`.
const GETSPEC: Procedure = Procedure { program: 14_398_633, version: 2, number: 2 };
const GET_VOLUME_INFO: Procedure = Procedure { number: 6, ..GETSPEC };
const PORT_BY_BRICK: Procedure = Procedure { program: 34_123_456, version: 1, number: 1 };
/// `GF_GET_VOLUME_UUID`.
const VOLUME_UUID: &str = "1";

/// Of clients that can do everything: what the volume needs libgfapi has, or it refuses the volfile.
const OP_VERSIONS: [(&str, &str); 2] = [("min-op-version", "1"), ("max-op-version", "999999")];

/// The longest volfile that is read, and what may be around it, in bytes.
const LONGEST: usize = 16 << 20;
const AROUND: usize = 1 << 20;

const LAST_FRAGMENT: u32 = 1 << 31;

/// What a glusterd knows of a volume.
pub struct Known {
    /// Its client volfile.
    pub volfile: String,
    /// Its id, if that was told.
    pub id: Option<Gfid>,
}

/// Asks the glusterd of `server`. The errno of what fails; `EIO` if there is no volfile, `EPROTO` for what is no answer.
pub fn ask(server: &str, volume: &str) -> Result<Known, Errno> {
    let Glusterd(mut connection) = Glusterd::reach(server, CONNECTED_WITHIN, ANSWERED_WITHIN)?;
    let spec = Writer::default().number(0).text(volume.as_bytes()).text(&dict(&OP_VERSIONS));
    let info = Writer::default().text(&dict(&[("flags", VOLUME_UUID), ("volname", volume)]));
    // Both at once: it answers one after the other.
    send(&mut connection, GETSPEC, spec).map_err(errno)?;
    let told = send(&mut connection, GET_VOLUME_INFO, info);
    let answer = receive(&mut connection, GETSPEC).map_err(errno)?;
    let mut answer = Reader(&answer);
    let (result, code) = (answer.signed()?, answer.signed()?);
    if result < 0 {
        return Err(if code > 0 { Errno::from_raw(code) } else { Errno::ENOENT });
    }
    let text = answer.text()?;
    if text.is_empty() {
        return Err(Errno::EIO);
    }
    let volfile = String::from_utf8(text.to_vec()).map_err(|_| Errno::EPROTO)?;
    let told = told.and_then(|()| receive(&mut connection, GET_VOLUME_INFO));
    let id = told.ok().and_then(|answer| volume_id(&answer));
    Ok(Known { volfile, id })
}

/// A connection to a glusterd.
pub struct Glusterd(TcpStream);

impl Glusterd {
    /// The one of `server`, each of whose addresses is tried for `limit`, and which answers within `patience`. The errno of what fails.
    pub fn reach(server: &str, limit: Duration, patience: Duration) -> Result<Glusterd, Errno> {
        let reach = || {
            let stream = reach(server, PORT, limit)?;
            stream.set_read_timeout(Some(patience))?;
            stream.set_write_timeout(Some(patience))?;
            // Reset in the end, when all is answered, it keeps no port (TIME_WAIT).
            setsockopt(&stream, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?;
            Ok(Glusterd(stream))
        };
        reach().map_err(errno)
    }

    /// At which port the brick `brick`, a directory, is; `None` if it is not running. Errors as for [`ask`].
    pub fn port_of(&mut self, brick: &str) -> Result<Option<u16>, Errno> {
        let answer = call(&mut self.0, PORT_BY_BRICK, Writer::default().text(brick.as_bytes()));
        let answer = answer.map_err(errno)?;
        let mut answer = Reader(&answer);
        let (result, _code, _status) = (answer.signed()?, answer.signed()?, answer.signed()?);
        let port = u16::try_from(answer.signed()?).ok().filter(|port| ![0, u16::MAX].contains(port));
        Ok(port.filter(|_| result >= 0))
    }
}

fn volume_id(answer: &[u8]) -> Option<Gfid> {
    let mut answer = Reader(answer);
    let (result, _code, _why) = (answer.signed().ok()?, answer.signed().ok()?, answer.text().ok()?);
    if result < 0 {
        return None;
    }
    Gfid::parse(std::str::from_utf8(value(answer.text().ok()?, b"volume_id")?).ok()?).ok()
}

/// A connection to `server`, each of whose addresses is tried for so long. `EHOSTUNREACH` if nobody knows its name.
pub fn reach(server: &str, port: u16, limit: Duration) -> io::Result<TcpStream> {
    let unknown = || io::Error::from_raw_os_error(libc::EHOSTUNREACH);
    let mut failed = unknown();
    for address in (server, port).to_socket_addrs().map_err(|_| unknown())? {
        match TcpStream::connect_timeout(&address, limit) {
            Ok(stream) => return Ok(stream),
            Err(why) => failed = why,
        }
    }
    Err(failed)
}

/// One call; what was answered to it, behind the header of the reply.
fn call(connection: &mut (impl Read + Write), procedure: Procedure, request: Writer) -> io::Result<Vec<u8>> {
    send(connection, procedure, request)?;
    receive(connection, procedure)
}

fn send(connection: &mut impl Write, procedure: Procedure, request: Writer) -> io::Result<()> {
    // The number of the call is the procedure's: there is one of each on a connection. A call (0) of RPC 2, by nobody (AUTH_NONE):
    // twice a flavour and a length.
    let Procedure { program, version, number } = procedure;
    let header = [number, 0, 2, program, version, number, 0, 0, 0, 0];
    let call = header.into_iter().fold(Writer::default(), Writer::number);
    let length = u32::try_from(call.0.len() + request.0.len()).map_err(|_| strange())?;
    let mark = Writer::default().number(LAST_FRAGMENT | length);
    connection.write_all(&[mark.0, call.0, request.0].concat())
}

/// The answer to the first call that is not answered: a glusterd does what comes on one connection in its order (`rpcsvc_handle_rpc_call`).
/// `EPROTO` if it is to another one.
fn receive(connection: &mut impl Read, procedure: Procedure) -> io::Result<Vec<u8>> {
    let reply = record(connection)?;
    let mut reply = Reader(&reply);
    let mut next = || reply.number().map_err(|_| strange());
    // To this call, a reply (1) that accepts it (0).
    if (next()?, next()?, next()?) != (procedure.number, 1, 0) {
        return Err(strange());
    }
    let _verifier = (next()?, reply.text().map_err(|_| strange())?);
    match reply.number() {
        Ok(0) => Ok(reply.0.to_vec()),
        _ => Err(strange()),
    }
}

/// A record, which may come in fragments.
fn record(connection: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut record = Vec::new();
    loop {
        let mut mark = [0; 4];
        connection.read_exact(&mut mark)?;
        let mark = u32::from_be_bytes(mark);
        let (length, before) = (u64::from(mark & !LAST_FRAGMENT), record.len());
        let last = mark & LAST_FRAGMENT != 0;
        if length > (LONGEST + AROUND - before) as u64 || (length == 0 && !last) {
            return Err(strange());
        }
        connection.take(length).read_to_end(&mut record)?;
        if (record.len() - before) as u64 != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if last {
            return Ok(record);
        }
    }
}

fn strange() -> io::Error {
    io::Error::from_raw_os_error(libc::EPROTO)
}

/// What a call failed with; `ETIMEDOUT` if it took too long.
pub fn errno(error: io::Error) -> Errno {
    match error.raw_os_error() {
        // A read that took too long.
        Some(libc::EAGAIN) => Errno::ETIMEDOUT,
        Some(code) => Errno::from_raw(code),
        None if error.kind() == io::ErrorKind::TimedOut => Errno::ETIMEDOUT,
        None => Errno::ECONNRESET,
    }
}

/// A dict as GlusterFS sends it (`dict_serialize`): how many, and of each the lengths, the key with a NUL, the value, which is a text with
/// a NUL here.
fn dict(pairs: &[(&str, &str)]) -> Vec<u8> {
    let length = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes();
    let mut bytes = length(pairs.len()).to_vec();
    for (key, value) in pairs {
        bytes.extend(length(key.len()));
        bytes.extend(length(value.len() + 1));
        bytes.extend([key.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat());
    }
    bytes
}

/// The text that a dict has under `key`.
fn value<'a>(dict: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let mut dict = Reader(dict);
    for _ in 0..dict.number().ok()? {
        let (name, value) = (dict.number().ok()? as usize, dict.number().ok()? as usize);
        let (name, value) = (dict.bytes(name.checked_add(1)?).ok()?, dict.bytes(value).ok()?);
        if name.strip_suffix(b"\0") == Some(key) {
            return value.strip_suffix(b"\0");
        }
    }
    None
}

/// What is sent, in XDR (RFC 4506).
#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn number(mut self, number: u32) -> Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    fn text(self, bytes: &[u8]) -> Self {
        let mut this = self.number(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        this.0.extend(bytes);
        this.0.resize(this.0.len().next_multiple_of(4), 0);
        this
    }
}

/// What is received, in XDR. `EPROTO` if it ends before it should.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8], Errno> {
        let (bytes, rest) = self.0.split_at_checked(count).ok_or(Errno::EPROTO)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn number(&mut self) -> Result<u32, Errno> {
        let bytes = self.bytes(4)?;
        bytes.try_into().map(u32::from_be_bytes).map_err(|_| Errno::EPROTO)
    }

    fn signed(&mut self) -> Result<i32, Errno> {
        self.number().map(u32::cast_signed)
    }

    fn text(&mut self) -> Result<&'a [u8], Errno> {
        let count = self.number()? as usize;
        let bytes = self.bytes(count)?;
        self.bytes(count.next_multiple_of(4) - count)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read, and what was written.
    struct Peer(io::Cursor<Vec<u8>>, Vec<u8>);

    impl Read for Peer {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(buffer)
        }
    }

    impl Write for Peer {
        fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
            self.1.write(buffer)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn fragment(last: bool, bytes: &[u8]) -> Vec<u8> {
        let mark = if last { LAST_FRAGMENT } else { 0 } | bytes.len() as u32;
        [&mark.to_be_bytes(), bytes].concat()
    }

    fn answered(bytes: Vec<u8>) -> io::Result<Vec<u8>> {
        call(&mut Peer(io::Cursor::new(bytes), Vec::new()), GETSPEC, Writer::default())
    }

    fn reply(numbers: &[u32]) -> Vec<u8> {
        numbers.iter().copied().fold(Writer::default(), Writer::number).0
    }

    #[test]
    fn replies() {
        let good = reply(&[GETSPEC.number, 1, 0, 0, 0, 0, 7]);
        assert_eq!(answered(fragment(true, &good)).unwrap(), 7u32.to_be_bytes());
        let parts = [fragment(false, &good[..10]), fragment(true, &good[10..])].concat();
        assert_eq!(answered(parts).unwrap(), 7u32.to_be_bytes());
        for bad in [
            fragment(true, &reply(&[GETSPEC.number + 1, 1, 0, 0, 0, 0])),
            fragment(true, &reply(&[GETSPEC.number, 0, 0, 0, 0, 0])),
            fragment(true, &reply(&[GETSPEC.number, 1, 1, 0, 0, 0])),
            fragment(true, &reply(&[GETSPEC.number, 1, 0, 0, 0, 1])),
            fragment(true, &reply(&[GETSPEC.number, 1, 0, 0, u32::MAX, 0])),
            fragment(true, &good[..20]),
            fragment(false, &good),
            fragment(false, b""),
            u32::MAX.to_be_bytes().to_vec(),
            good,
            Vec::new(),
        ] {
            assert!(answered(bad.clone()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn dicts() {
        let bytes = dict(&[("a", "x"), ("volume_id", "y")]);
        assert_eq!(bytes[..16], *b"\0\0\0\x02\0\0\0\x01\0\0\0\x02a\0x\0");
        assert_eq!(value(&bytes, b"volume_id"), Some(&b"y"[..]));
        assert_eq!(value(&bytes, b"b"), None);
        for end in 0..bytes.len() {
            assert_eq!(value(&bytes[..end], b"volume_id"), None, "{end}");
        }
        assert_eq!(value(&[0xff; 40], b"a"), None);
    }

    #[test]
    fn xdr() {
        let bytes = Writer::default().text(b"abcde").number(1).0;
        assert_eq!(bytes, b"\0\0\0\x05abcde\0\0\0\0\0\0\x01");
        let mut reader = Reader(&bytes);
        assert_eq!(reader.text(), Ok(&b"abcde"[..]));
        assert_eq!((reader.number(), reader.number()), (Ok(1), Err(Errno::EPROTO)));
    }
}
