//! Names and services from the DNS: against a server that answers, changes its mind, and does not.

mod client;
mod followed;
mod server;
