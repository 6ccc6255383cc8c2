//! Within a room of the source, files do not go round in a circle: one can be read after the other.
#![allow(missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Which other files of the directory each file uses. What is in `mod.rs` stands above or below all of them, and does not count.
fn uses(dir: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let sources: BTreeMap<String, String> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| {
            (path.file_stem().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(path).unwrap())
        })
        .filter(|(name, _)| name != "mod")
        .collect();
    let used = |source: &str| {
        // Tests may use what they like.
        let source = source.split("#[cfg(test)]").next().unwrap_or_default();
        let mut used = BTreeSet::new();
        for rest in source.split("super::").skip(1) {
            let end = rest.find([';', '\n']).filter(|_| rest.starts_with('{'));
            let list = match end {
                Some(_) => &rest[..rest.find(';').unwrap_or(rest.len())],
                None => rest,
            };
            let words =
                list.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty());
            let count = if list.starts_with('{') { usize::MAX } else { 1 };
            used.extend(words.take(count).map(str::to_owned));
        }
        used
    };
    let names: BTreeSet<String> = sources.keys().cloned().collect();
    let others = |name: &String, source: &String| -> BTreeSet<String> {
        used(source).into_iter().filter(|other| other != name && names.contains(other)).collect()
    };
    sources.iter().map(|(name, source)| (name.clone(), others(name, source))).collect()
}

/// A circle, if there is one: each uses the next, and the last the first.
fn circle(uses: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    fn walk<'a>(
        at: &'a str,
        uses: &'a BTreeMap<String, BTreeSet<String>>,
        way: &mut Vec<&'a str>,
        done: &mut BTreeSet<&'a str>,
    ) -> Option<Vec<String>> {
        if let Some(begin) = way.iter().position(|name| *name == at) {
            return Some(way[begin..].iter().map(|name| (*name).to_owned()).collect());
        }
        if !done.insert(at) {
            return None;
        }
        way.push(at);
        let found = uses[at].iter().find_map(|next| walk(next, uses, way, done));
        way.pop();
        found
    }
    let mut done = BTreeSet::new();
    uses.keys().find_map(|name| walk(name, uses, &mut Vec::new(), &mut done))
}

#[test]
fn no_circles() {
    for dir in ["src/ffi", "src/ffi/fops", "src/ffi/host", "src/brick", "src/client"] {
        let uses = uses(&Path::new(env!("CARGO_MANIFEST_DIR")).join(dir));
        assert!(uses.values().any(|others| !others.is_empty()), "{dir}: nothing was understood");
        assert_eq!(circle(&uses), None, "in {dir}");
    }
}

#[test]
fn circles_are_seen() {
    let uses = |pairs: &[(&str, &[&str])]| {
        pairs.iter().map(|(a, b)| ((*a).to_owned(), b.iter().map(|b| (*b).to_owned()).collect())).collect()
    };
    assert_eq!(circle(&uses(&[("a", &["b", "c"]), ("b", &["c"]), ("c", &[])])), None);
    let round = uses(&[("a", &["b"]), ("b", &["c"]), ("c", &["d"]), ("d", &["b"])]);
    assert_eq!(circle(&round), Some(["b", "c", "d"].map(String::from).into()));
}
