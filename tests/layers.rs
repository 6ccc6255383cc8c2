//! The files of the source do not go round in a circle: one can be read after the other.
#![allow(missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// A module's path from the root of the crate: `ffi::host::call`.
type Module = Vec<String>;

/// The source of each module that is a file, without its tests, which may use what they like.
fn sources(root: &Path, at: &Module, sources: &mut BTreeMap<Module, String>) {
    for path in fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()) {
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let module: Module = at.iter().cloned().chain([stem.clone()]).collect();
        if path.is_dir() {
            self::sources(&path, &module, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = fs::read_to_string(&path).unwrap();
            let source = source.split("#[cfg(test)]").next().unwrap_or_default().to_owned();
            let module = if ["mod", "lib"].contains(&&*stem) { at.clone() } else { module };
            sources.insert(module, source);
        }
    }
}

/// The paths that a tree of a `use` stands for: `a::{b, c::d}` for `a::b` and `a::c::d`.
fn paths(tree: &str) -> Vec<String> {
    let Some((before, list)) = tree.split_once('{') else { return vec![tree.trim().to_owned()] };
    let list = list.trim_end().strip_suffix('}').expect("a list that is closed");
    let (mut depth, mut parts) = (0, vec![String::new()]);
    for letter in list.chars() {
        depth += i32::from(letter == '{') - i32::from(letter == '}');
        match letter {
            ',' if depth == 0 => parts.push(String::new()),
            _ => parts.last_mut().unwrap().push(letter),
        }
    }
    let parts = parts.iter().filter(|part| !part.trim().is_empty());
    parts.flat_map(|part| paths(part)).map(|part| format!("{}{part}", before.trim())).collect()
}

/// What a module imports, and the paths that its code names otherwise.
fn named(source: &str) -> (Vec<Module>, Vec<Module>) {
    let code =
        source.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join(" ");
    let split = |path: &str| path.split("::").map(|part| part.trim().to_owned()).collect::<Module>();
    let begins = |text: &str| {
        text.trim_end().is_empty()
            || text.trim_end().ends_with([';', '}', ')', ']'])
            || text.ends_with("pub ")
    };
    let mut imports = Vec::new();
    for (at, _) in code.match_indices("use ") {
        if begins(&code[..at])
            && let Some(end) = code[at..].find(';')
        {
            imports.extend(paths(&code[at + 4..at + end]).iter().map(|path| split(path)));
        }
    }
    let mut others = Vec::new();
    for root in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(root) {
            // How far something can be seen: `pub(in crate::ffi)`.
            if code[..at].ends_with("in ") {
                continue;
            }
            let rest = &code[at..];
            let end = rest.find(|letter: char| !letter.is_alphanumeric() && !"_:".contains(letter));
            others.push(split(rest[..end.unwrap_or(rest.len())].trim_end_matches(':')));
        }
    }
    (imports, others)
}

/// Which modules each module uses: where what it names is defined, and not where that is exported again.
fn uses(root: &Path) -> BTreeMap<Module, BTreeSet<Module>> {
    let mut all = BTreeMap::new();
    sources(root, &Vec::new(), &mut all);
    let names: BTreeMap<_, _> = all.iter().map(|(module, source)| (module.clone(), named(source))).collect();
    let find = |from: &Module, path: &Module| defined_in(from, path, &names, 8);
    let used = |module: &Module| {
        let (imports, others) = &names[module];
        imports
            .iter()
            .chain(others)
            .filter_map(|path| find(module, path))
            .filter(|other| other != module)
            .collect()
    };
    names.keys().map(|module| (module.clone(), used(module))).collect()
}

/// The module in which what `from` calls `path` is; `None` if it is of another crate.
fn defined_in(
    from: &Module,
    path: &[String],
    names: &BTreeMap<Module, (Vec<Module>, Vec<Module>)>,
    depth: u32,
) -> Option<Module> {
    let mut at = from.clone();
    for (n, part) in path.iter().enumerate() {
        let inside: Module = at.iter().cloned().chain([part.clone()]).collect();
        match &**part {
            "crate" => at.clear(),
            "self" => {}
            "super" => drop(at.pop()),
            _ if names.contains_key(&inside) => at = inside,
            _ => {
                let imported =
                    names[&at].0.iter().find(|import| import.last() == Some(part) && import.len() > 1);
                return match imported.filter(|import| depth > 0 && (n > 0 || *import != path)) {
                    Some(import) => {
                        let whole: Module = import.iter().chain(&path[n + 1..]).cloned().collect();
                        defined_in(&at, &whole, names, depth - 1)
                    }
                    None => (n > 0).then_some(at),
                };
            }
        }
    }
    Some(at)
}

/// A circle, if there is one: each uses the next, and the last the first.
fn circle(uses: &BTreeMap<Module, BTreeSet<Module>>) -> Option<Vec<Module>> {
    fn walk<'a>(
        at: &'a Module,
        uses: &'a BTreeMap<Module, BTreeSet<Module>>,
        way: &mut Vec<&'a Module>,
        done: &mut BTreeSet<&'a Module>,
    ) -> Option<Vec<Module>> {
        if let Some(begin) = way.iter().position(|name| *name == at) {
            return Some(way[begin..].iter().map(|name| (*name).clone()).collect());
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
    let uses = uses(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let module = |path: &str| -> Module { path.split("::").map(str::to_owned).collect() };
    for (one, other) in [
        ("brick::heal", "ffi::host::call"),
        ("brick::life", "brick::names"),
        ("ffi::tables", "brick::instance"),
    ] {
        assert!(
            uses[&module(one)].contains(&module(other)),
            "{one}: nothing was understood: {:?}",
            uses[&module(one)]
        );
    }
    assert_eq!(circle(&uses), None);
}

#[test]
fn circles_are_seen() {
    let module = |name: &str| vec![name.to_owned()];
    let uses = |pairs: &[(&str, &[&str])]| {
        pairs.iter().map(|(a, b)| (module(a), b.iter().map(|b| module(b)).collect())).collect()
    };
    assert_eq!(circle(&uses(&[("a", &["b", "c"]), ("b", &["c"]), ("c", &[])])), None);
    let round = uses(&[("a", &["b"]), ("b", &["c"]), ("c", &["d"]), ("d", &["b"])]);
    assert_eq!(circle(&round), Some(["b", "c", "d"].map(module).into()));
}

#[test]
fn trees_are_read() {
    assert_eq!(paths("a::{b, c::{d, e}}"), ["a::b", "a::c::d", "a::c::e"]);
    let (imports, others) =
        named("pub use a::{b, c};\nuse super::d;\npub(in crate::j) fn f() { crate::g::h(); }\n// crate::i");
    assert_eq!(imports, [vec!["a", "b"], vec!["a", "c"], vec!["super", "d"]]);
    assert_eq!(others, [vec!["crate", "g", "h"], vec!["super", "d"]]);
}
