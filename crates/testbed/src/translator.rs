//! Showing a translator to GlusterFS inside a scene, without touching the machine's installation.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use crate::{Scene, run};

/// Covers the translator directory $1 with a tmpfs in which every old entry is bound to its old place. The original
/// stays visible under $2.
const COVER: &str = r#"
[ ! -d "$2" ] || exit 0
mkdir -p "$2"
mount --bind "$1" "$2"
mount -t tmpfs -o mode=755 fsnap-xlator "$1"
for old in "$2"/*; do
    new=$1/${old##*/}
    case $new in */user) continue ;; esac
    if [ -d "$old" ]; then mkdir "$new"; else : >"$new"; fi
    mount --bind "$old" "$new"
done
mkdir "$1/user"
[ ! -d "$2/user" ] || cp -a "$2/user/." "$1/user/"
"#;
const ORIGINAL: &str = "/run/private/xlator";

impl Scene {
    /// Makes the shared object `so` visible to GlusterFS in this scene as translator `user/<name>`. Once more with the
    /// same name replaces it for processes that start later.
    ///
    /// # Panics
    /// If GlusterFS is not installed or `so` cannot be copied.
    pub fn install_translator(&self, so: impl AsRef<Path>, name: &str) {
        let output = run(self.command("glusterfs").arg("--print-xlatordir"));
        let dir = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        self.shell(COVER, &[dir.as_os_str(), OsStr::new(ORIGINAL)]);
        let so = so.as_ref();
        let user = self.path(dir.join("user"));
        let (new, place) = (user.join(format!(".{name}.so")), user.join(format!("{name}.so")));
        // A process may have the old one mapped: never write into it.
        fs::copy(so, &new).and_then(|_| fs::rename(&new, &place)).unwrap_or_else(|error| {
            panic!("cannot install {} as {}: {error}", so.display(), place.display())
        });
    }
}

/// The `libfsnap.so` under test: `$FSNAP_SO` if set, else the newest that cargo built in the profile of the running
/// test.
///
/// # Panics
/// If there is none.
pub fn translator_path() -> PathBuf {
    if let Some(so) = env::var_os("FSNAP_SO") {
        let so = PathBuf::from(so);
        assert!(so.is_file(), "FSNAP_SO={}: there is no such file", so.display());
        return so;
    }
    let exe = env::current_exe().expect("the path of the running test");
    // Tests run in target/<profile>/deps; `cargo build` puts the library in both places, `cargo test` only in deps.
    let candidates: Vec<PathBuf> =
        exe.ancestors().skip(1).take(2).flat_map(|dir| [dir.join(SO), dir.join("deps").join(SO)]).collect();
    let newest = candidates
        .iter()
        .filter(|so| so.is_file())
        .max_by_key(|so| fs::metadata(so).and_then(|meta| meta.modified()).ok());
    newest.cloned().unwrap_or_else(|| {
        panic!("the translator is not built: run `cargo build`, or set FSNAP_SO. Looked for {candidates:?}")
    })
}

const SO: &str = "libfsnap.so";
