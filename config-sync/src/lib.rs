//! Configuration plane.
