//! A site's sessions, from its settings.

use std::path::Path;
use std::sync::Arc;

use cloakroom_core::engine::Engine;
use cloakroom_core::exchange::{Exchange, Policy};
use cloakroom_core::peek::Records;
use cloakroom_core::settings::Settings;
use cloakroom_core::store::Store;
use cloakroom_core::sweep::{self, Sweep};
use cloakroom_core::wire::cookie::CookieWriter;
use cloakroom_core::{Clock, ErrorKind, KeySource};

use crate::Result;
use crate::open::{Opened, open};

/// A site's sessions: made once from the settings, and shared. Clones are cheap.
#[derive(Clone)]
pub struct Sessions {
    exchange: Exchange,
    settings: Arc<Settings>,
    cache: Option<Arc<dyn Store>>,
    records: Option<Records>,
}

impl Sessions {
    /// Sessions as the environment variables say, and the file that `CLOAKROOM_SETTINGS` names, if it is set: the
    /// environment wins.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`](crate::ErrorKind::Configuration): all problems of the settings together, or why the
    /// engine they name cannot be opened.
    pub async fn from_env() -> Result<Self> {
        Self::from_settings(Settings::load(None).map_err(cloakroom_core::Error::from)?).await
    }

    /// Sessions as a TOML file says, and the environment, which wins.
    ///
    /// # Errors
    /// As [`from_env`](Self::from_env).
    pub async fn from_toml(path: impl AsRef<Path>) -> Result<Self> {
        Self::from_settings(Settings::load(Some(path.as_ref())).map_err(cloakroom_core::Error::from)?).await
    }

    /// Sessions as these settings say.
    ///
    /// # Errors
    /// Why the engine cannot be opened: its file or directory is missing, or the feature for it is not compiled in.
    pub async fn from_settings(settings: Settings) -> Result<Self> {
        Self::with_clock(settings, Clock::system()).await
    }

    /// As [`from_settings`](Self::from_settings), by a clock of your own: a test or a demonstration moves it, and
    /// sessions expire without anybody waiting.
    ///
    /// # Errors
    /// As [`from_settings`](Self::from_settings).
    pub async fn with_clock(settings: Settings, clock: Clock) -> Result<Self> {
        let opened = if settings.sessions_enabled() {
            let opened = open(&settings, clock.clone()).await?;
            tracing::debug!(engine = settings.engine().short(), "sessions: on, the engine is open");
            opened
        } else {
            tracing::debug!("sessions: switched off by INSTALLED_APPS");
            Opened { engine: Engine::Off, cache: None, turns: None, records: None }
        };
        Self::assemble(settings, opened, clock)
    }

    /// Sessions in a store of your own, in the signed text of Django's database engine. `SESSION_ENGINE` is of no
    /// account then. With `SESSION_SWEEP_INTERVAL`, each process sweeps the store.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`](crate::ErrorKind::Configuration) if the cookie's settings are wrong, or if the site
    /// is to sweep in the background and there is no tokio runtime to do it on.
    pub fn with_store(settings: Settings, store: Arc<dyn Store>) -> Result<Self> {
        let codec = settings.signed_codec();
        Self::with_engine(settings, Engine::Store { store, codec })
    }

    /// Sessions in an engine of your own. `SESSION_ENGINE` is of no account then.
    ///
    /// # Errors
    /// As [`with_store`](Self::with_store).
    pub fn with_engine(settings: Settings, engine: Engine) -> Result<Self> {
        Self::assemble(settings, Opened { engine, cache: None, turns: None, records: None }, Clock::system())
    }

    fn assemble(settings: Settings, opened: Opened, clock: Clock) -> Result<Self> {
        let Opened { engine, cache, turns, records } = opened;
        let exchange = Exchange::new(engine, policy(&settings)?, clock, KeySource::system());
        if let (Some(interval), Some(store)) = (settings.sweep_interval(), exchange.engine().store()) {
            if tokio::runtime::Handle::try_current().is_err() {
                return Err(cloakroom_core::Error::new(
                    ErrorKind::Configuration,
                    "SESSION_SWEEP_INTERVAL: there is no tokio runtime here to sweep on; make the sessions within one, \
                     as in `#[tokio::main]`, or leave the setting out",
                )
                .into());
            }
            sweep::in_background(store, turns, interval);
        }
        Ok(Self { exchange, settings: Arc::new(settings), cache, records })
    }

    /// The layer that gives every request its session.
    #[cfg(feature = "tower")]
    pub fn layer(&self) -> cloakroom_tower::SessionLayer {
        cloakroom_tower::SessionLayer::new(self.exchange.clone())
    }

    /// The middleware that gives every request of an actix-web application its session.
    ///
    /// ```no_run
    /// use actix_web::{App, HttpServer, get};
    /// use cloakroom::{Session, Sessions};
    ///
    /// #[get("/")]
    /// async fn visits(session: Session) -> Result<String, cloakroom::Error> {
    ///     let n: u64 = session.update("visits", |n: Option<u64>| n.unwrap_or(0) + 1)?;
    ///     Ok(format!("visit {n}"))
    /// }
    ///
    /// # #[actix_web::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let sessions = Sessions::from_env().await?;
    /// // Made once, outside: the workers share one store.
    /// HttpServer::new(move || App::new().service(visits).wrap(sessions.actix_middleware()))
    ///     .bind("127.0.0.1:8000")?
    ///     .run()
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "actix")]
    pub fn actix_middleware(&self) -> cloakroom_actix::SessionMiddleware {
        cloakroom_actix::SessionMiddleware::new(self.exchange.clone())
    }

    /// The exchange behind the layer, for adapters and tools.
    pub fn exchange(&self) -> &Exchange {
        &self.exchange
    }

    /// The store, for the engines that have one.
    pub fn store(&self) -> Option<&Arc<dyn Store>> {
        self.exchange.engine().store()
    }

    /// The cache that the engines `cache` and `cached_db` keep sessions in, as the settings named it: for tools that
    /// show what stands there. What is changed in it past the engine is not merged with what the engine does.
    pub fn cache(&self) -> Option<&Arc<dyn Store>> {
        self.cache.as_ref()
    }

    /// How tools look at what the engine keeps, as the settings named it; `None` for an engine of your own, and for one
    /// that keeps nothing.
    pub fn records(&self) -> Option<&Records> {
        self.records.as_ref()
    }

    /// Looks into these sessions, lists and revokes them: see [`inspector`](crate::inspector).
    #[cfg(feature = "inspector")]
    pub fn inspector(&self) -> crate::inspector::Inspector {
        let (engine, clock) = (self.exchange.engine().clone(), self.exchange.clock().clone());
        crate::inspector::Inspector::new(&self.settings, engine, self.records.clone(), clock)
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Removes expired sessions, `batch` at a time or fewer, and returns how many: Django's `clear_expired`. Between
    /// batches, writers get their turn; see [`Sweep`] to go through them one by one. Engines that keep no records have
    /// nothing to clear.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if the store fails; what was removed stays removed.
    pub async fn clear_expired(&self, batch: usize) -> Result<u64> {
        let Some(store) = self.store() else { return Ok(0) };
        let (mut sweep, mut removed) = (Sweep::in_batches(batch), 0);
        while let Some(batch) = sweep.next(&**store).await? {
            removed += batch;
        }
        Ok(removed)
    }
}

/// What the exchange needs of the settings.
pub(crate) fn policy(settings: &Settings) -> Result<Policy> {
    Ok(Policy {
        cookie: CookieWriter::new(&settings.cookie_attributes())?,
        expiry: settings.expiry_rules(),
        save_every_request: settings.save_every_request(),
        on_unavailable: settings.on_unavailable(),
    })
}

#[cfg(test)]
mod tests {
    use cloakroom_core::engine::memory::MemoryStore;

    use super::*;

    #[test]
    fn sweeping_in_the_background_takes_a_runtime() {
        let store = || Arc::new(MemoryStore::new(Clock::system()));
        let settings = |seconds| Settings::builder().secret_key("of a test").sweep_interval(seconds).build().unwrap();
        assert!(Sessions::with_store(settings(0), store()).is_ok());
        let error = Sessions::with_store(settings(60), store()).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(error.to_string().contains("SESSION_SWEEP_INTERVAL"), "{error}");
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let _guard = runtime.enter();
        assert!(Sessions::with_store(settings(60), store()).is_ok());
    }
}
