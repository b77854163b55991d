//! The store: each operation is one command.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use cloakroom_core::near::{Changing, Kept, Moment, NearCache};
use cloakroom_core::store::{Cleared, Created, Deleted, Replaced, Rotated, Store, Stored, Touched, Version};
use cloakroom_core::together::Joined;
use cloakroom_core::wire::cache_key::{CacheKeys, Timeout};
use cloakroom_core::{Clock, Error, ErrorKind, Result, SessionKey, Timestamp};
use redis::{Cmd, Pipeline, Script, ServerErrorKind, Value};
use tracing::debug;

use crate::failure;
use crate::link::{Answer, Link, Question};
use crate::options::{RedisOptions, TimeUnit};
use crate::tracking::Tracking;

/// Replaces a value that still is the one expected. Answers 1, 0 if there is none, or the other value. For servers that
/// do not compare by themselves.
///
/// Each argument costs the server a copy and a hash: the unit of time, which is always the same, is none.
const REPLACE: &str = "\
local standing = redis.call('GET', KEYS[1])
if standing ~= ARGV[1] then return standing or 0 end
if ARGV[3] == '0' then redis.call('DEL', KEYS[1])
else redis.call('SET', KEYS[1], ARGV[2], 'UNIT', ARGV[3]) end
return 1";

/// Deletes a value that still is the one expected. Answers as the other.
const DELETE: &str = "\
local standing = redis.call('GET', KEYS[1])
if standing ~= ARGV[1] then return standing or 0 end
redis.call('DEL', KEYS[1])
return 1";

/// Moves a value that still is the one expected to another key, unless that is taken, which is answered with 2.
/// Otherwise answers as the others.
const ROTATE: &str = "\
local standing = redis.call('GET', KEYS[1])
if standing ~= ARGV[1] then return standing or 0 end
if redis.call('EXISTS', KEYS[2]) == 1 then return 2 end
if ARGV[3] ~= '0' then redis.call('SET', KEYS[2], ARGV[2], 'UNIT', ARGV[3]) end
redis.call('DEL', KEYS[1])
return 1";

/// How much later than the moment from which a session's end was counted a command may be put together. Ten seconds
/// are then nine and a bit, and would be cut to nine.
const LAG_MICROS: i64 = 10_000;

/// How a server refuses a command for several keys.
const REFUSALS: [ServerErrorKind; 3] =
    [ServerErrorKind::NoPerm, ServerErrorKind::ResponseError, ServerErrorKind::CrossSlot];

/// How many keys the server looks at in one step of a list.
const SCAN_STEP: usize = 1_000;

/// Sessions on a Redis or Valkey server. Clones of one store are had by sharing it.
///
/// The versions of its records are the payloads themselves: Django's keys hold nothing but the session.
/// A record's expiry is the server's business, which a `GET` does not tell: [`Stored::expiry`] is
/// [`Timestamp::MAX`].
pub struct RedisStore {
    link: Arc<Link>,
    clock: Clock,
    keys: CacheKeys,
    unit: TimeUnit,
    replace: Lua,
    delete: Lua,
    rotate: Lua,
    near: Option<Arc<NearCache>>,
}

impl std::fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisStore")
            .field("address", &self.link.address())
            .field("prefix", &self.keys.prefix())
            .finish_non_exhaustive()
    }
}

impl RedisStore {
    /// A store on the server that the options name. Nothing is sent: a server that is down fails the operations that
    /// need it, and no other.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] if a certificate cannot be read.
    pub fn open(options: RedisOptions, clock: Clock) -> Result<Self> {
        let near = (options.near_cache > 0)
            .then(|| Arc::new(NearCache::new(options.near_cache, options.near_cache_staleness, clock.clone())));
        let tracking = near.clone().map(|near| Tracking::new(&options, near)).transpose()?;
        Ok(Self {
            link: Arc::new(Link::new(&options, tracking)?),
            near,
            clock,
            keys: options.keys,
            unit: options.unit,
            replace: Lua::new(REPLACE, options.unit),
            delete: Lua::new(DELETE, options.unit),
            rotate: Lua::new(ROTATE, options.unit),
        })
    }

    /// Asks the server whether it is there, and whether it takes our user, password and database number.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub async fn ping(&self) -> Result<()> {
        self.link.send(&redis::cmd("PING")).await.map(drop)
    }

    fn key(&self, key: &SessionKey) -> String {
        self.keys.key(key.as_str())
    }

    /// The time from now to a session's end as the argument of `EX` or `PX`; zero if it has come.
    fn lifetime(&self, expiry: Timestamp) -> u64 {
        let micros = expiry.micros_since(self.clock.now()).saturating_add(LAG_MICROS);
        let timeout = Timeout::from_micros(micros);
        match self.unit {
            TimeUnit::Seconds => timeout.redis_seconds(),
            TimeUnit::Milliseconds => Timeout::from_micros(micros - LAG_MICROS).redis_millis(),
        }
        .unwrap_or(0)
    }

    /// Runs a script by its hash; a server that does not know it gets its text, and knows it from then on.
    async fn run(&self, lua: &Lua, keys: &[&str], arguments: &[&[u8]], broke: &mut bool) -> Result<Standing> {
        let command = |name: &str, script: &str| {
            let parts = keys.iter().map(|key| key.as_bytes()).chain(arguments.iter().copied());
            let size = name.len() + script.len() + 1 + parts.clone().map(<[u8]>::len).sum::<usize>();
            let mut command = Cmd::with_capacity(3 + keys.len() + arguments.len(), size);
            command.arg(name).arg(script).arg(keys.len());
            parts.for_each(|part| {
                command.arg(part);
            });
            command
        };
        let mut answer = self.link.send_noting(&command("EVALSHA", lua.script.get_hash()), broke).await;
        if answer.as_ref().is_err_and(|error| is_refused(error, ServerErrorKind::NoScript)) {
            answer = self.link.send_noting(&command("EVAL", &lua.text), broke).await;
        }
        match answer?.value {
            Value::Int(1) => Ok(Standing::Expected),
            Value::Int(0) => Ok(Standing::Nothing),
            Value::Int(2) => Ok(Standing::Taken),
            Value::BulkString(payload) => Ok(Standing::Other(stored(payload.into()))),
            _ => Err(failure::unexpected(self.link.address(), "EVALSHA")),
        }
    }

    /// Replaces a value that still is the one expected by `SET … IFEQ … GET`, as Valkey has it from 8.1 on and Redis from 8.4
    /// on, which takes the server less than a script. `None` if the server does not know it.
    async fn set_if_equal(
        &self,
        key: &str,
        expected: &Bytes,
        payload: &Bytes,
        lifetime: u64,
        broke: &mut bool,
    ) -> Result<Option<Standing>> {
        let mut set = Cmd::with_capacity(8, key.len() + expected.len() + payload.len() + 32);
        set.arg("SET").arg(key).arg(&payload[..]).arg("IFEQ").arg(&expected[..]);
        // With `GET` it is answered what stood there, so that a conflict takes no second question.
        set.arg("GET").arg(option(self.unit)).arg(lifetime);
        let answer = match self.link.send_noting(&set, broke).await {
            Err(error) if is_refused(&error, ServerErrorKind::ResponseError) => {
                debug!(%error, "Redis does not compare by itself: a script does");
                self.link.compare_by_script();
                return Ok(None);
            }
            answer => answer?,
        };
        match answer.value {
            Value::BulkString(stood) if stood == *expected => Ok(Some(Standing::Expected)),
            Value::BulkString(stood) => Ok(Some(Standing::Other(stored(stood.into())))),
            Value::Nil => Ok(Some(Standing::Nothing)),
            _ => Err(failure::unexpected(self.link.address(), "SET")),
        }
    }

    /// What stands on the server, asked for together with what others load at the same moment. With saves there is
    /// nothing to be gained: what a script does for each of them takes the time, not the command.
    async fn get_together(&self, key: &SessionKey) -> Result<Option<Stored>> {
        let Some(loads) = self.link.loads() else { return self.get(&self.key(key)).await };
        // What goes alone is kept until it is done.
        let _alone = match loads.join(|| key.clone(), |keys| get_many(self.link.clone(), self.keys.clone(), keys)).await
        {
            Joined::Answered(stored) => return stored.map(Some),
            alone => alone,
        };
        self.get(&self.key(key)).await
    }

    async fn get(&self, key: &str) -> Result<Option<Stored>> {
        let mut get = Cmd::with_capacity(2, 3 + key.len());
        get.arg("GET").arg(key);
        // In a box: a load that needs no command of its own has no room for one.
        match Box::pin(self.link.send(&get)).await?.value {
            Value::Nil => Ok(None),
            Value::BulkString(payload) => Ok(Some(stored(payload.into()))),
            _ => Err(failure::unexpected(self.link.address(), "GET")),
        }
    }

    /// What the near cache holds, or else what stands on the server, which is then kept.
    async fn get_near(&self, near: &NearCache, key: &SessionKey) -> Result<Option<Stored>> {
        if let Some(Kept { payload, .. }) = near.get(key.as_str()) {
            debug!(key = %key.masked(), bytes = payload.len(), "near cache: hit");
            return Ok(Some(stored(payload)));
        }
        let name = self.key(key);
        let Some(place) = near.reserve(key.as_str()) else { return self.get(&name).await };
        let mut questions = Pipeline::with_capacity(3);
        questions.cmd("CLIENT").arg("CACHING").arg("YES");
        questions.cmd("GET").arg(&name);
        questions.cmd("PTTL").arg(&name);
        // In a box: a hit has no room for it.
        let Answer { value, line, asked, .. } = Box::pin(self.link.send(Question::Commands(&questions, 1))).await?;
        let Value::Array(answers) = value else { return Err(failure::unexpected(self.link.address(), "GET")) };
        let Ok([is_told, payload, millis]) = <[Value; 3]>::try_from(answers) else {
            return Err(failure::unexpected(self.link.address(), "GET"));
        };
        let payload = match payload {
            Value::Nil => return Ok(None),
            Value::BulkString(payload) => Bytes::from(payload),
            _ => return Err(failure::unexpected(self.link.address(), "GET")),
        };
        if let (Value::Okay, Some(end)) = (is_told, asked.and_then(|asked| end(asked, &millis))) {
            place.keep(line, payload.clone(), end);
        }
        Ok(Some(stored(payload)))
    }

    /// To be held while a session is being changed.
    fn changing<'a>(&'a self, key: &'a SessionKey) -> Option<Changing<'a>> {
        self.near.as_ref().map(|near| near.changing(key.as_str()))
    }

    /// The number that a command answers with.
    async fn count(&self, name: &str, command: &Cmd) -> Result<i64> {
        match self.link.send(command).await?.value {
            Value::Int(count) => Ok(count),
            _ => Err(failure::unexpected(self.link.address(), name)),
        }
    }
}

/// A script, and its text for a server that does not know it.
struct Lua {
    script: Script,
    text: String,
}

impl Lua {
    fn new(text: &str, unit: TimeUnit) -> Self {
        let text = text.replace("UNIT", option(unit));
        Self { script: Script::new(&text), text }
    }
}

/// The option of `SET` for the unit.
fn option(unit: TimeUnit) -> &'static str {
    match unit {
        TimeUnit::Seconds => "EX",
        TimeUnit::Milliseconds => "PX",
    }
}

/// What a comparison met.
enum Standing {
    Expected,
    Nothing,
    /// Another record, under the key to which this one was to go.
    Taken,
    Other(Stored),
}

/// What stands under many keys. `None` is nothing, or no text, which a `GET` tells apart; for all of them, a server that
/// does not take such commands.
async fn get_many(link: Arc<Link>, keys: CacheKeys, wanted: Vec<SessionKey>) -> Vec<Option<Result<Stored>>> {
    let mut command = Cmd::with_capacity(1 + wanted.len(), wanted.len() * (keys.prefix().len() + 40));
    command.arg("MGET");
    wanted.iter().for_each(|key| {
        command.arg(keys.key(key.as_str()));
    });
    let error = match link.send(&command).await {
        Ok(Answer { value: Value::Array(answers), .. }) => {
            let found = |answer| match answer {
                Value::BulkString(payload) => Some(Ok(stored(payload.into()))),
                _ => None,
            };
            return answers.into_iter().map(found).collect();
        }
        Ok(_) => failure::unexpected(link.address(), "MGET"),
        // A user who may not use it, a proxy that does not know it, or one before a cluster.
        Err(error) if REFUSALS.iter().any(|reason| is_refused(&error, *reason)) => {
            debug!(%error, "Redis does not tell many sessions at once: each is asked for alone");
            link.go_apart();
            return Vec::new();
        }
        Err(error) => error,
    };
    let error = Arc::new(error);
    wanted.iter().map(|_| Some(Err(error.shared()))).collect()
}

pub(crate) fn stored(payload: Bytes) -> Stored {
    Stored { version: Version::payload(payload.clone()), payload, expiry: Timestamp::MAX }
}

/// When a session ends that was asked for at this moment and has so many milliseconds left; `None` if the server does
/// not say.
fn end(asked: Moment, millis: &Value) -> Option<Moment> {
    let Value::Int(millis) = millis else { return None };
    match millis {
        -1 => Some(Moment::NEVER),
        // The server counts whole milliseconds, of which the present one may be over.
        _ => u64::try_from(*millis).ok().map(|millis| asked.after(millis.saturating_sub(1).saturating_mul(1_000))),
    }
}

/// Whether the server refused the command for this reason.
fn is_refused(error: &Error, reason: ServerErrorKind) -> bool {
    std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<redis::RedisError>())
        .is_some_and(|error| error.kind() == redis::ErrorKind::Server(reason))
}

/// The payload that a version of ours is.
fn expected(version: &Version) -> Result<&Bytes> {
    version.as_payload().ok_or_else(|| Error::new(ErrorKind::Unsupported, "a version of another store"))
}

#[async_trait]
impl Store for RedisStore {
    async fn load(&self, key: &SessionKey) -> Result<Option<Stored>> {
        match &self.near {
            Some(near) => self.get_near(near, key).await,
            None => self.get_together(key).await,
        }
    }

    async fn create(&self, key: &SessionKey, payload: Bytes, expiry: Timestamp) -> Result<Created> {
        let _changing = self.changing(key);
        let version = Version::payload(payload.clone());
        let key = self.key(key);
        let lifetime = self.lifetime(expiry);
        if lifetime == 0 {
            // It is over before it began. Nothing is stored, as django-redis does; Django stores and deletes it.
            return Ok(Created::Created(version));
        }
        let mut set = redis::cmd("SET");
        set.arg(&key).arg(&payload[..]).arg("NX").arg(option(self.unit)).arg(lifetime);
        let mut broke = false;
        match self.link.send_noting(&set, &mut broke).await?.value {
            Value::Okay => Ok(Created::Created(version)),
            // Under a key that was drawn just now, our own payload can only come from our own first attempt.
            Value::Nil if broke && self.get(&key).await?.is_some_and(|stored| stored.payload == payload) => {
                Ok(Created::Created(version))
            }
            Value::Nil => Ok(Created::Taken),
            _ => Err(failure::unexpected(self.link.address(), "SET")),
        }
    }

    async fn replace(
        &self,
        key: &SessionKey,
        version: &Version,
        payload: Bytes,
        expiry: Timestamp,
    ) -> Result<Replaced> {
        let _changing = self.changing(key);
        let (key, lifetime) = (self.key(key), self.lifetime(expiry));
        let expected = expected(version)?;
        let mut broke = false;
        let mut standing = None;
        // With no time left there is nothing to be set.
        if lifetime > 0 && self.link.compares() {
            standing = self.set_if_equal(&key, expected, &payload, lifetime, &mut broke).await?;
        }
        let standing = match standing {
            Some(standing) => standing,
            None => {
                let lifetime = lifetime.to_string();
                self.run(&self.replace, &[&key], &[expected, &payload, lifetime.as_bytes()], &mut broke).await?
            }
        };
        match standing {
            Standing::Expected => Ok(Replaced::Replaced(Version::payload(payload))),
            Standing::Nothing | Standing::Taken => Ok(Replaced::Gone),
            // What stands may be ours, or be built on ours: to replay the changes on it could apply them twice.
            Standing::Other(_) if broke => Err(failure::unknown_outcome(self.link.address())),
            Standing::Other(stored) => Ok(Replaced::Conflict(stored)),
        }
    }

    async fn touch(&self, key: &SessionKey, expiry: Timestamp) -> Result<Touched> {
        let _changing = self.changing(key);
        let name = match self.unit {
            TimeUnit::Seconds => "EXPIRE",
            TimeUnit::Milliseconds => "PEXPIRE",
        };
        let mut command = redis::cmd(name);
        // With zero, the server deletes the key.
        command.arg(self.key(key)).arg(self.lifetime(expiry));
        Ok(match self.count(name, &command).await? {
            0 => Touched::Gone,
            _ => Touched::Touched,
        })
    }

    async fn delete(&self, key: &SessionKey, version: Option<&Version>) -> Result<Deleted> {
        let _changing = self.changing(key);
        let key = self.key(key);
        let Some(version) = version else {
            return Ok(match self.count("DEL", redis::cmd("DEL").arg(&key)).await? {
                0 => Deleted::Gone,
                _ => Deleted::Deleted,
            });
        };
        let mut broke = false;
        match self.run(&self.delete, &[&key], &[&expected(version)?[..]], &mut broke).await? {
            Standing::Expected => Ok(Deleted::Deleted),
            // Gone by ourselves, or by somebody who signed the visitor out: that makes a difference to a rotation.
            Standing::Nothing if broke => Err(failure::unknown_outcome(self.link.address())),
            Standing::Nothing | Standing::Taken => Ok(Deleted::Gone),
            Standing::Other(stored) => Ok(Deleted::Conflict(stored)),
        }
    }

    async fn rotate(
        &self,
        old: &SessionKey,
        version: &Version,
        new: &SessionKey,
        payload: Bytes,
        expiry: Timestamp,
    ) -> Result<Rotated> {
        let _changing = (self.changing(old), self.changing(new));
        let (old, new) = (self.key(old), self.key(new));
        let lifetime = self.lifetime(expiry).to_string();
        let arguments = [&expected(version)?[..], &payload[..], lifetime.as_bytes()];
        let mut broke = false;
        let standing = match self.run(&self.rotate, &[&old, &new], &arguments, &mut broke).await {
            // A proxy or a cluster that keeps the two keys on two servers.
            Err(error) if is_refused(&error, ServerErrorKind::CrossSlot) => return Ok(Rotated::Unsupported),
            standing => standing?,
        };
        let rotated = match standing {
            Standing::Expected => true,
            // Nobody else knows the new key: where it holds our payload, our own first attempt was carried out.
            _ if broke => self.get(&new).await?.is_some_and(|stored| stored.payload == payload),
            _ => false,
        };
        if rotated {
            return Ok(Rotated::Rotated(Version::payload(payload)));
        }
        Ok(match standing {
            Standing::Nothing | Standing::Expected => Rotated::Gone,
            Standing::Taken => Rotated::Taken,
            Standing::Other(stored) => Rotated::Conflict(stored),
        })
    }

    /// Nothing: the server removes what has expired.
    async fn clear_expired(&self, _batch: usize) -> Result<Cleared> {
        Ok(Cleared { removed: 0, more: false })
    }

    /// Each page looks at every key of the database, in steps that hold up nobody else, and keeps the first ones in
    /// order. Ask for large pages.
    async fn list(&self, after: Option<&SessionKey>, limit: usize) -> Result<Vec<SessionKey>> {
        let pattern = glob(self.keys.prefix());
        let mut page = std::collections::BTreeSet::new();
        let mut cursor = "0".to_owned();
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(&cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(SCAN_STEP);
            let answer = self.link.send(&scan).await?.value;
            let (next, found): (String, Vec<Vec<u8>>) =
                redis::from_redis_value(answer).map_err(|_| failure::unexpected(self.link.address(), "SCAN"))?;
            for name in found {
                let key = std::str::from_utf8(&name).ok().and_then(|name| self.keys.session_key(name));
                let key = key.and_then(SessionKey::presented).filter(SessionKey::is_storable);
                // The same prefix begins the names of other engines, whose keys are no session keys of ours.
                let Some(key) = key.filter(|key| after.is_none_or(|after| key > after)) else { continue };
                page.insert(key);
                if page.len() > limit {
                    page.pop_last();
                }
            }
            if next == "0" {
                return Ok(page.into_iter().collect());
            }
            cursor = next;
        }
    }
}

#[async_trait]
impl cloakroom_core::peek::Peek for RedisStore {
    /// With the expiry, for which the server is asked too: two round trips.
    async fn peek(&self, key: &SessionKey) -> Result<Option<Stored>> {
        let name = self.key(key);
        let Some(stored) = self.get(&name).await? else { return Ok(None) };
        let left = self.count("PTTL", redis::cmd("PTTL").arg(&name)).await?;
        // Negative: it never expires, or it went between the two answers.
        let left = left.checked_mul(1_000).filter(|left| *left >= 0);
        let expiry = left.and_then(|left| self.clock.now().checked_add_micros(left)).unwrap_or(Timestamp::MAX);
        Ok(Some(Stored { expiry, ..stored }))
    }
}

/// A pattern of the server for names that begin so.
fn glob(prefix: &str) -> String {
    let mut pattern = String::with_capacity(prefix.len() + 8);
    for letter in prefix.chars() {
        if matches!(letter, '*' | '?' | '[' | ']' | '\\' | '^') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern.push('*');
    pattern
}
