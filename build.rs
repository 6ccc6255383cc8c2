//! Finds the installed GlusterFS, binds its headers and compiles the shim of its macros.

use std::env;
use std::path::PathBuf;

/// What the installed headers expect from a config.h that is not shipped. Each of these changes the layout of host
/// structs: without `HAVE_ATOMIC_BUILTINS` everything compiles, and `xlator_t` has another size.
const CONFIG: [(&str, Option<&str>); 6] = [
    ("_GNU_SOURCE", None),
    ("_FILE_OFFSET_BITS", Some("64")),
    ("GF_LINUX_HOST_OS", Some("1")),
    ("SIZEOF_LONG", Some("8")),
    ("HAVE_ATOMIC_BUILTINS", Some("1")),
    ("HAVE_STRUCT_STAT_ST_ATIM_TV_NSEC", Some("1")),
];

/// All that `src/ffi` uses of the host.
const FUNCTIONS: &str = "_gf_msg|__glusterfs_this_location|fsnap_.*|default_.*|dict_(new|unref|ref|get|foreach|copy|set_iatt|set_dynstr_with_alloc)\
    |fd_(lookup|ref|unref)|inode_(new|ref|unref|find|grep|unlink)|loc_(copy|wipe)|gf_dirent_entry_free|gf_dm_hashfn|gf_proc_dump_(add_section|write)\
    |syncop_(getxattr|inodelk|lookup|setxattr|truncate)|syncopctx_setfslkowner|call_resume\
    |fop_(open|truncate|ftruncate|readv|writev|fallocate|discard|zerofill|copy_file_range|rchecksum|f?(setattr|setxattr|removexattr|xattrop))_stub";

const TYPES: &str = "xlator_api_t|glusterfs_event_t|xlator_cbks|xlator_fops|xlator_dumpops|volume_option_t|loc_t|iatt|gf_dirent_t|_gf_dirent";

const CONSTANTS: &str = "gf_loglevel_t_.*|_gf_loglevel_.*|GF_LOG_.*|GF_SET_ATTR_.*|GF_OPTION_TYPE_STR|GF_(CLIENT|SERVER)_PROCESS|GF_XATTROP_ADD_ARRAY.*|FSNAP_UPCALL_.*|IA_IF(REG|DIR)|default_fops";

fn main() {
    let api = pkg_config::Config::new().cargo_metadata(false).probe("glusterfs-api").expect(
        "GlusterFS's development files are missing: on Debian install libglusterfs-dev, liburcu-dev and libssl-dev",
    );
    // The pkg-config file gives the version of the API, which is "7." and the version of GlusterFS.
    let version = api.version.strip_prefix("7.").unwrap_or(&api.version);
    println!("cargo:rustc-env=FSNAP_GLUSTERFS_VERSION={version}");
    println!("cargo:rerun-if-changed=wrapper.h");
    println!("cargo:rerun-if-changed=src/ffi/host/shim.c");
    println!("cargo:rerun-if-changed=src/ffi/host/shim.h");

    bind(&api.include_paths);
    compile_shim(&api.include_paths, version.split('.').next().unwrap_or(version));

    for path in &api.link_paths {
        println!("cargo:rustc-link-search=native={}", path.display());
    }
    println!("cargo:rustc-link-lib=dylib=glusterfs");
    // The host dlcloses translators (glusterd opens them to read their options); the Rust runtime must stay mapped.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
}

fn bind(include: &[PathBuf]) {
    let flags = CONFIG.map(|(key, value)| format!("-D{key}={}", value.unwrap_or("")));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    bindgen::Builder::default()
        .header("wrapper.h")
        .header("src/ffi/host/shim.h")
        .clang_args(flags)
        .clang_args(include.iter().map(|p| format!("-I{}", p.display())))
        .allowlist_function(FUNCTIONS)
        .allowlist_type(TYPES)
        .allowlist_var(CONSTANTS)
        .default_enum_style(bindgen::EnumVariation::Consts)
        .prepend_enum_name(false)
        .generate_comments(false)
        .derive_debug(false)
        .formatter(bindgen::Formatter::None)
        .layout_tests(true)
        .wrap_unsafe_ops(true)
        .parse_callbacks(Box::new(bindgen::CargoCallbacks::new()))
        .generate()
        .expect("bindgen can't read the GlusterFS headers")
        .write_to_file(out.join("bindings.rs"))
        .expect("the bindings can't be written");
}

fn compile_shim(include: &[PathBuf], major: &str) {
    let mut build = cc::Build::new();
    build.define("GLUSTERFS_MAJOR", major);
    for (key, value) in CONFIG {
        build.define(key, value);
    }
    build
        .includes(include)
        .file("src/ffi/host/shim.c")
        .warnings(true)
        .extra_warnings(false)
        .compile("fsnap_shim");
}
