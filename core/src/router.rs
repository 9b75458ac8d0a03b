//! Route matching.
/// Routes by host and path.
#[derive(Debug, Default)]
pub struct Router;
