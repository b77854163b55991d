//! The store.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use cloakroom_core::store::{Cleared, Created, Deleted, Replaced, Store, Stored, Touched, Version};
use cloakroom_core::wire::cache_key::{CacheKeys, Timeout, memcached_fault};
use cloakroom_core::{Clock, Error, ErrorKind, Result, SessionKey, Timestamp};

use crate::connection::{Item, Reply, Request};
use crate::options::{Address, Distribution, MemcachedOptions};
use crate::route::route;
use crate::server::Server;

/// What stands in front of a value that bears other flags than ours do: no codec reads it. Plain bytes could look like
/// a pickle.
const FOREIGN: &[u8] = b"\0another kind of value\0";
/// Memcached keeps the end of an item as a signed 32-bit Unix time; what is later it takes to be over.
const LAST_MOMENT: i64 = i32::MAX as i64;
/// So many microseconds may pass between the moment a session's end was computed and the moment it is sent. Without
/// them, what is to last for a second would be cut to nothing.
const ON_THE_WAY: i64 = 10_000;

/// Sessions in Memcached: Django's cache engine with its back ends for pymemcache or pylibmc.
///
/// Every operation is one command to one server, which goes along with others that are about to be sent; a `replace` or
/// `delete` that meets another version than it was given makes one more, to fetch what stands now. Two saves of one
/// session in the same request need one more as well: Memcached does not tell the number of what it stores, so the
/// second one looks first whether the first one's value stands.
///
/// The server's own clock decides what has expired. See [the crate](crate) for what Memcached cannot promise.
pub struct MemcachedStore {
    servers: Vec<Arc<Server>>,
    /// Their names, in the same order.
    nodes: Vec<String>,
    distribution: Distribution,
    keys: CacheKeys,
    /// The client flags of what we write.
    flags: u32,
    clock: Clock,
}

impl MemcachedStore {
    /// A store on the servers of the options, under these keys. Nothing is connected yet.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] if Memcached does not take such keys.
    pub fn new(options: MemcachedOptions, keys: CacheKeys, clock: Clock) -> Result<Self> {
        keys.check_memcached()?;
        let nodes = options.addresses.iter().map(Address::node).collect();
        let servers =
            options.addresses.iter().map(|address| Arc::new(Server::new(address.clone(), &options))).collect();
        Ok(Self { servers, nodes, distribution: options.distribution, keys, flags: options.serializer.flags(), clock })
    }

    /// The final key, and the server that keeps it; `None` if no server takes such a key.
    fn place(&self, key: &SessionKey) -> Option<(String, &Arc<Server>)> {
        let key = self.keys.key(key.as_str());
        match memcached_fault(&key) {
            Some(_) => None,
            None => {
                let server = &self.servers[route(self.distribution, &self.nodes, &key)];
                Some((key, server))
            }
        }
    }

    /// The expiry time as the server wants it.
    fn exptime(&self, expiry: Timestamp) -> i64 {
        const SECOND: i64 = 1_000_000;
        let now = self.clock.now();
        let left = expiry.micros_since(now);
        let whole = left.saturating_add(ON_THE_WAY).div_euclid(SECOND) * SECOND;
        Timeout::from_micros(left.max(whole)).memcached(now).min(LAST_MOMENT)
    }

    fn stored(&self, item: Item) -> Stored {
        let expiry = match item.ttl {
            None => Timestamp::MAX,
            Some(ttl) => self.clock.now().checked_add_micros(i64::from(ttl) * 1_000_000).unwrap_or(Timestamp::MAX),
        };
        let payload = match item.flags {
            flags if flags == self.flags => item.data,
            _ => [FOREIGN, &item.data].concat().into(),
        };
        Stored { payload, version: Version::counter(item.cas), expiry }
    }

    async fn get(&self, key: &str, server: &Arc<Server>) -> Result<Option<Stored>> {
        match server.ask(Request::get(key)).await? {
            Reply::Item(item) => Ok(Some(self.stored(item))),
            Reply::Missing => Ok(None),
            other => Err(unexpected(&other)),
        }
    }

    /// The number under which a version stands; what stands instead, if another does; `None` if nothing stands.
    async fn standing(
        &self,
        key: &str,
        server: &Arc<Server>,
        version: &Version,
    ) -> Result<Option<Result<u64, Stored>>> {
        if let Some(cas) = version.as_counter() {
            return Ok(Some(Ok(cas)));
        }
        let Some(stored) = self.get(key, server).await? else { return Ok(None) };
        Ok(Some(match stored.version.as_counter() {
            Some(cas) if Some(&stored.payload) == version.as_payload() => Ok(cas),
            _ => Err(stored),
        }))
    }
}

#[async_trait]
impl Store for MemcachedStore {
    async fn load(&self, key: &SessionKey) -> Result<Option<Stored>> {
        let Some((key, server)) = self.place(key) else { return Ok(None) };
        self.get(&key, server).await
    }

    async fn create(&self, key: &SessionKey, payload: Bytes, expiry: Timestamp) -> Result<Created> {
        let Some((key, server)) = self.place(key) else {
            return Err(Error::new(ErrorKind::TooLarge, "Memcached takes no keys longer than 250 bytes"));
        };
        let add = Request::add(&key, self.flags, self.exptime(expiry), payload.clone());
        match server.ask(add).await? {
            Reply::Done => Ok(Created::Created(Version::payload(payload))),
            Reply::Taken => Ok(Created::Taken),
            other => Err(unexpected(&other)),
        }
    }

    async fn replace(
        &self,
        key: &SessionKey,
        version: &Version,
        payload: Bytes,
        expiry: Timestamp,
    ) -> Result<Replaced> {
        let Some((key, server)) = self.place(key) else { return Ok(Replaced::Gone) };
        let cas = match self.standing(&key, server, version).await? {
            None => return Ok(Replaced::Gone),
            Some(Err(stored)) => return Ok(Replaced::Conflict(stored)),
            Some(Ok(cas)) => cas,
        };
        let replace = Request::cas(&key, self.flags, self.exptime(expiry), payload.clone(), cas);
        match server.ask(replace).await? {
            Reply::Done => Ok(Replaced::Replaced(Version::payload(payload))),
            Reply::Missing => Ok(Replaced::Gone),
            Reply::Changed => Ok(self.get(&key, server).await?.map_or(Replaced::Gone, Replaced::Conflict)),
            other => Err(unexpected(&other)),
        }
    }

    async fn touch(&self, key: &SessionKey, expiry: Timestamp) -> Result<Touched> {
        let Some((key, server)) = self.place(key) else { return Ok(Touched::Gone) };
        match server.ask(Request::touch(&key, self.exptime(expiry))).await? {
            Reply::Done => Ok(Touched::Touched),
            Reply::Missing => Ok(Touched::Gone),
            other => Err(unexpected(&other)),
        }
    }

    async fn delete(&self, key: &SessionKey, version: Option<&Version>) -> Result<Deleted> {
        let Some((key, server)) = self.place(key) else { return Ok(Deleted::Gone) };
        let cas = match version {
            None => None,
            Some(version) => match self.standing(&key, server, version).await? {
                None => return Ok(Deleted::Gone),
                Some(Err(stored)) => return Ok(Deleted::Conflict(stored)),
                Some(Ok(cas)) => Some(cas),
            },
        };
        match server.ask(Request::delete(&key, cas)).await? {
            Reply::Done => Ok(Deleted::Deleted),
            Reply::Missing => Ok(Deleted::Gone),
            Reply::Changed => Ok(self.get(&key, server).await?.map_or(Deleted::Gone, Deleted::Conflict)),
            other => Err(unexpected(&other)),
        }
    }

    /// Nothing: Memcached removes by itself what has expired.
    async fn clear_expired(&self, _batch: usize) -> Result<Cleared> {
        Ok(Cleared { removed: 0, more: false })
    }

    async fn list(&self, _after: Option<&SessionKey>, _limit: usize) -> Result<Vec<SessionKey>> {
        Err(Error::new(ErrorKind::Unsupported, "Memcached cannot list what it keeps, so its sessions cannot be listed"))
    }
}

fn unexpected(reply: &Reply) -> Error {
    let said = match reply {
        Reply::Item(_) => "an item",
        Reply::Done => "done",
        Reply::Missing => "missing",
        Reply::Taken => "taken",
        Reply::Changed => "changed",
        Reply::Failed(_) => "failed",
    };
    Error::new(ErrorKind::Unavailable, format!("Memcached answered {said:?} to a command that has no such answer"))
}
