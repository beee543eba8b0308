//! What a server needs to know before it starts.
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::failure::Failure;

/// Shortest key that is accepted, in characters.
const SHORTEST_KEY: usize = 16;

/// The limits and secrets of a server.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen.
    pub address: SocketAddr,
    /// What every request but `/health` must carry, if anything.
    pub key: Option<String>,
    /// Host names by which the server may be addressed without a key, beside the loopback ones.
    pub hosts: Vec<String>,
    /// Largest body, bytes.
    pub max_body: usize,
    /// Largest picture, pixels.
    pub max_pixels: u64,
    /// Requests that may wait before each model.
    pub queue: usize,
    /// Most pictures of a batch.
    pub batch: usize,
    /// How long a model's thread waits for a batch to fill.
    pub gather: Duration,
    /// Requests a second that one client address may make; 0: any number.
    pub rate: u32,
    /// How long a client may take to send its headers, and then its body.
    pub patience: Duration,
    /// Connections at a time.
    pub connections: usize,
    /// How long requests under way are waited for at the end.
    pub grace: Duration,
}

impl Config {
    /// Says what must not be served.
    ///
    /// # Errors
    /// An address that others can reach, without a key; a key that is easily guessed.
    pub fn check(&self) -> Result<(), Failure> {
        if let Some(key) = &self.key
            && (key.len() < SHORTEST_KEY || !key.bytes().all(|b| b.is_ascii_graphic()))
        {
            return Err(Failure::usage(format!(
                "the key must have at least {SHORTEST_KEY} characters, letters, digits and signs"
            ))
            .hint("openssl rand -hex 16 makes one"));
        }
        if !is_loopback(self.address.ip()) && self.key.is_none() {
            return Err(Failure::usage(format!(
                "{} can be reached from other machines, and no key is set",
                self.address.ip()
            ))
            .hint("set ONSA_API_KEY to a secret, or listen on 127.0.0.1"));
        }
        Ok(())
    }
}

/// Whether only this machine reaches the address.
pub fn is_loopback(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_loopback(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.to_ipv4_mapped().is_some_and(|v4| v4.is_loopback()),
    }
}
