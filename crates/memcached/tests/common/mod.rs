//! What the tests of the store share. Not every one uses all of it.
#![allow(dead_code)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use cloakroom_core::store::{Created, Store, Version};
use cloakroom_core::wire::cache_key::{CACHE_ENGINE, CacheKeys};
use cloakroom_core::{Clock, KeySource, SessionKey, Timestamp};
use cloakroom_memcached::{MemcachedOptions, MemcachedStore};

/// Keys that no other test uses.
pub(crate) fn keys() -> CacheKeys {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    CacheKeys::new(&format!("test{}", NEXT.fetch_add(1, Ordering::Relaxed)), 1, CACHE_ENGINE)
}

pub(crate) fn options(location: &str) -> MemcachedOptions {
    MemcachedOptions::new([location]).expect("a location")
}

pub(crate) fn store(location: &str) -> MemcachedStore {
    MemcachedStore::new(options(location), keys(), Clock::system()).expect("a store")
}

pub(crate) fn key() -> SessionKey {
    KeySource::system().draw().expect("a random key")
}

pub(crate) fn later() -> Timestamp {
    Clock::system().now().checked_add_micros(3_600_000_000).expect("within the calendar")
}

pub(crate) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(crate) async fn create(store: &MemcachedStore, key: &SessionKey, payload: Bytes) -> Version {
    match store.create(key, payload, later()).await.expect("create") {
        Created::Created(version) => version,
        Created::Taken => panic!("an unused key was taken"),
    }
}

/// A connection of the test's own, on which it says to the server what it likes.
pub(crate) struct Wire(BufReader<TcpStream>);

impl Wire {
    pub(crate) fn open(address: &str) -> Self {
        Self(BufReader::new(TcpStream::connect(address).expect("the server")))
    }

    /// Says something, and returns the first line of the answer.
    pub(crate) fn say(&mut self, text: &str) -> String {
        self.0.get_mut().write_all(text.as_bytes()).expect("the server listens");
        self.line()
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("an answer");
        line.trim_end().to_owned()
    }

    /// Stores a value.
    pub(crate) fn set(&mut self, key: &str, flags: u32, value: &[u8]) {
        let command = format!("set {key} {flags} 1000 {}\r\n", value.len());
        self.0.get_mut().write_all(&[command.as_bytes(), value, b"\r\n"].concat()).expect("the server listens");
        assert_eq!(self.line(), "STORED");
    }

    /// The value under a key, with its flags.
    pub(crate) fn get(&mut self, key: &str) -> Option<(u32, Vec<u8>)> {
        let head = self.say(&format!("get {key}\r\n"));
        if head == "END" {
            return None;
        }
        let words: Vec<&str> = head.split(' ').collect();
        let mut value = vec![0; words[3].parse::<usize>().expect("a length") + 2];
        self.0.read_exact(&mut value).expect("the value");
        value.truncate(value.len() - 2);
        assert_eq!(self.line(), "END");
        Some((words[2].parse().expect("flags"), value))
    }

    /// One of the server's statistics.
    pub(crate) fn stat(&mut self, name: &str) -> u64 {
        let mut line = self.say("stats\r\n");
        let mut found = None;
        while line != "END" {
            if let Some(value) = line.strip_prefix(&format!("STAT {name} ")) {
                found = Some(value.parse().expect("a number"));
            }
            line = self.line();
        }
        found.unwrap_or_else(|| panic!("no statistic {name}"))
    }
}
