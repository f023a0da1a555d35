//! The `zcprof` binary.

fn main() {}
