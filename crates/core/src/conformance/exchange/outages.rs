//! `SESSION_ON_UNAVAILABLE = "anonymous"`: a store that is down, and visitors who are served without their session.

use super::failures::assert_refused;
use super::site::{REMOVAL, SEED, Site, VALID, cookie, records};
use super::{Adapter, Visit};
use crate::conformance::probe::{Fault, Operation};
use crate::error::ErrorKind;
use crate::json::RawJson;

/// Reads as a visitor without a session would find it.
fn read() -> Visit {
    Visit::to(|slot| async move {
        let session = slot.load().await?;
        assert!(session.is_unavailable() && slot.is_unavailable());
        assert_eq!((session.get::<u64>("seed")?, session.len(), session.to_json()), (None, 0, "{}".to_owned()));
        // Asked for again, by another extractor perhaps.
        assert_eq!(slot.load().await?.keys(), [""; 0]);
        Ok(())
    })
}

fn json() -> RawJson {
    RawJson::from_valid("1")
}

/// Changes, each by itself; none of them is looked at by the handler.
fn changes() -> Vec<(&'static str, Visit)> {
    macro_rules! change {
        ($name:literal, |$session:ident| $change:expr) => {
            (
                $name,
                Visit::to(|slot| async move {
                    let $session = slot.load().await?;
                    $change;
                    Ok(())
                }),
            )
        };
    }
    vec![
        change!("insert", |session| session.insert("item", "x")?),
        change!("insert_raw", |session| session.insert_raw("item", json())),
        change!("extend", |session| session.extend([("item", 1)])?),
        change!("extend_raw", |session| session.extend_raw([("item", json())])),
        change!("update", |session| session.update("item", |n: Option<u64>| n.unwrap_or(0) + 1)?),
        change!("get_or_insert_with", |session| session.get_or_insert_with("item", || 1)?),
        change!("get_or_insert_raw", |session| session.get_or_insert_raw("item", json)),
        change!("remove", |session| session.remove::<u64>("seed")?),
        change!("remove_raw", |session| session.remove_raw("seed")),
        change!("clear", |session| session.clear()),
        change!("cycle_key", |session| session.cycle_key()?),
        change!("set_expiry", |session| session.set_expiry(60)?),
        change!("set_modified", |session| session.set_modified(true)),
        change!("save", |session| session.save().await?),
        change!("create", |session| session.slot().create().await?),
        (
            "a mark without a look",
            Visit::to(|slot| async move {
                slot.set_modified(true);
                Ok(())
            }),
        ),
    ]
}

/// While the store is down, who reads the session finds it empty, and keeps the cookie; the store is asked once. When
/// it is back, everything is as it was.
pub async fn an_outage_is_served_without_a_session(adapter: &impl Adapter) {
    for every in [false, true] {
        for status in [200, 404, 500] {
            let site = Site::anonymous(adapter, every).await;
            site.store.fail_all(Fault::Refused);
            let reply = site.send(read().with_key(Some(VALID)).status(status)).await;
            assert_eq!((reply.status, &reply.body[..]), (status, &b"done"[..]), "every: {every}: {reply:?}");
            assert_eq!(reply.header("set-cookie"), [""; 0], "an outage sets or removes no cookie");
            assert_eq!(reply.header("vary"), ["Cookie"]);
            assert_eq!(site.calls(), "load");

            let reply = site.send(Visit::to(|_| async { Ok(()) }).with_key(Some(VALID)).status(status)).await;
            let session = (reply.header("set-cookie").len(), reply.header("vary").len());
            assert_eq!((reply.status, session), (status, (0, 0)), "untouched, every: {every}: {reply:?}");

            site.store.heal();
            assert_eq!(site.records().await, records([(VALID, SEED)]));
            let found = Visit::to(|slot| async move {
                let session = slot.load().await?;
                assert_eq!((session.is_unavailable(), session.get::<u64>("seed")?), (false, Some(1)));
                Ok(())
            });
            assert_eq!(site.send(found.with_key(Some(VALID))).await.status, 200);
        }
    }

    // A session that was read, and cannot be renewed: nothing of the request is lost.
    let site = Site::anonymous(adapter, true).await;
    site.store.fail(Operation::Touch, Fault::Refused);
    let known = Visit::to(|slot| async move {
        assert_eq!(slot.load().await?.get::<u64>("seed")?, Some(1));
        Ok(())
    });
    let reply = site.send(known.with_key(Some(VALID))).await;
    assert_eq!((reply.status, reply.header("set-cookie").len(), reply.header("vary")), (200, 0, vec!["Cookie".into()]));
}

/// What such a request changes is refused and not lost without a word: by an error of the method, or if the method has
/// none, by 503 in the place of the response.
pub async fn changes_during_an_outage_are_refused(adapter: &impl Adapter) {
    for every in [false, true] {
        for (name, visit) in changes() {
            let site = Site::anonymous(adapter, every).await;
            for operation in [Operation::Load, Operation::Create] {
                site.store.fail(operation, Fault::Refused);
            }
            let reply = site.send(visit.clone().with_key(Some(VALID)).header("set-cookie", "own=1")).await;
            assert_refused(&reply, 503, name);
            assert_eq!(site.calls(), "load", "{name}: the store was asked to change something");
            assert_eq!(site.records().await, records([(VALID, SEED)]), "{name}");
            // A new visitor has nothing that could not be read; what is to be kept of them is refused too.
            let kept = site.send(visit.with_key(None)).await;
            assert_eq!(kept.header("set-cookie"), [""; 0], "{name}: a cookie for what is not stored");
            site.store.heal();
            let write = Visit::to(|slot| async move { slot.load().await?.insert("item", "x") });
            let reply = site.send(write.with_key(Some(VALID))).await;
            assert_eq!(reply.header("set-cookie"), [cookie(VALID)], "{name}: it does not work again");
        }
    }

    // A handler that is told may do without.
    let site = Site::anonymous(adapter, false).await;
    site.store.fail_all(Fault::Refused);
    let tolerant = Visit::to(|slot| async move {
        let refused = slot.load().await?.insert("item", "x").expect_err("a change of what is not known");
        assert_eq!(refused.kind(), ErrorKind::Unavailable);
        assert!(refused.to_string().contains("SESSION_ON_UNAVAILABLE"), "{refused}");
        Ok(())
    });
    let reply = site.send(tolerant.with_key(Some(VALID))).await;
    assert_eq!((reply.status, reply.header("set-cookie").len()), (200, 0));
}

/// A sign-out does not need to know what it ends: it is carried out if the store is back by then, and otherwise not
/// shown as one.
pub async fn an_outage_ends_no_sign_out(adapter: &impl Adapter) {
    let flush = || {
        Visit::to(|slot| async move {
            slot.load().await?.flush();
            Ok(())
        })
    };
    let site = Site::anonymous(adapter, false).await;
    site.store.fail_all(Fault::Refused);
    assert_refused(&site.send(flush().with_key(Some(VALID))).await, 503, "a flush");
    assert_eq!(site.records().await, records([(VALID, SEED)]));
    site.store.heal();

    site.store.fail(Operation::Load, Fault::Refused);
    let reply = site.send(flush().with_key(Some(VALID))).await;
    assert_eq!((reply.status, reply.header("set-cookie")), (200, vec![REMOVAL.to_owned()]));
    assert_eq!(site.records().await, records([]));
}
