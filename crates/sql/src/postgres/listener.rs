//! Listening to what PostgreSQL tells of changes, for a near cache.
//!
//! One connection listens and does nothing else. Notifications come in the order in which the transactions were
//! committed, since each holds a lock from its `NOTIFY` to its end, when it becomes visible. So a notification of our own
//! that comes back proves that everything was heard which was committed before it was sent. It is sent on a connection of
//! the pool: behind a pooler that lends its connections for single transactions, where the listening one hears nothing
//! but what comes together with an answer, it does not come back.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use cloakroom_core::near::{Moment, NearCache};
use cloakroom_core::{Clock, KeySource};
use sqlx::Row;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions, PgRow};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::{Postgres, trigger};
use crate::dialect::{Dialect, Failed, Param, Run};
use crate::lease::Connections;
use crate::server::Server;

/// How long to wait before the first new attempt to listen, and before those after many that came to nothing.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(30));
/// How long our own notification may take, from its commit until it is heard.
const SILENCE: Duration = Duration::from_secs(5);
/// How long a connection may take where statements may take as long as they like.
const PATIENCE: Duration = Duration::from_secs(30);

/// What hears of changes for a near cache, by a task that ends with this.
#[derive(Debug)]
pub(super) struct Ear {
    listener: Arc<Listener>,
    task: Mutex<Option<AbortHandle>>,
}

#[derive(Debug)]
struct Listener {
    cache: Arc<NearCache>,
    /// Somebody asks the cache, and it needs a proof, or a connection.
    wanted: Arc<Notify>,
    connections: Arc<Connections<sqlx::Postgres>>,
    patience: Duration,
    place: String,
    listens: AtomicBool,
    lines: AtomicU64,
}

impl Ear {
    /// A new cache, and one that listens for it as soon as it is asked to.
    pub(super) fn new(bytes: usize, staleness: Duration, server: &Server<sqlx::Postgres>, clock: Clock) -> Self {
        let wanted = Arc::new(Notify::new());
        let cache =
            NearCache::new(bytes, staleness, clock).named_by_first(trigger::NAME).proven_by(Arc::clone(&wanted));
        let listener = Listener {
            cache: Arc::new(cache),
            wanted,
            connections: server.pools().read,
            patience: server.patience().unwrap_or(PATIENCE),
            place: server.place().to_owned(),
            listens: AtomicBool::new(false),
            lines: AtomicU64::new(0),
        };
        Self { listener: Arc::new(listener), task: Mutex::default() }
    }

    pub(super) fn cache(&self) -> Arc<NearCache> {
        Arc::clone(&self.listener.cache)
    }

    /// Has the present runtime listen, unless one does already. If that ends, the next one does.
    pub(super) fn listen(&self) {
        if !self.listener.listens.load(Ordering::Relaxed) {
            self.start();
        }
    }

    fn start(&self) {
        let Ok(runtime) = Handle::try_current() else { return };
        if self.listener.listens.swap(true, Ordering::SeqCst) {
            return;
        }
        let listening = Listening(Arc::clone(&self.listener));
        let task = runtime.spawn(async move { listening.0.listen().await });
        *self.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task.abort_handle());
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        if let Some(task) = self.task.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }
}

/// For as long as the task lives.
struct Listening(Arc<Listener>);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.listens.store(false, Ordering::SeqCst);
    }
}

/// A connection that is relied on.
struct Line<'a> {
    cache: &'a NearCache,
    number: u64,
}

impl<'a> Line<'a> {
    fn new(cache: &'a NearCache, number: u64) -> Self {
        cache.rely_on(number);
        Self { cache, number }
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        self.cache.give_up(self.number);
    }
}

/// Why a connection is not listened to any more, or never was.
enum End {
    /// It could not be made, or the server could not be asked.
    Failed(sqlx::Error),
    /// The server fell silent, or the connection broke.
    Lost,
    /// Nothing that was told came, ever.
    Unheard,
    NoTrigger,
    /// Our clock is more than a minute behind the server's.
    Late,
    /// The trigger was changed, or one of the clocks.
    Changed,
}

impl Listener {
    /// Listens whenever somebody asks, until the end.
    async fn listen(&self) {
        let mut pause = PAUSES.0;
        // Of what the log was told since the near cache was last of use.
        let mut told = None;
        loop {
            self.wanted.notified().await;
            let (end, was_proven) = self.listen_once().await;
            if was_proven {
                (pause, told) = (PAUSES.0, None);
            }
            let kind = std::mem::discriminant(&end);
            if told != Some(kind) {
                self.tell(&end);
                told = Some(kind);
            }
            sleep(pause).await;
            pause = PAUSES.1.min(2 * pause);
        }
    }

    fn tell(&self, end: &End) {
        let place = self.place.as_str();
        match end {
            End::Failed(error) => warn!(%error, "the near cache is off: cannot listen to {place}"),
            End::Unheard => warn!(
                "the near cache is off: what {place} tells does not come. A pooler such as PgBouncer in transaction mode \
                 does not pass it on: let DATABASE_URL lead to the server itself"
            ),
            End::NoTrigger => warn!(
                "the near cache is off: {place} does not tell what changes. Run `cloakroom migrate --near-cache`, which \
                 installs the trigger of this version"
            ),
            End::Late => warn!(
                "the near cache is off: the clock of this machine is more than a minute behind that of {place}: set it right"
            ),
            End::Lost | End::Changed => debug!("the near cache forgets all: {place} is listened to anew"),
        }
    }

    /// Listens on a new connection until that is of no use any more. Tells whether it ever was.
    async fn listen_once(&self) -> (End, bool) {
        let number = self.lines.fetch_add(1, Ordering::Relaxed) + 1;
        let (mut connection, own) = match timeout(self.patience, self.connect()).await {
            Ok(Ok(connected)) => connected,
            Ok(Err(error)) => return (End::Failed(error), false),
            Err(_) => return (End::Failed(silence()), false),
        };
        // Only now: what is changed from here on is told.
        let signature = match self.look().await {
            Ok((Some(signature), true)) => signature,
            Ok((Some(_), false)) => return (End::Late, false),
            Ok((None, _)) => return (End::NoTrigger, false),
            Err(error) => return (End::Failed(error), false),
        };
        let _line = Line::new(&self.cache, number);
        debug!("the near cache listens to {}", self.place);
        let (heard, hearing) = watch::channel(0);
        let mut proven = false;
        let end = {
            let mut hears = pin!(self.hear(&mut connection, &own, &heard));
            let mut proves = pin!(self.prove(number, &own, &signature, hearing, &mut proven));
            poll_fn(|context| match hears.as_mut().poll(context) {
                Poll::Ready(()) => Poll::Ready(End::Lost),
                Poll::Pending => proves.as_mut().poll(context),
            })
            .await
        };
        (end, proven)
    }

    /// A connection that listens for changes, and on a channel of our own.
    async fn connect(&self) -> sqlx::Result<(PgListener, String)> {
        let options = PgConnectOptions::clone(&self.connections.pool().connect_options());
        let name = options.get_application_name().unwrap_or("cloakroom");
        let name = format!("{name} near cache");
        let one = PgPoolOptions::new().max_connections(1).idle_timeout(None).max_lifetime(None);
        let mut connection = PgListener::connect_with(&one.connect_lazy_with(options.application_name(&name))).await?;
        connection.eager_reconnect(false);
        // Servers from version 14 on may end connections on which nobody says anything.
        let idle = "SELECT set_config(name, '0', FALSE) FROM pg_settings WHERE name = 'idle_session_timeout' AND setting <> '0'";
        sqlx::query(idle).persistent(false).execute(&mut connection).await?;
        let key = KeySource::system().draw().map_err(|error| sqlx::Error::Encode(error.into()))?;
        let own = format!("cloakroom_{}", key.as_str());
        connection.listen_all([trigger::CHANNEL, &own]).await?;
        Ok((connection, own))
    }

    /// Hears what is told, until the connection breaks.
    async fn hear(&self, connection: &mut PgListener, own: &str, heard: &watch::Sender<u64>) {
        // `None`: the connection was lost, and whatever was told meanwhile.
        while let Ok(Some(told)) = connection.try_recv().await {
            match told.payload() {
                number if told.channel() == own => drop(number.parse().map(|number| heard.send_replace(number))),
                "" => self.cache.forget_all(),
                name => self.cache.forget(name),
            }
        }
    }

    /// Gets proofs, whenever somebody wants one, for as long as there are any.
    async fn prove(
        &self,
        line: u64,
        own: &str,
        signature: &str,
        mut heard: watch::Receiver<u64>,
        proven: &mut bool,
    ) -> End {
        for number in 1.. {
            // Whoever has asked by now is served by this one.
            pin!(self.wanted.notified()).enable();
            let asked = self.cache.now();
            match self.send(own, number, signature, asked).await {
                Ok(true) => match timeout(SILENCE, heard.wait_for(|heard| *heard >= number)).await {
                    Ok(_) => {
                        self.cache.answered(line, asked);
                        *proven = true;
                    }
                    Err(_) if *proven => return End::Lost,
                    Err(_) => return End::Unheard,
                },
                Ok(false) => return End::Changed,
                // Whoever loads a session says what is wrong. The next one to ask has it tried again.
                Err(error) => debug!(%error, "no proof for the near cache"),
            }
            self.wanted.notified().await;
        }
        End::Lost
    }

    /// Sends a number to our own channel; `false` if the trigger or a clock is not what it was.
    async fn send(&self, own: &str, number: u64, signature: &str, now: Moment) -> sqlx::Result<bool> {
        let number = number.to_string();
        let params = [
            trigger::TEXT,
            Param::Text(signature),
            Param::Moment(now.calendar()),
            Param::Text(own),
            Param::Text(&number),
        ];
        Ok(self.ask(trigger::EXPECTED, &params).await?.is_some())
    }

    /// The signature of the trigger, if it is in place, and whether our clock will do.
    async fn look(&self) -> sqlx::Result<(Option<String>, bool)> {
        let params = [trigger::TEXT, Param::Moment(self.cache.now().calendar())];
        let row = self.ask(trigger::LOOK, &params).await?.ok_or(sqlx::Error::RowNotFound)?;
        let text = |column| row.try_get_unchecked::<Option<String>, _>(column);
        Ok((text(0)?, text(1)?.as_deref() == Some("true")))
    }

    /// Asks on a connection of the pool, in bounded time. Those that turn out to be broken are left out.
    async fn ask(&self, sql: &'static str, params: &[Param<'_>]) -> sqlx::Result<Option<PgRow>> {
        let mut broken = 0;
        loop {
            let mut lease = self.connections.lend(Some(self.patience)).await?;
            let arguments = Postgres::parameters(params).map_err(sqlx::Error::Encode)?;
            let asking = sqlx::Postgres::fetch_optional(&mut lease, sql, arguments);
            let error = match timeout(self.patience, asking).await {
                Ok(Ok(row)) => {
                    lease.sound();
                    return Ok(row);
                }
                Ok(Err(error)) => error,
                Err(_) => silence(),
            };
            if Postgres::failed(&error) == Failed::Lost {
                lease.discard();
                broken += 1;
                if broken <= self.connections.pool().options().get_max_connections() && !is_silence(&error) {
                    continue;
                }
            }
            return Err(error);
        }
    }
}

fn silence() -> sqlx::Error {
    sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())
}

fn is_silence(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Io(error) if error.kind() == std::io::ErrorKind::TimedOut)
}
