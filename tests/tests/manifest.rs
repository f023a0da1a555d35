//! The committed eBPF object is the one that its sources make.

use std::path::Path;

#[test]
fn the_object_is_built_from_these_sources() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    if let Err(mismatch) = xtask::manifest::verify(root) {
        panic!("{mismatch}");
    }
}
