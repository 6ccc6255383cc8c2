//! Finds the installed libgfapi and binds its headers.

use std::env;
use std::path::PathBuf;

fn main() {
    let api = pkg_config::Config::new().cargo_metadata(false).probe("glusterfs-api").expect(
        "GlusterFS's development files are missing: on Debian install libglusterfs-dev, libacl1-dev and uuid-dev",
    );
    println!("cargo:rerun-if-changed=wrapper.h");
    // The pkg-config file gives the version of the API, which is "7." and the version of GlusterFS.
    let version = api.version.strip_prefix("7.").unwrap_or(&api.version);
    let libdir =
        pkg_config::get_variable("glusterfs-api", "libdir").expect("pkg-config knows where libraries are");
    println!("cargo:rustc-env=FSNAP_TRANSLATORS={libdir}/glusterfs/{version}/xlator");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    bindgen::Builder::default()
        .header("wrapper.h")
        .clang_arg("-D_FILE_OFFSET_BITS=64")
        .clang_args(api.include_paths.iter().map(|path| format!("-I{}", path.display())))
        .allowlist_function(
            "glfs_(new|init|set_logging|set_volfile|set_volfile_server|get_volfile|get_volumeid|h_lookupat|h_extract_handle|h_create_from_handle|h_setxattrs|h_getxattrs|h_link|h_stat)",
        )
        .generate_comments(false)
        .formatter(bindgen::Formatter::None)
        .wrap_unsafe_ops(true)
        .parse_callbacks(Box::new(bindgen::CargoCallbacks::new()))
        .generate()
        .expect("bindgen can't read the headers of libgfapi")
        .write_to_file(out.join("bindings.rs"))
        .expect("the bindings can't be written");
    for path in &api.link_paths {
        println!("cargo:rustc-link-search=native={}", path.display());
    }
    println!("cargo:rustc-link-lib=dylib=gfapi");
}
