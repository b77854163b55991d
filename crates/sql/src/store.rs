//! The one body of all SQL stores.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use cloakroom_core::store::{Cleared, Created, Deleted, Replaced, Rotated, Store, Stored, Touched, Version};
use cloakroom_core::sweep::{Turn, Turns};
use cloakroom_core::{Clock, Error, ErrorKind, Result, SessionKey, Timestamp};
use sqlx::Database;
use sqlx::error::BoxDynError;

use crate::dialect::{Dialect, Failed, Param, Run, Running};
use crate::group::{Groups, Joined, LARGE};
use crate::lease::{Connections, Lease};
use crate::migrate::Migrations;
use crate::near::Near;
use crate::wish::Wish;

/// How often a compare-and-swap is tried again when the row that refused it turns out to hold what was expected: it
/// was changed and changed back between two statements.
const SWAP_TRIES: usize = 3;

/// How often a statement is repeated that the database took back because of others.
const UNDONE_TRIES: usize = 3;

/// Sessions in the table `django_session` of a database.
///
/// Each operation is one statement, hence one round trip; only a `replace`, a `rotate` or a guarded `delete` that was
/// refused reads the row once more, to say what stands there. Those that wait at the same moment go together, in one
/// statement (PostgreSQL, MariaDB) or transaction (SQLite), with an outcome for each. The version of a record is its stored text, since
/// Django's table has no other: a save that finds another text than it loaded changes nothing.
///
/// Dropping the future of an operation leaves the row as it was or as it was to be, never in between.
///
/// # Broken connections
/// No connection is tested before its use, which would cost another round trip. One that turns out to be broken, since
/// the server was restarted or hung up, is replaced, and the statement repeated. Where the broken connection may have
/// carried it out, that shows: what was to be stored stands there already. If something else stands there, the
/// operation fails as [unavailable](ErrorKind::Unavailable) rather than guess: a merge that was stored once must not be
/// merged again.
#[derive(Debug)]
pub struct SqlStore<D: Dialect> {
    pub(crate) dialect: Arc<D>,
    clock: Clock,
    pub(crate) groups: Arc<Groups<D>>,
}

type Db<D> = <D as Dialect>::Db;
type Conn<D> = <Db<D> as Database>::Connection;
type Args<D> = <Db<D> as Database>::Arguments;

/// A way to run a statement on a connection.
type Way<D, T> = for<'c> fn(&'c mut Conn<D>, &'static str, Args<D>) -> Running<'c, T>;

impl<D: Dialect> SqlStore<D> {
    pub(crate) fn with_dialect(dialect: D, clock: Clock) -> Self {
        Self { dialect: Arc::new(dialect), clock, groups: Groups::new() }
    }

    /// The same store once more.
    pub(crate) fn handle(&self) -> Self {
        Self { dialect: self.dialect.clone(), clock: self.clock.clone(), groups: self.groups.clone() }
    }

    /// The migrations of this store's database.
    pub fn migrations(&self) -> Migrations<'_, D> {
        Migrations::new(self)
    }

    /// The clock that decides which records have expired.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// How many records have expired and were not removed yet: what a sweep has before it.
    ///
    /// # Errors
    /// As those of the store's operations.
    pub async fn count_expired(&self) -> Result<u64> {
        const DOING: &str = "count expired sessions";
        let now = [Param::Moment(self.clock.now())];
        let row = self.run(DOING, Side::Read, Db::<D>::fetch_optional, D::STATEMENTS.count_expired, &now).await?.result;
        let Some(row) = row else { return Ok(0) };
        let count = self.dialect.text(&row, 0).map_err(|e| self.dialect.error(DOING, e))?;
        Ok(count.parse().unwrap_or_default())
    }

    /// A connection to look at something.
    pub(crate) async fn reader(&self, doing: &'static str) -> Result<Lease<Db<D>>> {
        self.lease(doing, &self.dialect.pools().await?.read).await
    }

    /// A connection to change something, or to read what was changed.
    pub(crate) async fn writer(&self, doing: &'static str) -> Result<Lease<Db<D>>> {
        self.lease(doing, &self.dialect.pools().await?.write).await
    }

    async fn lease(&self, doing: &'static str, connections: &Arc<Connections<Db<D>>>) -> Result<Lease<Db<D>>> {
        connections.lend(self.dialect.patience()).await.map_err(|e| self.dialect.error(doing, e))
    }

    pub(crate) fn arguments(
        &self,
        doing: &'static str,
        params: &[Param<'_>],
    ) -> Result<<Db<D> as Database>::Arguments> {
        self.dialect.arguments(params).map_err(|e| self.dialect.error(doing, sqlx::Error::Encode(e)))
    }

    /// Runs one statement on a connection of a pool, in bounded time, and again where that can help.
    async fn run<T>(
        &self,
        doing: &'static str,
        side: Side,
        way: Way<D, T>,
        sql: &'static str,
        params: &[Param<'_>],
    ) -> Result<Ran<T>> {
        let mut repeated = false;
        let arguments = || self.dialect.arguments(params);
        // In boxes: an operation that goes together with others, or needs no statement, has no room for one. So its own
        // box stays small enough for what allocators keep at hand for each thread.
        let result = Box::pin(self.attempt(doing, side, way, sql, &arguments, &mut repeated)).await;
        match result {
            Ok(result) => Ok(Ran { result, repeated }),
            Err(error) => Err(Box::pin(self.explained(doing, error, params.iter().map(Param::size).sum())).await),
        }
    }

    /// An error of a statement that carried `size` bytes. A server that is sent more than it takes may break the
    /// connection before its reason was read.
    pub(crate) async fn explained(&self, doing: &'static str, error: Error, size: usize) -> Error {
        if error.kind() != ErrorKind::Unavailable || size < LARGE {
            return error;
        }
        match self.dialect.longest_statement().await {
            Some(longest) if longest < size as u64 => {
                let message =
                    format!("could not {doing}: it has {size} bytes, and the database takes {longest} at most");
                Error::new(ErrorKind::TooLarge, message).with_source(error)
            }
            _ => error,
        }
    }

    /// The same, with whatever makes the arguments. `repeated` is told in case of an error too.
    pub(crate) async fn attempt<T>(
        &self,
        doing: &'static str,
        side: Side,
        way: Way<D, T>,
        sql: &'static str,
        arguments: &(dyn Fn() -> Result<Args<D>, BoxDynError> + Sync),
        repeated: &mut bool,
    ) -> Result<T> {
        let connections = match (side, self.dialect.pools().await?) {
            (Side::Read, pools) => pools.read,
            (Side::Write, pools) => pools.write,
        };
        let patience = self.dialect.patience();
        let begin = Instant::now();
        let (mut lost, mut undone) = (0, 0);
        loop {
            let mut lease = self.lease(doing, &connections).await?;
            let arguments = arguments().map_err(|e| self.dialect.error(doing, sqlx::Error::Encode(e)))?;
            let running = way(&mut lease, sql, arguments);
            let result = match patience {
                None => running.await,
                Some(patience) => match tokio::time::timeout(patience, running).await {
                    Ok(result) => result,
                    Err(_) => {
                        lease.discard();
                        return Err(self.dialect.silence(doing));
                    }
                },
            };
            let error = match result {
                Ok(result) => {
                    lease.sound();
                    return Ok(result);
                }
                Err(error) => error,
            };
            let in_time = patience.is_none_or(|patience| begin.elapsed() < patience);
            match D::failed(&error) {
                Failed::Lost => {
                    lease.discard();
                    // A server that was restarted broke all that the pool held, and a new connection comes after them.
                    if !in_time || lost >= connections.pool().options().get_max_connections() {
                        return Err(self.dialect.error(doing, error));
                    }
                    lost += 1;
                    *repeated = true;
                    tracing::debug!(%error, "a connection was broken: trying another one");
                }
                Failed::Undone if in_time && undone < UNDONE_TRIES => undone += 1,
                _ => return Err(self.dialect.error(doing, error)),
            }
        }
    }

    /// Changes rows by one statement, for the number of rows that match.
    async fn alter(
        &self,
        doing: &'static str,
        way: Way<D, u64>,
        sql: &'static str,
        params: &[Param<'_>],
    ) -> Result<Ran<u64>> {
        match self.dialect.write(doing, sql, params).await {
            Some(result) => result.map(|result| Ran { result, repeated: false }),
            None => self.run(doing, Side::Write, way, sql, params).await,
        }
    }

    /// The same for a statement that gives no row another key.
    async fn execute(&self, doing: &'static str, sql: &'static str, params: &[Param<'_>]) -> Result<Ran<u64>> {
        self.alter(doing, matched::<D>, sql, params).await
    }

    /// Changes one row, alone or together with others, for the number of rows that match.
    async fn change(&self, wish: &Wish, way: Way<D, u64>, sql: &'static str) -> Result<Ran<u64>> {
        if self.dialect.writes() {
            return self.alter(wish.doing(), way, sql, &wish.params()).await;
        }
        let alone = match self.join(wish).await? {
            Joined::Matched(_) => return Ok(Ran { result: 1, repeated: false }),
            Joined::Unmatched { repeated } => return Ok(Ran { result: 0, repeated }),
            Joined::Alone(alone) => alone,
        };
        let ran = self.run(wish.doing(), Side::Write, way, sql, &wish.params()).await?;
        Ok(Ran { result: ran.result, repeated: ran.repeated || alone.repeated })
    }

    /// Runs a statement for a record, if there is one.
    async fn record(
        &self,
        doing: &'static str,
        side: Side,
        sql: &'static str,
        params: &[Param<'_>],
    ) -> Result<Option<Stored>> {
        let row = self.run(doing, side, Db::<D>::fetch_optional, sql, params).await?.result;
        row.map(|row| self.stored(doing, &row)).transpose()
    }

    /// The record of a row.
    pub(crate) fn stored(&self, doing: &'static str, row: &<Db<D> as Database>::Row) -> Result<Stored> {
        let (payload, expiry) = self.dialect.record(row).map_err(|e| self.dialect.error(doing, e))?;
        Ok(self.alive(payload, expiry))
    }

    /// A record that is alive.
    fn alive(&self, payload: Bytes, expiry: Option<Timestamp>) -> Stored {
        // The database found the row to be alive, whatever its date looks like. A second from now is the date
        // that makes everybody renew it soon, and nobody trust it for long.
        let expiry = expiry.unwrap_or_else(|| {
            tracing::warn!("a session record has an expire_date that cannot be read");
            let now = self.clock.now();
            now.checked_add_micros(1_000_000).unwrap_or(now)
        });
        Stored { version: Version::payload(payload.clone()), payload, expiry }
    }

    /// The record that stands under a key, expired or not.
    async fn find(&self, doing: &'static str, key: &SessionKey) -> Result<Option<Stored>> {
        self.record(doing, Side::Write, D::STATEMENTS.find, &[Param::Key(key.as_str())]).await
    }

    /// Changes the row only if it holds the expected payload; otherwise says what stands there. A first attempt was made
    /// already, if `first` says what it came to.
    async fn swap(
        &self,
        doing: &'static str,
        key: &SessionKey,
        expected: &Bytes,
        sql: &'static str,
        params: &[Param<'_>],
        mut first: Option<Ran<u64>>,
    ) -> Result<Ran<Swapped>> {
        let mut tries = 1;
        let mut repeated = false;
        loop {
            let ran = match first.take() {
                Some(ran) => ran,
                None => self.execute(doing, sql, params).await?,
            };
            repeated |= ran.repeated;
            if ran.result > 0 {
                return Ok(Ran { result: Swapped::Done, repeated });
            }
            let result = match self.find(doing, key).await? {
                None => Swapped::Gone,
                // What was expected stands there after all: another writer put it back in between, or a statement for
                // many passed the row since somebody held it.
                Some(stored) if stored.payload == *expected && tries < SWAP_TRIES => {
                    tries += 1;
                    continue;
                }
                Some(stored) => Swapped::Conflict(stored),
            };
            return Ok(Ran { result, repeated });
        }
    }
}

/// Which pool a statement goes to.
#[derive(Clone, Copy)]
pub(crate) enum Side {
    Read,
    Write,
}

/// What a statement came to.
pub(crate) struct Ran<T> {
    pub(crate) result: T,
    /// A connection broke under the first attempt, and a second one was made: the first may have been carried out.
    pub(crate) repeated: bool,
}

enum Swapped {
    Done,
    Conflict(Stored),
    Gone,
}

fn expected(version: &Version) -> Result<&Bytes> {
    version.as_payload().ok_or_else(|| {
        Error::new(ErrorKind::Unsupported, "this version comes from another store: a SQL store compares payloads")
    })
}

fn count(rows: usize) -> Param<'static> {
    Param::Count(i64::try_from(rows).unwrap_or(i64::MAX))
}

/// Runs a statement for the number of rows that it matches.
fn matched<'c, D: Dialect>(conn: &'c mut Conn<D>, sql: &'static str, arguments: Args<D>) -> Running<'c, u64> {
    let running = Db::<D>::execute(conn, sql, arguments);
    Box::pin(async move { running.await.map(|result| D::matched(&result)) })
}

/// Runs a statement that gives a row a key, for the number of rows: none if the key is taken.
fn occupy<'c, D: Dialect>(conn: &'c mut Conn<D>, sql: &'static str, arguments: Args<D>) -> Running<'c, u64> {
    let running = Db::<D>::execute(conn, sql, arguments);
    Box::pin(async move {
        match running.await {
            // Where a statement cannot be told to leave a taken key alone without hiding other errors too.
            Err(sqlx::Error::Database(e)) if e.is_unique_violation() => Ok(0),
            result => result.map(|result| D::matched(&result)),
        }
    })
}

/// The answer where a repeated statement finds another state than either attempt leaves.
fn unknown(doing: &str) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        format!("could not {doing}: the connection to the database broke, and what became of the change is unknown"),
    )
}

#[async_trait]
impl<D: Dialect> Store for SqlStore<D> {
    async fn load(&self, key: &SessionKey) -> Result<Option<Stored>> {
        if let Some(stored) = self.dialect.near().get(key) {
            return Ok(Some(stored));
        }
        let now = self.clock.now();
        if let Some(found) = self.dialect.glance(key, now) {
            return Ok(found.map(|(payload, expiry)| self.alive(payload, expiry)));
        }
        let place = self.dialect.near().reserve(key);
        let wish = Wish::Load { key: key.clone(), now };
        let _alone = match self.join(&wish).await? {
            Joined::Matched(stored) => return Ok(D::Near::keep(place, stored)),
            Joined::Unmatched { .. } => return Ok(None),
            Joined::Alone(alone) => alone,
        };
        let stored = self.record(wish.doing(), Side::Read, D::STATEMENTS.load, &wish.params()).await?;
        Ok(D::Near::keep(place, stored))
    }

    async fn create(&self, key: &SessionKey, payload: Bytes, expiry: Timestamp) -> Result<Created> {
        let _changing = self.dialect.near().changing(key);
        let wish = Wish::Create { key: key.clone(), payload: payload.clone(), expiry };
        let ran = self.change(&wish, occupy::<D>, D::STATEMENTS.create).await?;
        let created = match (ran.result, ran.repeated) {
            (0, false) => false,
            // It may be ourselves who took the key.
            (0, true) => Box::pin(self.find(wish.doing(), key)).await?.is_some_and(|stored| stored.payload == payload),
            _ => true,
        };
        Ok(if created { Created::Created(Version::payload(payload)) } else { Created::Taken })
    }

    async fn replace(
        &self,
        key: &SessionKey,
        version: &Version,
        payload: Bytes,
        expiry: Timestamp,
    ) -> Result<Replaced> {
        let _changing = self.dialect.near().changing(key);
        let expected = expected(version)?;
        let wish = Wish::Replace { key: key.clone(), expected: expected.clone(), payload: payload.clone(), expiry };
        let first = self.change(&wish, matched::<D>, D::STATEMENTS.replace).await?;
        if first.result > 0 {
            return Ok(Replaced::Replaced(Version::payload(payload)));
        }
        let doing = wish.doing();
        let params = wish.params();
        // What seldom comes stands in a box, so that the future of a save has no room for it.
        let ran = Box::pin(self.swap(doing, key, expected, D::STATEMENTS.replace, &params, Some(first))).await?;
        Ok(match ran.result {
            Swapped::Done => Replaced::Replaced(Version::payload(payload)),
            // Even our own payload may be another request's: two that add one to the same counter save the same.
            Swapped::Conflict(_) if ran.repeated => return Err(unknown(doing)),
            Swapped::Conflict(stored) => Replaced::Conflict(stored),
            Swapped::Gone => Replaced::Gone,
        })
    }

    async fn touch(&self, key: &SessionKey, expiry: Timestamp) -> Result<Touched> {
        let _changing = self.dialect.near().changing(key);
        let wish = Wish::Touch { key: key.clone(), expiry, now: self.clock.now() };
        let joined = if self.dialect.writes() { None } else { Some(self.join(&wish).await?) };
        if matches!(joined, Some(Joined::Matched(_))) {
            return Ok(Touched::Touched);
        }
        // If it was not matched, it was passed, perhaps, since somebody holds the row.
        match self.execute(wish.doing(), D::STATEMENTS.touch, &wish.params()).await?.result {
            0 => Ok(Touched::Gone),
            _ => Ok(Touched::Touched),
        }
    }

    async fn delete(&self, key: &SessionKey, version: Option<&Version>) -> Result<Deleted> {
        const DOING: &str = "delete a session";
        let _changing = self.dialect.near().changing(key);
        let Some(version) = version else {
            let ran = self.execute(DOING, D::STATEMENTS.delete, &[Param::Key(key.as_str())]).await?;
            return match ran.result {
                0 => Ok(Deleted::Gone),
                _ => Ok(Deleted::Deleted),
            };
        };
        let expected = expected(version)?;
        let params = [Param::Key(key.as_str()), Param::Payload(expected)];
        let ran = self.swap(DOING, key, expected, D::STATEMENTS.delete_version, &params, None).await?;
        Ok(match ran.result {
            Swapped::Done => Deleted::Deleted,
            Swapped::Conflict(stored) => Deleted::Conflict(stored),
            // By us, or by a sign-out? The one ends a rotation well, the other must end the rotated session too.
            Swapped::Gone if ran.repeated => return Err(unknown(DOING)),
            Swapped::Gone => Deleted::Gone,
        })
    }

    async fn rotate(
        &self,
        old: &SessionKey,
        version: &Version,
        new: &SessionKey,
        payload: Bytes,
        expiry: Timestamp,
    ) -> Result<Rotated> {
        const DOING: &str = "rotate a session";
        let _changing = (self.dialect.near().changing(old), self.dialect.near().changing(new));
        let expected = expected(version)?;
        let params = [
            Param::Text(new.as_str()),
            Param::Payload(&payload),
            Param::Moment(expiry),
            Param::Key(old.as_str()),
            Param::Payload(expected),
        ];
        let mut repeated = false;
        let mut tries = 1;
        loop {
            let ran = self.alter(DOING, occupy::<D>, D::STATEMENTS.rotate, &params).await?;
            repeated |= ran.repeated;
            let mut rotated = ran.result > 0;
            if !rotated && repeated {
                // Nobody else knows the new key: where it holds our payload, an earlier attempt was carried out.
                rotated = self.find(DOING, new).await?.is_some_and(|stored| stored.payload == payload);
            }
            if rotated {
                return Ok(Rotated::Rotated(Version::payload(payload)));
            }
            return Ok(match self.find(DOING, old).await? {
                None => Rotated::Gone,
                Some(stored) if stored.payload == *expected => match self.find(DOING, new).await? {
                    Some(_) => Rotated::Taken,
                    None if tries < SWAP_TRIES => {
                        tries += 1;
                        continue;
                    }
                    None => Rotated::Conflict(stored),
                },
                Some(stored) => Rotated::Conflict(stored),
            });
        }
    }

    async fn clear_expired(&self, batch: usize) -> Result<Cleared> {
        let params = [Param::Moment(self.clock.now()), count(batch)];
        let ran = self.execute("clear expired sessions", D::STATEMENTS.clear_expired, &params).await?;
        let removed = ran.result;
        // A first attempt that was carried out unseen says nothing of what is left.
        Ok(Cleared { removed, more: ran.repeated || (removed > 0 && removed >= batch as u64) })
    }

    async fn list(&self, after: Option<&SessionKey>, limit: usize) -> Result<Vec<SessionKey>> {
        const DOING: &str = "list sessions";
        let (sql, params) = match after {
            Some(after) => (D::STATEMENTS.list_after, vec![Param::Text(after.as_str()), count(limit)]),
            None => (D::STATEMENTS.list, vec![count(limit)]),
        };
        let rows = self.run(DOING, Side::Read, Db::<D>::fetch_all, sql, &params).await?.result;
        let mut keys = Vec::new();
        for row in &rows {
            // A row under a name that is no key at all belongs to nobody, and cannot be passed on.
            keys.extend(SessionKey::presented(&self.dialect.text(row, 0).map_err(|e| self.dialect.error(DOING, e))?));
        }
        Ok(keys)
    }
}

#[async_trait]
impl<D: Dialect> Turns for SqlStore<D> {
    async fn take(&self) -> Result<Option<Box<dyn Turn>>> {
        self.dialect.turn().await
    }
}

#[async_trait]
impl<D: Dialect> cloakroom_core::peek::Peek for SqlStore<D> {
    async fn peek(&self, key: &SessionKey) -> Result<Option<Stored>> {
        self.record("look at a session", Side::Read, D::STATEMENTS.find, &[Param::Key(key.as_str())]).await
    }
}
