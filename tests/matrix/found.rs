//! The options of the GlusterFS that is installed: those that reach a brick are found by trying.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use fsnap_testbed::{GlusterError, Scene};

use super::Setting;
use super::table::{LEFT_OUT, PLAIN, VALUES, alone};

/// Each option with its default, of `gluster volume set help` and, for those that are not documented, `volume get`.
fn options(scene: &Scene, volume: &str) -> BTreeMap<String, String> {
    let help = scene.gluster(["volume", "set", "help"]).expect("help");
    let mut all = BTreeMap::new();
    let mut option = "";
    for line in help.lines() {
        if let Some(name) = line.strip_prefix("Option: ") {
            option = name.trim();
        } else if let Some(value) = line.strip_prefix("Default Value: ") {
            all.insert(option.to_owned(), value.trim().to_owned());
        }
    }
    assert!(all.len() > 100, "help has only {} options", all.len());
    let values = scene.gluster(["volume", "get", volume, "all"]).expect("all options");
    // Two lines of headings.
    for line in values.lines().skip(2) {
        if let Some((option, value)) = line.split_once(' ') {
            all.insert(option.to_owned(), value.replace("(DEFAULT)", "").trim().to_owned());
        }
    }
    all
}

/// Values to try, the likeliest first.
fn candidates(option: &str, default: &str) -> Vec<String> {
    if let Some((_, value)) = VALUES.iter().find(|(known, _)| *known == option) {
        return vec![(*value).to_owned()];
    }
    let likely = match default.to_lowercase().as_str() {
        "on" | "yes" | "true" | "enable" => vec!["off".to_owned()],
        "off" | "no" | "false" | "disable" => vec!["on".to_owned()],
        number => {
            let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
            let unit = &number[digits.len()..];
            let number = digits.parse::<i64>();
            number.map_or(Vec::new(), |n| vec![format!("{}{unit}", n + 1), format!("{}{unit}", n - 1)])
        }
    };
    likely.into_iter().chain(["1", "on", "10MB", "/run/scene"].map(str::to_owned)).collect()
}

/// What glusterd says that it would take, but for the default.
fn suggested(refusal: &GlusterError, default: &str) -> Option<String> {
    let (_, list) = refusal
        .output
        .split_once("possible options are ")
        .or_else(|| refusal.output.split_once("Available options are "))?;
    let words = list.split(|c: char| !(c.is_alphanumeric() || c == '-' || c == '_'));
    words.filter(|word| !word.is_empty()).find(|word| *word != default).map(str::to_owned)
}

/// A volume that is never started, to see which options change what its brick is told.
struct Probe<'a> {
    scene: &'a Scene,
    volfile: PathBuf,
}

impl Probe<'_> {
    fn new(scene: &Scene) -> Probe<'_> {
        scene
            .gluster(["volume", "create", "probe", "127.1.1.1:/run/scene/b1/probe", "force"])
            .expect("a volume");
        let volfile = scene.path("/var/lib/glusterd/vols/probe/probe.127.1.1.1.run-scene-b1-probe.vol");
        Probe { scene, volfile }
    }

    fn volfile(&self) -> String {
        fs::read_to_string(&self.volfile).expect("the brick's volfile")
    }

    fn set(&self, option: &str, value: &str) -> Result<(), GlusterError> {
        self.scene.gluster(["volume", "set", "probe", option, value]).map(|_| ())
    }

    /// A value other than the default that can be set, which it then is.
    fn other_value(&self, option: &str, default: &str) -> Result<String, GlusterError> {
        let mut last = None;
        for value in candidates(option, default) {
            let Err(refusal) = self.set(option, &value) else { return Ok(value) };
            let suggestion = suggested(&refusal, default);
            if let Some(value) = suggestion.filter(|value| self.set(option, value).is_ok()) {
                return Ok(value);
            }
            last = Some(refusal);
        }
        Err(last.expect("there is something to try"))
    }
}

/// The options that change what a brick is told and that nobody has named, each with another value than its default.
///
/// # Panics
/// If no value is found for one.
pub fn brick_side(scene: &Scene) -> Vec<(String, String)> {
    let probe = Probe::new(scene);
    let named: BTreeSet<String> =
        alone().into_iter().flat_map(|setting| setting.options).map(|(option, _)| option).collect();
    let left_out = |option: &str| LEFT_OUT.iter().any(|(start, _)| option.starts_with(start));
    let (mut found, mut unknown) = (Vec::new(), Vec::new());
    for (option, default) in options(scene, "probe") {
        if named.contains(&option) || left_out(&option) {
            continue;
        }
        let mut before = probe.volfile();
        let mut value = probe.other_value(&option, &default);
        if value.is_err() {
            // What was set before may forbid it.
            scene.gluster(["volume", "reset", "probe"]).expect("all options back");
            before = probe.volfile();
            value = probe.other_value(&option, &default);
        }
        match value {
            Ok(value) if probe.volfile() != before => found.push((option, value)),
            Ok(_) => (),
            Err(refusal) => unknown.push(format!("{option} (default {default}): {refusal}")),
        }
    }
    scene.gluster(["volume", "delete", "probe"]).expect("the end of the volume");
    assert!(
        unknown.is_empty(),
        "tests/matrix/table.rs knows neither a value nor a reason to leave it out of these options:\n{}",
        unknown.join("\n")
    );
    found
}

/// Those options in settings of `size`.
pub fn batches(found: &[(String, String)], size: usize) -> Vec<Setting> {
    found.chunks(size).map(|options| Setting { options: options.to_vec(), known: PLAIN }).collect()
}
