//! Osmia data plane.
