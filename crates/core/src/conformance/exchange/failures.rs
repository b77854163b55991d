//! A store that fails, an engine that cannot, sessions that are off or taken out of the response.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::site::{NEW, REMOVAL, SEED, Site, VALID, cookie, records};
use super::{Adapter, Reply, Visit};
use crate::clock::{Clock, Timestamp};
use crate::conformance::probe::{Fault, Operation};
use crate::engine::Engine;
use crate::engine::signed_cookies::{MAX_COOKIE_LENGTH, SALT, SignedCookies};
use crate::error::ErrorKind;
use crate::exchange::{Exchange, Policy};
use crate::key::KeySource;
use crate::wire::cookie::{CookieAttributes, CookieWriter};
use crate::wire::expiry::ExpiryRules;
use crate::wire::session_data::{JsonSerializer, SignedText};
use crate::wire::signing::Secrets;

fn write() -> Visit {
    Visit::to(|slot| async move { slot.load().await?.insert("item", "x") })
}

/// The answer of a request whose session failed: this status, nothing about the session, nothing of the handler.
pub(super) fn assert_refused(reply: &Reply, status: u16, case: &str) {
    assert_eq!(reply.status, status, "{case}: {reply:?}");
    assert_eq!(reply.header("set-cookie"), [""; 0], "{case}: a failure sets or clears no cookie");
    let body = String::from_utf8_lossy(&reply.body);
    for secret in [VALID, NEW, "probe", "store"] {
        assert!(!body.contains(secret), "{case}: the visitor sees the cause: {body}");
    }
    assert_ne!(reply.body, b"done", "{case}: the handler's body tells what is not true");
}

/// A store that fails is not a missing session: 503, and the cookie is not cleared.
pub async fn a_failing_load_clears_nothing(adapter: &impl Adapter) {
    let site = Site::new(adapter).await;
    for fault in [Fault::Refused, Fault::AnswerLost] {
        site.store.fail(Operation::Load, fault);
        let reply = site.send(write().with_key(Some(VALID))).await;
        assert_refused(&reply, 503, "a load that fails");
        site.store.heal();
    }
    assert_eq!(site.send(write().with_key(Some(VALID))).await.header("set-cookie"), [cookie(VALID)]);

    // A handler that goes on without its session gets its answer through, and still no cookie is cleared.
    site.store.fail_all(Fault::Refused);
    let bold = Visit::to(|slot| async move {
        let error = slot.load().await.expect_err("the store was told to fail");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        Ok(())
    });
    let reply = site.send(bold.with_key(Some(VALID))).await;
    assert_eq!((reply.status, reply.header("set-cookie").len()), (200, 0));
}

/// What could not be saved is not acknowledged: the handler's response is replaced.
pub async fn a_failing_save_replaces_the_response(adapter: &impl Adapter) {
    for (operation, presented) in [(Operation::Create, None), (Operation::Replace, Some(VALID))] {
        for fault in [Fault::Refused, Fault::AnswerLost] {
            let site = Site::new(adapter).await;
            site.store.fail(operation, fault);
            let visit = write().with_key(presented).header("set-cookie", "own=1").header("location", "/next");
            let reply = site.send(visit.clone()).await;
            let case = format!("{} that is {fault:?}", operation.name());
            assert_refused(&reply, 503, &case);
            assert_eq!(reply.header("location"), [""; 0], "{case}: a header of the answer that is not given");
            if fault == Fault::Refused {
                assert_eq!(site.records().await, records([(VALID, SEED)]), "{case}");
            }
            site.store.heal();
            assert_eq!(site.send(visit).await.status, 200, "{case}: it works again");
        }
    }
}

/// A sign-out that the store did not carry out is not shown as one.
pub async fn a_failing_delete_keeps_the_cookie(adapter: &impl Adapter) {
    let site = Site::new(adapter).await;
    let flush = Visit::to(|slot| async move {
        slot.flush();
        Ok(())
    });
    for status in [200, 404, 500] {
        site.store.fail(Operation::Delete, Fault::Refused);
        let reply = site.send(flush.clone().with_key(Some(VALID)).status(status)).await;
        assert_refused(&reply, 503, &format!("a flush that fails, after {status}"));
        assert_eq!(site.records().await, records([(VALID, SEED)]));
        site.store.heal();
    }
    assert_eq!(site.send(flush.with_key(Some(VALID))).await.header("set-cookie"), [REMOVAL]);
    assert_eq!(site.records().await, records([]));
}

/// Who does not touch the session does not notice that the store is down.
pub async fn a_failing_store_is_no_matter_to_others(adapter: &impl Adapter) {
    let site = Site::new(adapter).await;
    site.store.fail_all(Fault::Refused);
    for presented in [None, Some(VALID), Some("abc")] {
        let reply = site.send(Visit::to(|_| async { Ok(()) }).with_key(presented)).await;
        assert_eq!((reply.status, &reply.body[..]), (200, &b"done"[..]), "cookie {presented:?}");
    }
    // Without a cookie there is nothing to ask the store.
    let read = Visit::to(|slot| async move { slot.load().await.map(drop) });
    assert_eq!(site.send(read).await.status, 200);
}

/// More data than the cookie of the `signed_cookies` engine can carry: 500, and the cookie that the visitor has stays.
pub async fn too_much_for_a_cookie(adapter: &impl Adapter) {
    let site = Site::new(adapter).await;
    let secrets = Secrets::new("the suite's secret");
    let text = SignedText::new(&secrets, SALT, Arc::new(JsonSerializer));
    let engine = Engine::SignedCookies(SignedCookies::new(text, ExpiryRules::default(), "sessionid".len()));
    let exchange = exchange_on(engine);

    let reply = adapter.send(exchange.clone(), write()).await;
    let cookies = reply.header("set-cookie");
    let sent = cookies.first().and_then(|cookie| cookie.split(';').next()).expect("a cookie with the session in it");
    let check = Visit::to(|slot| async move {
        assert_eq!(slot.load().await?.get::<String>("item")?.as_deref(), Some("x"));
        Ok(())
    });
    assert_eq!(adapter.send(exchange.clone(), check.cookies(sent)).await.status, 200);

    // Random letters, so that compression is of no help.
    let much = Visit::to(|slot| async move {
        let keys: Vec<_> = (0..MAX_COOKIE_LENGTH / 16).map(|_| KeySource::system().draw()).collect();
        let text: String = keys.iter().flatten().map(|key| key.as_str()).collect();
        slot.load().await?.insert("much", &text)
    });
    assert_refused(&adapter.send(exchange, much.cookies(sent)).await, 500, "too much for a cookie");
    assert_eq!(site.calls(), "");
}

/// Where sessions are off, requests pass, no header is written, and who uses one gets an error that says so.
pub async fn sessions_off(adapter: &impl Adapter) {
    let exchange = exchange_on(Engine::Off);
    for presented in [None, Some(VALID), Some("abc"), Some("")] {
        let reply = adapter.send(exchange.clone(), Visit::to(|_| async { Ok(()) }).with_key(presented)).await;
        assert_eq!((reply.status, &reply.body[..]), (200, &b"done"[..]));
        assert_eq!((reply.header("set-cookie"), reply.header("vary")), (vec![], vec![]), "cookie {presented:?}");

        let read = Visit::to(|slot| async move {
            let refused = slot.load().await.map(drop);
            assert_eq!(refused.as_ref().map_err(|error| error.kind()), Err(ErrorKind::NotInstalled));
            refused
        });
        assert_refused(&adapter.send(exchange.clone(), read.with_key(presented)).await, 500, "sessions are off");
    }
}

/// A session that was taken out of the response leaves no trace, in the response or in the store.
pub async fn detached_sessions_send_nothing(adapter: &impl Adapter) {
    let site = Site::new(adapter).await;
    let runs = Arc::new(AtomicUsize::new(0));
    for flush in [false, true] {
        for presented in [None, Some(VALID), Some("abc")] {
            let counter = Arc::clone(&runs);
            let visit = Visit::to(move |slot| {
                counter.fetch_add(1, Ordering::Relaxed);
                async move {
                    slot.load().await?.insert("item", "x")?;
                    if flush {
                        slot.flush();
                    }
                    slot.detach();
                    Ok(())
                }
            });
            let reply = site.send(visit.with_key(presented)).await;
            assert_eq!((reply.status, &reply.body[..]), (200, &b"done"[..]));
            assert_eq!((reply.header("set-cookie"), reply.header("vary")), (vec![], vec![]));
            assert_eq!(site.records().await, records([(VALID, SEED)]));
        }
    }
    assert_eq!(runs.load(Ordering::Relaxed), 6, "each request goes to the handler once");
}

fn exchange_on(engine: Engine) -> Exchange {
    let cookie = CookieWriter::new(&CookieAttributes::default()).expect("Django's defaults");
    let policy = Policy::new(cookie, ExpiryRules::default());
    Exchange::new(engine, policy, Clock::manual(Timestamp::from_secs(1_800_000_000)), KeySource::scripted([NEW]))
}
