//! What holds for every decoder of untrusted bytes, whatever the bytes are. One function for each fuzz target; the tests
//! of `fsnap-core` call the same with the corpus, and with bytes of their own.
//!
//! What the grammars allow is said here once more, in other words than in the decoders.

use std::collections::BTreeMap;
use std::fmt::Display;

use fsnap_core::acl::{Acl, Caller};
use fsnap_core::answer::{self, Snapshot, Status};
use fsnap_core::catalogue::Page;
use fsnap_core::command::{self, Command, Create, Question, parse_get, parse_set};
use fsnap_core::gfid2path::{self, Link};
use fsnap_core::layout::{Layout, for_snap_dir, hashed_part};
use fsnap_core::options::{DirectRestore, NAMES, OnUnlink, Options};
use fsnap_core::record::{self, Armed, Intent, PayloadRecord, Record, decode_seq, encode_seq};
use fsnap_core::volume::{VolumeInfo, VolumeType};
use fsnap_core::{
    Error, Gfid, LastPlace, MovedUpName, Result, SnapName, Timestamp, is_tombstone, mdata, moved_up,
};
use serde_json::{Value, json};

/// A fuzz target: its name, which is also that of its directory in `corpus/`, and what it checks.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 6] = [
    ("names_and_commands", names_and_commands),
    ("records", records),
    ("intents_and_links", intents_and_links),
    ("options", options),
    ("xattr_values", xattr_values),
    ("volume_info", volume_info),
];

/// Names, times, gfids, and commands: `data` as the value of each, as the snapshot asked for, and as `KEY NUL VALUE`.
pub fn names_and_commands(data: &[u8]) {
    match SnapName::parse(data) {
        Ok(name) => named(&name, data),
        Err(e) => refused(&e, libc::EINVAL),
    }
    assert_eq!(SnapName::parse(data).is_ok(), is_name(data));
    if let Ok(text) = std::str::from_utf8(data) {
        match Timestamp::parse(text) {
            Ok(time) => assert_eq!(time.to_string(), plain_time(text)),
            Err(e) => refused(&e, libc::EINVAL),
        }
        assert_eq!(Timestamp::parse(text).is_ok(), is_time(text));
        match Gfid::parse(text) {
            Ok(gfid) => {
                assert_eq!(gfid.to_string(), text.to_ascii_lowercase());
                assert_eq!(gfid.is_null(), Gfid::from_xattr(gfid.as_bytes()).is_err());
            }
            Err(e) => refused(&e, libc::EINVAL),
        }
        assert_eq!(Gfid::parse(text).is_ok(), is_gfid(data));
    }
    let ours = |verb: &[u8]| [command::PREFIX.as_bytes(), verb].concat();
    for verb in ["create", "delete", "restore", "hold", "release"] {
        set(&ours(verb.as_bytes()), data);
    }
    get(&ours(&[b"info.", data].concat()));
    let end = data.iter().position(|&b| b == 0).unwrap_or(data.len());
    let (key, value) = (&data[..end], data.get(end + 1..).unwrap_or_default());
    for key in [key.to_vec(), ours(key)] {
        set(&key, value);
        get(&key);
    }
}

fn set(key: &[u8], value: &[u8]) {
    let Some(verb) = key.strip_prefix(command::PREFIX.as_bytes()) else {
        return assert_eq!(parse_set(key, value), None);
    };
    let name = SnapName::parse(value);
    let expected = match verb {
        b"arm" => return arm(value, parse_set(key, value).expect("a key of ours")),
        b"settle" if is_gfid(value) => Ok(Command::Settle(text_gfid(value))),
        b"settle" => {
            return refused(&parse_set(key, value).expect("a key of ours").unwrap_err(), libc::EINVAL);
        }
        b"create" => return create(value, parse_set(key, value).expect("a key of ours")),
        b"delete" => name.map(Command::Delete),
        b"restore" => name.map(Command::Restore),
        b"hold" => name.map(|name| Command::Hold(name, true)),
        b"release" => name.map(|name| Command::Hold(name, false)),
        _ => return refused(&parse_set(key, value).expect("a key of ours").unwrap_err(), libc::EOPNOTSUPP),
    };
    match (parse_set(key, value).expect("a key of ours"), expected) {
        (Err(e), Err(_)) => refused(&e, libc::EINVAL),
        (got, expected) => assert_eq!(got, expected),
    }
}

fn get(key: &[u8]) {
    let Some(verb) = key.strip_prefix(command::PREFIX.as_bytes()) else {
        return assert_eq!(parse_get(key), None);
    };
    let asked = verb.strip_prefix(b"info.").or(verb.strip_prefix(b"marks."));
    match (parse_get(key).expect("a key of ours"), asked) {
        (Ok(Question::Info(name)), Some(asked)) => {
            assert!(verb.starts_with(b"info."));
            named(&name, asked);
        }
        (Ok(Question::Marks(name)), Some(asked)) => {
            assert!(verb.starts_with(b"marks."));
            named(&name, asked);
        }
        (Ok(Question::List), _) => assert_eq!(verb, b"list"),
        (Ok(Question::Status), _) => assert_eq!(verb, b"status"),
        (Ok(Question::Armed), _) => assert_eq!(verb, b"armed"),
        (Ok(Question::Deleted), _) => assert_eq!(verb, b"deleted"),
        (Ok(other), None) => panic!("{other:?}"),
        (Err(e), Some(_)) => refused(&e, libc::EINVAL),
        (Err(e), None) => refused(&e, libc::EOPNOTSUPP),
    }
}

fn text_gfid(text: &[u8]) -> Gfid {
    Gfid::parse(std::str::from_utf8(text).expect("a gfid is text")).expect("a gfid")
}

/// What becomes of the value of `arm`.
fn arm(value: &[u8], got: Result<Command>) {
    let parts: Vec<&[u8]> = value.split(|&b| b == b';').collect();
    let good = match parts[..] {
        [name, id] => {
            is_name(name) && id.strip_prefix(b"id=").is_some_and(is_gfid) && value.len() <= command::MAX_VALUE
        }
        _ => false,
    };
    match got {
        Ok(Command::Arm(arming)) => {
            assert!(good);
            named(&arming.name, parts[0]);
            assert_eq!(arming.id, text_gfid(&parts[1][3..]));
        }
        Ok(other) => panic!("{other:?}"),
        Err(e) => {
            assert!(!good);
            refused(&e, libc::EINVAL);
        }
    }
}

/// What becomes of the value of `create`. More than one spelling is good: a time may have leading zeros, an id capitals,
/// and the two come in either order.
fn create(value: &[u8], got: Result<Command>) {
    let mut parts = value.split(|&b| b == b';');
    let name = parts.next().unwrap_or_default();
    let parts: Vec<&str> = parts.map(|part| std::str::from_utf8(part).unwrap_or_default()).collect();
    let all = |key: &str| -> Vec<&str> { parts.iter().filter_map(|part| part.strip_prefix(key)).collect() };
    let (times, ids) = (all("created="), all("id="));
    let each_once = times.len() < 2 && ids.len() < 2 && times.len() + ids.len() == parts.len();
    let good = is_name(name)
        && each_once
        && times.iter().all(|time| is_time(time))
        && ids.iter().all(|id| is_gfid(id.as_bytes()))
        && value.len() <= command::MAX_VALUE;
    match got {
        Ok(Command::Create(create)) => {
            assert!(good);
            named(&create.name, name);
            assert_eq!(create.created.map(|t| t.to_string()), times.first().map(|t| plain_time(t)));
            assert_eq!(create.id.map(|id| id.to_string()), ids.first().map(|id| id.to_ascii_lowercase()));
            again(&create);
        }
        Ok(other) => panic!("{other:?}"),
        Err(e) => {
            assert!(!good);
            refused(&e, libc::EINVAL);
        }
    }
}

/// Our own spelling of a `create` is understood.
fn again(create: &Create) {
    let mut text = create.name.to_string();
    text += &create.created.map(|time| format!(";created={time}")).unwrap_or_default();
    text += &create.id.map(|id| format!(";id={id}")).unwrap_or_default();
    assert_eq!(
        parse_set(b"glusterfs.fsnap.create", text.as_bytes()),
        Some(Ok(Command::Create(create.clone())))
    );
}

/// A name is what was asked for, and fit to be a file's: the files of snapshots are never taken for a tombstone.
fn named(name: &SnapName, asked: &[u8]) {
    assert_eq!(name.as_str().as_bytes(), asked);
    assert!(is_name(asked));
    let names = [name.file_name(b"vm.img"), name.deleted_file_name(b"vm.img", Gfid::ROOT)];
    for file in names.into_iter().flatten() {
        assert!(file.starts_with(b"vm.img@") && file.len() <= 255 && !is_tombstone(&file));
        assert!(!file.iter().any(|b| b"/\0".contains(b)));
    }
}

/// Catalogue entries, payloads' records and `seq`: one spelling each. Pages of the catalogue: whatever else is in them, what is put in is
/// found and can be taken out again.
pub fn records(data: &[u8]) {
    let name = SnapName::parse(b"mon").expect("a name");
    if let Some(entry) = canonical(data, |data| Record::decode(Gfid::ROOT, &name, data)) {
        assert_eq!(data, entry_text(&entry).as_bytes());
        answers(&name, &entry, Some(entry.seq), entry.created);
    }
    if let Some(record) = canonical(data, PayloadRecord::decode) {
        let PayloadRecord { base, name, seq, id, gfid } = &record;
        assert_eq!(
            data,
            format!("{} {name} {seq} {}", simple(base), or_dash(id.map(|id| simple(&id)))).as_bytes()
        );
        assert_eq!(*gfid, base.payload(name, *id, *seq));
        named(name, name.as_str().as_bytes());
    }
    match decode_seq(data) {
        Ok(seq) => assert_eq!(decode_seq(encode_seq(seq).as_bytes()), Ok(seq)),
        Err(e) => refused(&e, libc::EIO),
    }
    page(data, &name);
}

fn page(data: &[u8], name: &SnapName) {
    let read = |page: &Page| -> Vec<_> {
        let mut read = Vec::new();
        for entry in page.entries(Gfid::ROOT) {
            match entry {
                Ok((name, record)) => read.push((name, record)),
                Err(e) => refused(&e, libc::EIO),
            }
        }
        read
    };
    let others = |page: &Page| -> Vec<_> { read(page).into_iter().filter(|(one, _)| one != name).collect() };
    others(&Page::new(data.to_vec()));
    // What is put behind a line without its end gives it one.
    let end: &[u8] = if data.last().is_some_and(|&byte| byte != b'\n') { b"\n" } else { b"" };
    let mut page = Page::new([data, end].concat());
    let before = others(&page);
    assert_eq!(others(&Page::new(page.to_bytes())), before);
    while page.remove(name) {}
    let entry =
        Record { seq: 1, id: None, gfid: Gfid::ROOT.payload(name, None, 1), created: None, held: true };
    page.put(name, &entry);
    assert_eq!(page.get(Gfid::ROOT, name), Ok(Some(entry)));
    assert_eq!(others(&page), before);
    page.remove_nameless();
    assert_eq!(others(&page), before);
    assert!(page.remove(name) && page.get(Gfid::ROOT, name) == Ok(None));
}

fn entry_text(Record { seq, id, gfid, created, held }: &Record) -> String {
    let name = SnapName::parse(b"mon").expect("a name");
    assert_eq!(*gfid, Gfid::ROOT.payload(&name, *id, *seq));
    let (id, created) = (or_dash(id.map(|id| simple(&id))), or_dash(created.map(|time| time.to_string())));
    format!("{seq} {id} {created} {}", if *held { "h" } else { "-" })
}

fn simple(gfid: &Gfid) -> String {
    gfid.to_string().replace('-', "")
}

fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".into())
}

/// Answers are JSON that says what the catalogue and the payload say.
pub fn answers(name: &SnapName, entry: &Record, size: Option<u64>, mtime: Option<Timestamp>) {
    let snapshot = Snapshot { size, mtime, ..Snapshot::from_record(name.clone(), entry) };
    let text = |time: Option<Timestamp>| time.map(|time| time.to_string());
    let mut expected = json!({
        "name": name.as_str(), "created": text(entry.created), "size": size, "mtime": text(mtime),
        "gfid": entry.gfid.to_string(), "held": entry.held, "unsettled": false,
    });
    let list = json!({ "version": 1, "snapshots": [expected, expected] });
    assert_eq!(read_json(&answer::list(&[snapshot.clone(), snapshot.clone()])), list);
    expected["version"] = json!(1);
    assert_eq!(read_json(&answer::info(&snapshot)), expected);
}

fn read_json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

/// Intents, notes of restores, gfid2path values, the handles of directories, gfids as bytes, the names of tombstones, where deleted
/// files were.
pub fn intents_and_links(data: &[u8]) {
    if let Some(Intent { base, payload, name }) = canonical(data, Intent::decode) {
        assert_eq!(data, format!("v1 restore base={base} payload={payload} name={name}").as_bytes());
        named(&name, name.as_str().as_bytes());
    }
    if let Some(Armed { begun, id, name }) = canonical(data, Armed::decode) {
        let stage = if begun { "begun" } else { "armed" };
        assert_eq!(data, format!("v1 {stage} id={id} name={name}").as_bytes());
        named(&name, name.as_str().as_bytes());
    }
    // GlusterFS writes gfids in small letters only; capitals are read, and written as small ones.
    match Link::decode(data) {
        Ok(link) => {
            assert!(is_link(data));
            let plain = [data[..36].to_ascii_lowercase().as_slice(), &data[36..]].concat();
            assert_eq!(link.encode(), plain);
            assert_eq!(Link::decode(&plain).as_ref(), Ok(&link));
            assert_eq!(Link::decode_soft_handle(&link.soft_handle()).as_ref(), Some(&link));
            let digits = link.key().strip_prefix(gfid2path::PREFIX).map(str::to_string).expect("the prefix");
            assert_eq!((digits.len(), u64::from_str_radix(&digits, 16).is_ok()), (16, true));
            buried(&link);
        }
        Err(e) => {
            assert!(!is_link(data));
            refused(&e, libc::EIO);
        }
    }
    if let Some(link) = Link::decode_soft_handle(data) {
        assert_eq!(link.soft_handle(), data);
        assert!(is_link(&link.encode()));
    }
    match Gfid::from_xattr(data) {
        Ok(gfid) => assert_eq!((gfid.as_bytes().as_slice(), gfid.is_null()), (data, false)),
        Err(e) => {
            assert!(data.len() != 16 || data == [0; 16]);
            refused(&e, libc::EIO);
        }
    }
    let gfid = data.last_chunk::<36>().filter(|end| is_gfid(*end) && !end.iter().any(u8::is_ascii_uppercase));
    let before = &data[..data.len().saturating_sub(36)];
    let marked = before.ends_with(b"@.") || before.ends_with(b"@..");
    assert_eq!(is_tombstone(data), gfid.is_some() && marked);
    last_places(data);
}

/// Where deleted files were: notes, and the names of what is kept of them.
fn last_places(data: &[u8]) {
    match LastPlace::decode(data) {
        Ok(place) => {
            let plain = [data[..36].to_ascii_lowercase().as_slice(), &data[36..]].concat();
            assert_eq!(place.encode(), plain);
            assert_eq!(place.link().is_none(), data[37..].contains(&b'/'));
            placed(&place);
        }
        Err(e) => refused(&e, libc::EIO),
    }
    let file = data.last_chunk::<36>().and_then(|end| Gfid::parse(std::str::from_utf8(end).ok()?).ok());
    if let Some(place) = file.and_then(|file| LastPlace::of_tombstone(Gfid::ROOT, file, data)) {
        assert!(is_tombstone(data));
        placed(&place);
    }
    if let Some(MovedUpName { path, name, file }) = MovedUpName::parse(data) {
        assert_eq!(moved_up(data), Some(file));
        let note = [Gfid::ROOT.to_string().as_bytes(), b"/", &path].concat();
        let place = LastPlace::decode(&note).expect("a path that a name tells");
        let plain = [&data[..data.len() - 36], file.to_string().as_bytes()].concat();
        assert_eq!(place.snapshot(&name, file), Ok(plain));
    }
}

/// Its names are fit to be files', tell it, and are no others'; so it is further up.
fn placed(place: &LastPlace) {
    let (file, name) = (Gfid::ROOT.snap_dir(), SnapName::parse(&[b'n'; 64]).expect("a name"));
    let mut place = place.clone();
    for dir in [&b"100% of it"[..], &[b'd'; 255]] {
        let tombstone = place.tombstone(file);
        assert!(tombstone.len() <= 255 && !tombstone.iter().any(|b| b"/\0".contains(b)));
        assert!(is_tombstone(&tombstone) && moved_up(&tombstone).is_none());
        // That of a very long name does not tell it.
        if tombstone != file.tombstone(&[]) {
            assert_eq!(LastPlace::of_tombstone(place.dir(), file, &tombstone).as_ref(), Some(&place));
        }
        match (place.has_moved_up(), place.snapshot(&name, file)) {
            (true, snapshot) => {
                let snapshot = snapshot.expect("always short enough");
                assert!(snapshot.len() <= 255 && !is_tombstone(&snapshot));
                let told = MovedUpName::parse(&snapshot).expect("its name");
                assert_eq!((&told.path[..], &told.name, told.file), (place.path(), &name, file));
            }
            (false, Ok(snapshot)) => assert!(moved_up(&snapshot).is_none() && !is_tombstone(&snapshot)),
            (false, Err(e)) => assert_eq!(e, Error::NameTooLong),
        }
        place = place.up(&Link { parent: Gfid::ROOT, name: dir.to_vec() });
        assert!(place.has_moved_up() && place.dir() == Gfid::ROOT);
    }
}

/// A file of any name can be given a tombstone.
fn buried(link: &Link) {
    let tombstone = link.parent.tombstone(&link.name);
    assert!(tombstone.len() <= 255 && !tombstone.iter().any(|b| b"/\0".contains(b)));
    assert!(is_tombstone(&tombstone) && link.parent.is_tombstone(&tombstone));
}

/// Every option with the value `data`, alone and all at once: taken if it is one of the documented values, else
/// complained of, and at its default.
pub fn options(data: &[u8]) {
    let mut all = Options::default();
    let mut all_complaints = Vec::new();
    for name in NAMES {
        let mut expected = Options::default();
        let good = set_option(&mut expected, name, data).is_some();
        set_option(&mut all, name, data);
        let (read, complaints) = Options::read(|asked| (asked == name).then(|| data.to_vec()));
        assert_eq!((read, complaints.is_empty()), (expected, good), "{name}");
        for complaint in &complaints {
            assert!(
                complaint.contains(name) && complaint.len() < 1200 && !complaint.contains(char::is_control)
            );
        }
        all_complaints.extend(complaints);
    }
    assert_eq!(Options::read(|_| Some(data.to_vec())), (all.clone(), all_complaints));
    assert_eq!(reread(&all), (all.clone(), vec![]));
    status(all);
}

/// The options again, from the values that stand for them.
pub fn reread(options: &Options) -> (Options, Vec<String>) {
    let switch = |on| if on { "on" } else { "off" }.to_string();
    Options::read(|name| {
        let text = match name {
            "enabled" => switch(options.enabled),
            "max-snapshots" => options.max_snapshots.to_string(),
            "min-free" => format!("{}%", options.min_free),
            "browse" => switch(options.browse),
            "on-unlink" => on_unlink(options.on_unlink).into(),
            "keep-deleted" => format!("{}s", options.keep_deleted),
            "direct-restore" => direct_restore(options.direct_restore).into(),
            "volume-type" => volume_type(options.volume_type?).into(),
            other => panic!("{other}"),
        };
        // The host's strings end with a NUL.
        Some(format!("{text}\0").into_bytes())
    })
}

fn on_unlink(value: OnUnlink) -> &'static str {
    match value {
        OnUnlink::Keep => "keep",
        OnUnlink::Purge => "purge",
        OnUnlink::Refuse => "refuse",
    }
}

fn direct_restore(value: DirectRestore) -> &'static str {
    match value {
        DirectRestore::Auto => "auto",
        DirectRestore::Off => "off",
    }
}

fn volume_type(value: VolumeType) -> &'static str {
    match value {
        VolumeType::Distribute => "distribute",
        VolumeType::Replicate => "replicate",
        VolumeType::Disperse => "disperse",
    }
}

fn status(options: Options) {
    let expected = json!({
        "version": 1, "fsnap": "1.2.3", "type": options.volume_type.map(volume_type), "reflink": true,
        "options": {
            "enabled": options.enabled, "max-snapshots": options.max_snapshots, "min-free": options.min_free,
            "browse": options.browse, "on-unlink": on_unlink(options.on_unlink),
            "keep-deleted": options.keep_deleted,
            "direct-restore": direct_restore(options.direct_restore),
        },
    });
    let status = Status {
        version: answer::VERSION,
        fsnap: "1.2.3",
        r#type: options.volume_type,
        reflink: true,
        options,
    };
    assert_eq!(read_json(&answer::status(&status)), expected);
}

/// Values that GlusterFS and the kernel store: times, layouts, ACLs; and names, of which DHT hashes a part.
pub fn xattr_values(data: &[u8]) {
    let words: Vec<u64> = match data {
        [_version, rest @ ..] if data.len() == 57 => {
            rest.chunks(8).map(|word| word.iter().fold(0, |n, &b| n << 8 | u64::from(b))).collect()
        }
        _ => vec![0; 7],
    };
    let (seconds, nanos) = (words[3], words[4]);
    let stamped = (words[1], words[2]) != (0, 0) && nanos < 1_000_000_000;
    let since = i128::from(seconds.cast_signed()) * 1_000_000_000 + i128::from(nanos);
    let known = stamped
        && (-i128::from(FIRST_SECOND)..=i128::from(LAST_SECOND)).contains(&since.div_euclid(1_000_000_000));
    let spelled = || {
        let (sign, plain) = (if since < 0 { "-" } else { "" }, since.abs());
        format!("{sign}{}.{:09}", plain / 1_000_000_000, plain % 1_000_000_000)
    };
    assert_eq!(mdata::mtime(data).map(|time| time.to_string()), known.then(spelled));
    layout(data);
    acl(data);
    let part = hashed_part(data);
    let around = data.strip_prefix(b".").and_then(|rest| rest.strip_prefix(part)?.strip_prefix(b"."));
    let suffixed = around.is_some_and(|suffix| !suffix.is_empty() && !suffix.contains(&b'.'));
    assert!(part == data || suffixed && !part.is_empty());
}

fn layout(data: &[u8]) {
    let Some(layout) = Layout::decode(data) else {
        assert_eq!(for_snap_dir(data), None);
        return assert_ne!(data.len(), 16);
    };
    let below = Layout::decode(&for_snap_dir(data).expect("one for .fsnap")).expect("of the known form");
    assert!(below == layout || below.is_empty() && layout.is_empty());
    assert_eq!(data.len(), 16);
    let word = |at: usize| data[at..at + 4].iter().fold(0, |n, &b| n << 8 | u32::from(b));
    let (start, stop) = (word(8), word(12));
    for edge in [0, start, stop, u32::MAX] {
        for hash in [edge.wrapping_sub(1), edge, edge.wrapping_add(1)] {
            assert_eq!(layout.has(hash), start <= hash && hash <= stop && stop > 0);
        }
    }
}

fn acl(data: &[u8]) {
    let known = data.starts_with(&[2, 0, 0, 0]) && data.len() % 8 == 4;
    let acl = match Acl::decode(data) {
        Ok(acl) => acl,
        Err(e) => {
            assert!(!known);
            return refused(&e, libc::EIO);
        }
    };
    assert!(known);
    assert_eq!(acl.encode(), data);
    let id = data.last_chunk::<4>().map_or(0, |id| u32::from_le_bytes(*id));
    let caller = Caller { uid: id, gid: id.wrapping_add(1), groups: vec![id] };
    for perm in 0..8 {
        let limited = acl.limited_to(perm);
        assert_eq!(limited.limited_to(perm), limited);
        assert_eq!(Acl::decode(&limited.encode()).as_ref(), Ok(&limited));
        for (owner, group) in [(0, 0), (id, id), (1, id)] {
            let may = |acl: &Acl, want| acl.permits(&caller, owner, group, want);
            assert_eq!(may(&limited, perm), may(&acl, perm), "what is left is as it was");
            assert!(id == 0 || perm == 7 || !may(&limited, 7), "no more is left");
        }
    }
}

/// glusterd's file about a volume: the last line for each key counts, others are not looked at.
pub fn volume_info(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let lines = text.split('\n').filter_map(|line| line.split_once('='));
    let values: BTreeMap<&str, &str> = lines.map(|(key, value)| (key, value.trim())).collect();
    let value = |key: &str| values.get(key).copied();
    // What is no switch counts as on: then less is allowed.
    let on = |key: &str| value(key).is_some_and(|value| switch(value) != Some(false));
    let said = |key: &str| value(key).filter(|value| !value.is_empty());
    let extra = said("cluster.extra-hash-regex").is_some_and(|value| value != "none");
    let misses = value("cluster.lookup-optimize").is_none() || on("cluster.lookup-optimize");
    let expected = value("volume-id").filter(|id| is_gfid(id.as_bytes())).map(|id| VolumeInfo {
        id: Gfid::parse(id).expect("a gfid"),
        kind: match value("type") {
            Some("0") => Some(VolumeType::Distribute),
            Some("2") => Some(VolumeType::Replicate),
            Some("4") => Some(VolumeType::Disperse),
            _ => None,
        },
        changelog: on("changelog.changelog"),
        trash: on("features.trash"),
        quota: on("features.quota"),
        hashes_otherwise: extra || said("cluster.rsync-hash-regex").is_some(),
        may_miss: extra && misses,
    });
    assert_eq!(VolumeInfo::parse(&text), expected);
}

const LAST_SECOND: u64 = 253_402_300_799;
/// The first one, before the epoch (year 1).
const FIRST_SECOND: u64 = 62_135_596_800;

fn is_name(bytes: &[u8]) -> bool {
    let first = bytes.first().is_some_and(u8::is_ascii_alphanumeric);
    let all = bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'+' | b'-'));
    first && all && bytes.len() < 65
}

fn is_time(text: &str) -> bool {
    let plain = text.strip_prefix('-').unwrap_or(text);
    let (bytes, negative) = (plain.as_bytes(), plain.len() < text.len());
    let Some(dot) = bytes.len().checked_sub(10).filter(|at| (1..=12).contains(at)) else { return false };
    let digits =
        bytes.iter().enumerate().all(|(at, b)| if at == dot { *b == b'.' } else { b.is_ascii_digit() });
    let in_range = |seconds: u64| match negative {
        false => seconds <= LAST_SECOND,
        true if plain.bytes().all(|b| b"0.".contains(&b)) => false,
        true => seconds < FIRST_SECOND || seconds == FIRST_SECOND && plain.ends_with(".000000000"),
    };
    digits && plain[..dot].parse().is_ok_and(in_range)
}

/// A time as we write it.
fn plain_time(text: &str) -> String {
    let (sign, text) = text.strip_prefix('-').map_or(("", text), |text| ("-", text));
    let plain = text.trim_start_matches('0');
    format!("{sign}{}{plain}", if plain.starts_with('.') { "0" } else { "" })
}

fn is_gfid(bytes: &[u8]) -> bool {
    let fits = |(at, b): (usize, &u8)| match at {
        8 | 13 | 18 | 23 => *b == b'-',
        _ => b.is_ascii_hexdigit(),
    };
    bytes.len() == 36 && bytes.iter().enumerate().all(fits)
}

fn is_link(bytes: &[u8]) -> bool {
    let Some((gfid, [b'/', name @ ..])) = bytes.split_at_checked(36) else { return false };
    is_gfid(gfid)
        && gfid.iter().any(|b| !b"0-".contains(b))
        && (1..=255).contains(&name.len())
        && ![&b"."[..], b".."].contains(&name)
        && !name.iter().any(|b| [b'/', 0].contains(b))
}

/// Sets an option; `None` if it does not take the value. The host's strings may end with a NUL; blanks around are let go.
fn set_option(options: &mut Options, name: &str, data: &[u8]) -> Option<()> {
    let text = std::str::from_utf8(data.strip_suffix(&[0]).unwrap_or(data)).unwrap_or("not text").trim();
    match name {
        "enabled" => options.enabled = switch(text)?,
        "max-snapshots" => options.max_snapshots = text.parse().ok().filter(|n| (1..=256).contains(n))?,
        "min-free" => {
            let number = text.strip_suffix('%').unwrap_or(text).trim_end();
            options.min_free = number.parse().ok().filter(|n| *n < 100)?;
        }
        "browse" => options.browse = switch(text)?,
        "on-unlink" => {
            let values = [OnUnlink::Keep, OnUnlink::Purge, OnUnlink::Refuse];
            options.on_unlink = values.into_iter().find(|value| on_unlink(*value) == text)?;
        }
        "keep-deleted" => {
            const UNITS: [(&str, u64); 5] = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400), ("w", 604_800)];
            let unit = UNITS.iter().find(|(unit, _)| text.ends_with(unit));
            let number = unit.map_or(text, |(unit, _)| text.strip_suffix(unit).unwrap());
            let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
            let number: u128 = number.parse().ok().filter(|_| digits)?;
            let seconds = number.checked_mul(unit.map_or(1, |(_, seconds)| u128::from(*seconds)))?;
            options.keep_deleted = seconds.try_into().ok()?;
        }
        // What can't be read forbids.
        "direct-restore" if text == "auto" => options.direct_restore = DirectRestore::Auto,
        "direct-restore" => {
            options.direct_restore = DirectRestore::Off;
            return (text == "off").then_some(());
        }
        "volume-type" => {
            let values = [VolumeType::Distribute, VolumeType::Replicate, VolumeType::Disperse];
            options.volume_type = Some(values.into_iter().find(|value| volume_type(*value) == text)?);
        }
        other => panic!("{other}"),
    }
    Some(())
}

/// A switch, as `gf_string2boolean` reads it.
fn switch(text: &str) -> Option<bool> {
    let is = |words: [&str; 5]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    if is(["1", "on", "yes", "true", "enable"]) {
        return Some(true);
    }
    is(["0", "off", "no", "false", "disable"]).then_some(false)
}

/// What decodes is spelled as we spell it; all else is damaged (`EIO`).
fn canonical<T: Display>(data: &[u8], decode: impl FnOnce(&[u8]) -> Result<T>) -> Option<T> {
    match decode(data) {
        Ok(value) => {
            assert_eq!(value.to_string().as_bytes(), data);
            assert!(
                data.len() <= record::MAX && data.iter().all(|b| (b' '..=b'~').contains(b) && *b != b'/')
            );
            Some(value)
        }
        Err(e) => {
            refused(&e, libc::EIO);
            None
        }
    }
}

/// A refusal has the kind and errno that are documented, and a text that is one line of a log.
fn refused(error: &Error, errno: i32) {
    let kind = match error {
        Error::BadValue(_) => libc::EINVAL,
        Error::UnknownCommand(_) => libc::EOPNOTSUPP,
        Error::Damaged(_) => libc::EIO,
        other => panic!("{other:?}"),
    };
    assert_eq!((kind, error.errno()), (errno, errno), "{error}");
    let text = error.to_string();
    assert!(text.len() < 1000 && !text.contains(char::is_control), "{text:?}");
}
