//! A cache in front of a database: Django's `cached_db` engine.

mod form;
mod halves;
mod suspects;
mod token;

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use tracing::{debug, warn};

use crate::clock::{Clock, Timestamp};
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::key::SessionKey;
use crate::store::{Cleared, Created, Deleted, Replaced, Rotated, Store, Stored, Touched, Version};
use crate::wire::session_data::Codec;
pub use form::CacheForm;
use form::{Form, Read};
use halves::{Found, Inner, Refill, Unsettled};
use suspects::Suspects;
use token::{Base, Token};

/// Sessions in a database, with a cache in front of it. The database decides, the cache saves it work.
///
/// Reading takes what the cache holds; if that is nothing, unreadable, or the cache fails, the row is read and put into
/// the cache until it expires. Writing goes to the database first, by compare-and-swap on the row, and then to the
/// cache. A record that is deleted leaves a *marker* in the cache for a minute: to Django it reads as `None`, hence as
/// no session, and it keeps a reader who had seen the row before from putting it back.
///
/// # What may be stale, and for how long
/// Writers of a session who overtake each other leave a marker too, and the next reader asks the database; nobody puts
/// older data over newer. When the cache takes neither the new data nor a marker, that is logged as an error and the
/// request goes on. This process then asks the database for that session, and offers the cache a marker again every
/// second until it takes one; till then *other* processes, and Django, may read the old data. Reading stale data never
/// loses anything: what a request changes is merged into the row. Django itself writes the cache without looking, so
/// that one of its requests, overtaken between its two writes, can put older data there, as it can without us.
///
/// # Round trips
/// | | cache | database |
/// |---|---|---|
/// | load, hit | 1 | 0 |
/// | load, miss | 2 | 1 |
/// | create | 1 | 1 |
/// | replace | 1 | 1 |
/// | rotation | 2 | 1 |
/// | replace or rotation after a hit, in [`CacheForm::Django`] | as above | one more: Django's entries do not say which row they are |
/// | touch | 1 | 1 |
/// | delete | 2, of a known version 1 | 1 |
///
/// # When something is down
/// Without the cache, everything works as on the database alone, with an error in the log for what could not be
/// written. Only a sign-out fails ([`ErrorKind::Unavailable`]), after its row is deleted: what the cache holds may
/// still be served, and a sign-out that did not happen is not to be claimed. Without the database, sessions in the
/// cache can be read, and nothing can be written.
#[derive(Clone)]
pub struct CachedStore(Arc<Inner>);

impl CachedStore {
    /// A `cache` in front of a `database` whose payloads are written by `database_codec`. `name` is what errors in the
    /// log call the cache.
    pub fn new(
        name: &str,
        cache: Arc<dyn Store>,
        form: CacheForm,
        database: Arc<dyn Store>,
        database_codec: Codec,
        clock: Clock,
    ) -> Self {
        let form = Form::new(form, database_codec);
        Self(Arc::new(Inner { cache, database, form, clock, name: name.into(), suspects: Suspects::default() }))
    }

    /// The codec for this store's payloads. It writes what `database_codec` writes; reading, it also knows what comes
    /// out of the cache.
    pub fn codec(&self) -> Codec {
        self.0.form.codec()
    }

    /// The engine: this store with its codec.
    pub fn into_engine(self) -> Engine {
        let codec = self.codec();
        Engine::Store { store: Arc::new(self), codec }
    }
}

impl fmt::Debug for CachedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachedStore").field("cache", &self.0.name).field("form", &self.0.form).finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for CachedStore {
    async fn load(&self, key: &SessionKey) -> Result<Option<Stored>> {
        let (inner, since) = (&self.0, Instant::now());
        let refill = if inner.suspects.suspicion(key).is_some() {
            if let Err(failure) = inner.invalidate(key, None).await {
                warn!(cache = %inner.name, error = %failure, "the cache failed again, the database is asked");
            }
            Refill::No
        } else {
            match inner.cache.load(key).await {
                Err(failure) => {
                    warn!(cache = %inner.name, error = %failure, "the cache failed, the database is asked");
                    Refill::No
                }
                Ok(None) => Refill::Add,
                Ok(Some(entry)) => match inner.form.read(&entry, inner.clock.now()) {
                    Read::Hit { payload, base } => {
                        debug!(key = %key.masked(), bytes = payload.len(), "cache: hit");
                        let version = Token { base, entry: Some(entry.version) }.into();
                        return Ok(Some(Stored { payload, version, expiry: entry.expiry }));
                    }
                    Read::Nothing => Refill::Over(entry.version),
                    Read::Unreadable(failure) => {
                        warn!(
                            cache = %inner.name, key = %key.masked(), error = %failure,
                            "the cache holds what cannot be read, the database is asked"
                        );
                        Refill::Over(entry.version)
                    }
                },
            }
        };
        let Some(row) = inner.database.load(key).await? else { return Ok(None) };
        let refilled = match refill {
            Refill::No => Ok(None),
            Refill::Add => inner.put(key, &row, None, since).await,
            Refill::Over(entry) => inner.put(key, &row, Some(&entry), since).await,
        };
        let entry = refilled.unwrap_or_else(|failure| {
            // The cache holds nothing of this session, so nothing can be stale.
            warn!(cache = %inner.name, key = %key.masked(), error = %failure, "the cache could not be filled");
            None
        });
        Ok(Some(inner.stored(row, entry)))
    }

    async fn create(&self, key: &SessionKey, payload: Bytes, expiry: Timestamp) -> Result<Created> {
        let (inner, since) = (&self.0, Instant::now());
        let unsettled = Unsettled::new(inner, key);
        let created = inner.database.create(key, payload.clone(), expiry).await;
        let outcome = match created {
            Ok(Created::Created(version)) => {
                let row = Stored { payload, version, expiry };
                let entry = inner.settle(key, &row, None, since).await;
                Ok(Created::Created(Token { base: Base::Row(row.version), entry }.into()))
            }
            other => other,
        };
        unsettled.settled();
        outcome
    }

    async fn replace(
        &self,
        key: &SessionKey,
        version: &Version,
        payload: Bytes,
        expiry: Timestamp,
    ) -> Result<Replaced> {
        let (inner, since) = (&self.0, Instant::now());
        let Token { base, entry } = Token::try_from(version)?;
        let base = match inner.base(key, base).await? {
            Found::Version(version) => version,
            Found::Differs(row) => return Ok(Replaced::Conflict(inner.stored(row, entry))),
            Found::Gone => {
                inner.invalidate_or_log(key, None).await;
                return Ok(Replaced::Gone);
            }
        };
        let unsettled = Unsettled::new(inner, key);
        let replaced = inner.database.replace(key, &base, payload.clone(), expiry).await;
        let outcome = match replaced {
            Ok(Replaced::Replaced(version)) => {
                let row = Stored { payload, version, expiry };
                let entry = inner.settle(key, &row, entry.as_ref(), since).await;
                Ok(Replaced::Replaced(Token { base: Base::Row(row.version), entry }.into()))
            }
            Ok(Replaced::Conflict(row)) => Ok(Replaced::Conflict(inner.stored(row, entry))),
            Ok(Replaced::Gone) => {
                inner.invalidate_or_log(key, None).await;
                Ok(Replaced::Gone)
            }
            Err(failure) => Err(failure),
        };
        unsettled.settled();
        outcome
    }

    async fn touch(&self, key: &SessionKey, expiry: Timestamp) -> Result<Touched> {
        let inner = &self.0;
        let touched = inner.database.touch(key, expiry).await?;
        match touched {
            // A marker may be touched too; the next reader replaces it all the same.
            Touched::Touched => {
                if let Err(failure) = inner.cache.touch(key, expiry).await {
                    warn!(cache = %inner.name, error = %failure, "the cache could not renew an entry");
                }
            }
            Touched::Gone => inner.invalidate_or_log(key, None).await,
        }
        Ok(touched)
    }

    async fn delete(&self, key: &SessionKey, version: Option<&Version>) -> Result<Deleted> {
        let inner = &self.0;
        let mut entry = None;
        let base = match version.map(Token::try_from).transpose()? {
            None => None,
            Some(token) => {
                entry = token.entry;
                match inner.base(key, token.base).await? {
                    Found::Version(version) => Some(version),
                    Found::Differs(row) => return Ok(Deleted::Conflict(inner.stored(row, entry))),
                    Found::Gone => {
                        inner.invalidate_or_log(key, None).await;
                        return Ok(Deleted::Gone);
                    }
                }
            }
        };
        let unsettled = Unsettled::new(inner, key);
        let outcome = match inner.database.delete(key, base.as_ref()).await {
            Ok(Deleted::Conflict(row)) => Ok(Deleted::Conflict(inner.stored(row, entry))),
            Ok(deleted) if version.is_some() => {
                // A rotation: its data lives on under another key, which the visitor must learn, cache or no cache.
                inner.invalidate_or_log(key, entry.as_ref()).await;
                Ok(deleted)
            }
            Ok(deleted) => match inner.invalidate(key, None).await {
                Ok(()) => Ok(deleted),
                Err(failure) => Err(Error::new(
                    ErrorKind::Unavailable,
                    format!(
                        "the session's row is deleted, but the cache ({}) did not answer and may still serve the \
                         session to others: bring the cache back and sign out again",
                        inner.name
                    ),
                )
                .with_source(failure)),
            },
            Err(failure) => Err(failure),
        };
        unsettled.settled();
        outcome
    }

    async fn rotate(
        &self,
        old: &SessionKey,
        version: &Version,
        new: &SessionKey,
        payload: Bytes,
        expiry: Timestamp,
    ) -> Result<Rotated> {
        let (inner, since) = (&self.0, Instant::now());
        let Token { base, entry } = Token::try_from(version)?;
        let base = match inner.base(old, base).await? {
            Found::Version(version) => version,
            Found::Differs(row) => return Ok(Rotated::Conflict(inner.stored(row, entry))),
            Found::Gone => {
                inner.invalidate_or_log(old, None).await;
                return Ok(Rotated::Gone);
            }
        };
        let unsettled = (Unsettled::new(inner, old), Unsettled::new(inner, new));
        let outcome = match inner.database.rotate(old, &base, new, payload.clone(), expiry).await {
            Ok(Rotated::Rotated(version)) => {
                // The data lives on under another key, which the visitor must learn, cache or no cache.
                inner.invalidate_or_log(old, entry.as_ref()).await;
                let row = Stored { payload, version, expiry };
                let entry = inner.settle(new, &row, None, since).await;
                Ok(Rotated::Rotated(Token { base: Base::Row(row.version), entry }.into()))
            }
            Ok(Rotated::Conflict(row)) => Ok(Rotated::Conflict(inner.stored(row, entry))),
            Ok(Rotated::Gone) => {
                inner.invalidate_or_log(old, None).await;
                Ok(Rotated::Gone)
            }
            Err(failure) => {
                // It may have been carried out, and then the old key must not be served any more.
                inner.invalidate_or_log(old, None).await;
                Err(failure)
            }
            Ok(other) => Ok(other),
        };
        unsettled.0.settled();
        unsettled.1.settled();
        outcome
    }

    async fn clear_expired(&self, batch: usize) -> Result<Cleared> {
        // The cache clears itself.
        self.0.database.clear_expired(batch).await
    }

    async fn list(&self, after: Option<&SessionKey>, limit: usize) -> Result<Vec<SessionKey>> {
        self.0.database.list(after, limit).await
    }
}
