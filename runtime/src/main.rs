//! The `osmia` binary.
fn main() {}
