//! Django's cache engine on Memcached: the sessions of its pymemcache and pylibmc back ends, read and written so that
//! Django and Cloakroom share them.
//!
//! ```
//! # fn example() -> cloakroom_core::Result<()> {
//! use std::sync::Arc;
//!
//! use cloakroom_core::Clock;
//! use cloakroom_core::engine::Engine;
//! use cloakroom_core::wire::cache_key::{CACHE_ENGINE, CacheKeys};
//! use cloakroom_memcached::{MemcachedOptions, MemcachedStore};
//!
//! let options = MemcachedOptions::new(["cache.example:11211"])?;
//! let codec = options.codec();
//! let store = MemcachedStore::new(options, CacheKeys::new("", 1, CACHE_ENGINE), Clock::system())?;
//! let engine = Engine::Store { store: Arc::new(store), codec };
//! # Ok(())
//! # }
//! ```
//!
//! Nothing is connected until the first request: a cache that is down when a site starts does not keep it from
//! starting. Every operation is one exchange with one server, and ends within the two timeouts of the options.
//!
//! # What no error may do
//! A save that fails leaves what was stored as it stood. Memcached makes that harder than it sounds: its commands
//! `set` and `ms` delete the stored value when the new one is over the server's limit, or finds no memory, even if
//! the compare-and-swap number does not match. `cas` and `add` do not, so those are what this store writes with.
//!
//! # What Memcached cannot promise
//! Memcached forgets: a restart signs everybody out, and a full server evicts sessions that have not expired. Sessions
//! that must outlive that belong in a database, with Memcached in front of it perhaps (engine `cached_db`). It counts
//! time in whole seconds, and knows none after 2038-01-19 03:14:07 UTC: what expires later, expires then.

mod connection;
mod options;
mod route;
mod server;
mod store;

pub use options::{Distribution, MemcachedOptions, Serializer};
pub use store::MemcachedStore;
