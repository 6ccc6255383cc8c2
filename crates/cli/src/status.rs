//! fsnap itself, on the volume of a path.

use std::path::{Path, PathBuf};

use fsnap_check::escaped;
use nix::errno::Errno;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::entry::{self, VERSION};
use crate::failure::{Deed, Failure};
use crate::found::Found;
use crate::text;
use crate::volume::{self, Status};

/// What there is to tell of a path.
pub struct About {
    found: Found,
    /// From the root of the volume.
    path: PathBuf,
    status: Status,
}

/// Asks one brick of the volume that `path` is on.
pub fn about(path: &Path) -> Result<About, Failure> {
    let found = Found::at(path)?;
    let in_volume = found.place.in_volume().map_err(|error| Failure::finding(path, error))?;
    let status = volume::status(&found.place).map_err(|errno| match errno {
        Errno::ENODATA => found.failed(Deed::Status, Errno::EOPNOTSUPP),
        other => found.failed(Deed::Status, other),
    })?;
    Ok(About { found, path: in_volume, status })
}

impl About {
    /// As JSON.
    pub fn json(&self) -> String {
        let mount = self.found.place.mount();
        let (server, name) = mount.volume().map(|volume| (volume.server, volume.name)).unzip();
        let path = escaped(&self.path);
        entry::json(&StatusForm {
            version: VERSION,
            mount: MountForm {
                point: escaped(&mount.point),
                source: &mount.source,
                server,
                volume: name,
                path,
            },
            fsnap: &self.status.fsnap,
            r#type: self.status.r#type.as_deref(),
            reflink: self.status.reflink,
            options: &self.status.options,
        })
    }

    /// For people.
    pub fn text(&self) -> String {
        let mount = self.found.place.mount();
        let volume = match mount.volume() {
            Some(volume) => format!("{} (server {})", volume.name, volume.server),
            None => escaped(&PathBuf::from(&mount.source)),
        };
        let mut rows = vec![
            row("volume", volume),
            row("mounted at", escaped(&mount.point)),
            row("type", self.status.r#type.clone().unwrap_or_else(|| "-".into())),
            row("fsnap", self.status.fsnap.clone()),
            row("reflink", if self.status.reflink { "yes" } else { "NO: no snapshots can be taken" }),
        ];
        rows.extend(self.status.options.iter().map(|(name, value)| row(name, setting(value))));
        text::table(&rows)
    }
}

/// The form that docs/command.md describes.
#[derive(Serialize)]
struct StatusForm<'a> {
    version: u32,
    mount: MountForm<'a>,
    fsnap: &'a str,
    r#type: Option<&'a str>,
    reflink: bool,
    options: &'a Map<String, Value>,
}

#[derive(Serialize)]
struct MountForm<'a> {
    point: String,
    source: &'a str,
    server: Option<String>,
    volume: Option<String>,
    path: String,
}

fn row(key: &str, value: impl Into<String>) -> Vec<String> {
    vec![key.to_owned(), value.into()]
}

/// The value of an option as `gluster volume set` takes it.
fn setting(value: &Value) -> String {
    match value {
        Value::Bool(on) => if *on { "on" } else { "off" }.into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn settings() {
        for (value, text) in
            [(json!(true), "on"), (json!(false), "off"), (json!("keep"), "keep"), (json!(5), "5")]
        {
            assert_eq!(setting(&value), text);
        }
    }
}
