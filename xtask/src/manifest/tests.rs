//! MANIFESTs written, read back, and compared with a tree that changes.

use std::fs;

use super::*;

fn tree() -> tempfile::TempDir {
    let tree = tempfile::tempdir().unwrap();
    let files = [
        ("Cargo.toml", "[workspace.package]\nversion = \"1.0.0\"\n[workspace.lints]\n"),
        ("zc-ebpf/Cargo.toml", "[package]\n"),
        ("zc-ebpf/Cargo.lock", "version = 4\n"),
        ("zc-ebpf/src/main.rs", "//! m\n"),
        ("zc-ebpf/src/probes/sys.rs", "//! s\n"),
        ("zc-ebpf/target/x", "not an input"),
        ("zc-common/Cargo.toml", "[package]\n"),
        ("zc-common/src/lib.rs", "//! l\n"),
        ("zc-common/src/path/rows.rs", "//! r\n"),
        (OBJECT, "object"),
    ];
    for (path, text) in files {
        write(tree.path(), path, text);
    }
    let manifest = Manifest {
        object: digest(b"object"),
        tools: Tools {
            rustc: "rustc 1.96.0 (x), LLVM 22".into(),
            bpf_linker: "bpf-linker 0.10.3".into(),
            llvm_objcopy: "LLVM version 14: y".into(),
        },
        inputs: digests(&inputs(tree.path()).unwrap()),
    };
    assert_eq!(Manifest::parse(&manifest.to_string()), Some(manifest.clone()));
    write(tree.path(), MANIFEST, &manifest.to_string());
    tree
}

fn write(root: &Path, path: &str, text: &str) {
    fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
    fs::write(root.join(path), text).unwrap();
}

#[test]
fn an_unchanged_tree_matches() {
    let tree = tree();
    verify(tree.path()).unwrap();
    write(tree.path(), "zc-common/src/path/rows.rs", "//! another row\n");
    write(tree.path(), "zc-ebpf/target/y", "");
    write(tree.path(), "zc-ebpf/src/.main.rs.swp", "");
    write(tree.path(), "Cargo.toml", "[workspace.package]\nversion   = \"1.0.0\" # spaces\n[workspace.lints.rust]\n");
    verify(tree.path()).unwrap();
}

#[test]
fn a_mismatch_names_the_file_and_the_command() {
    for (path, text, says) in [
        ("zc-ebpf/src/main.rs", "//! n\n", "zc-ebpf/src/main.rs has changed"),
        ("zc-ebpf/src/probes/net.rs", "", "zc-ebpf/src/probes/net.rs is new"),
        ("zc-common/src/lib.rs", "", "zc-common/src/lib.rs has changed"),
        ("Cargo.toml", "[workspace.package]\nversion = \"1.0.1\"\n", "Cargo.toml [workspace.package] has changed"),
        (OBJECT, "other", "zcprof.bpf.o is not the object that was built"),
        (MANIFEST, "rubbish", "MANIFEST: not as"),
    ] {
        let tree = tree();
        write(tree.path(), path, text);
        let error = verify(tree.path()).unwrap_err().to_string();
        assert!(error.contains(says) && error.contains("run `cargo xtask ebpf build`"), "{error}");
        assert_eq!(error.matches(';').count(), 0, "one difference only: {error}");
    }
}

#[test]
fn what_is_gone_is_named() {
    for (path, says) in [
        ("zc-ebpf/src/probes/sys.rs", "zc-ebpf/src/probes/sys.rs is gone"),
        (MANIFEST, "MANIFEST: No such file"),
        (OBJECT, "zcprof.bpf.o: No such file"),
    ] {
        let tree = tree();
        fs::remove_file(tree.path().join(path)).unwrap();
        let error = verify(tree.path()).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn an_edited_manifest_is_not_read() {
    let tree = tree();
    let text = fs::read_to_string(tree.path().join(MANIFEST)).unwrap();
    let edited = text.replace("zc-ebpf/src/main.rs", "zc-ebpf/src/mainly.rs");
    assert_eq!(Manifest::parse(&edited), None);
}
