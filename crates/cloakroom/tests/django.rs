//! Logins, messages and CSRF secrets, with several requests of one session at the same time.

use std::sync::Arc;

use cloakroom::core::engine::Engine;
use cloakroom::core::engine::memory::MemoryStore;
use cloakroom::core::wire::session_data::Codec;
use cloakroom::django::messages::Message;
use cloakroom::django::{Auth, HASH_KEY, USER_ID_KEY, User, csrf, messages};
use cloakroom::{Clock, ErrorKind, RawJson, SessionKey, SessionSlot, Sessions, Settings};

fn settings() -> Settings {
    Settings::builder().secret_key("only for a test").build().unwrap()
}

fn sessions() -> Sessions {
    let store = Arc::new(MemoryStore::new(Clock::system()));
    Sessions::with_engine(settings(), Engine::Store { store, codec: Codec::json() }).unwrap()
}

async fn request(sessions: &Sessions, key: Option<&SessionKey>) -> SessionSlot {
    let cookie = key.map(|key| format!("sessionid={}", key.as_str()));
    let slot = sessions.exchange().open(cookie.iter().map(|cookie| cookie.as_bytes()));
    slot.load().await.unwrap();
    slot
}

async fn saved(sessions: &Sessions) -> SessionKey {
    let slot = request(sessions, None).await;
    slot.load().await.unwrap().insert("a", &1).unwrap();
    slot.save().await.unwrap();
    slot.key().unwrap()
}

fn message(level: i64, text: &str) -> Message {
    Message { level, text: text.to_owned(), safe: false, extra_tags: Some(String::new()) }
}

#[tokio::test]
async fn messages_of_requests_at_the_same_time_are_all_kept() {
    let sessions = sessions();
    let key = saved(&sessions).await;
    let (a, b) = (request(&sessions, Some(&key)).await, request(&sessions, Some(&key)).await);
    messages::add(&a.load().await.unwrap(), messages::INFO, "a").unwrap();
    messages::add(&b.load().await.unwrap(), messages::ERROR, "b").unwrap();
    a.save().await.unwrap();
    b.save().await.unwrap();

    // One request shows both while another one adds a third, equal to the first.
    let (reader, writer) = (request(&sessions, Some(&key)).await, request(&sessions, Some(&key)).await);
    let shown = messages::take(&reader.load().await.unwrap()).unwrap();
    assert_eq!(shown, [message(20, "a"), message(40, "b")]);
    messages::add(&writer.load().await.unwrap(), messages::INFO, "a").unwrap();
    writer.save().await.unwrap();
    reader.save().await.unwrap();

    let last = request(&sessions, Some(&key)).await.load().await.unwrap();
    assert_eq!(messages::peek(&last).unwrap(), [message(20, "a")]);
    assert_eq!(last.get_raw("_messages").unwrap().as_str(), r#""[[\"__json_message\", 0, 20, \"a\", \"\"]]""#);
    messages::take(&last).unwrap();
    assert!(!last.contains_key("_messages"), "with the last message the item goes");
    last.save().await.unwrap();
    let last = request(&sessions, Some(&key)).await.load().await.unwrap();
    assert_eq!(last.to_json(), "{\"a\":1}");
    assert!(messages::take(&last).unwrap().is_empty() && !last.modified(), "nothing is saved for nothing");
}

#[tokio::test]
async fn what_are_no_messages_is_left_alone() {
    let session = request(&sessions(), None).await.load().await.unwrap();
    for foreign in ["7", "\"not json\"", "\"[[1]]\"", "[[\"other\",0,20,\"a\"]]"] {
        session.insert_raw("_messages", RawJson::parse(foreign).unwrap());
        let refused = [
            messages::add(&session, messages::INFO, "a").map_err(|e| e.kind()),
            messages::take(&session).map(drop).map_err(|e| e.kind()),
        ];
        assert_eq!(refused, [Err(ErrorKind::Type), Err(ErrorKind::Type)], "{foreign}");
        assert_eq!(session.get_raw("_messages").unwrap().as_str(), foreign);
    }
    // The list itself, not as text, is read as it is.
    session.insert_raw("_messages", RawJson::parse("[[\"__json_message\",1,25,\"x\"]]").unwrap());
    let html = Message { level: messages::SUCCESS, text: "x".into(), safe: true, extra_tags: None };
    assert_eq!(messages::take(&session).unwrap(), [html]);
}

#[tokio::test]
async fn csrf_secrets_old_and_damaged() {
    let session = request(&sessions(), None).await.load().await.unwrap();
    assert!(!csrf::check(&session, "") && !session.modified(), "without a secret no token will do");
    let token = csrf::token(&session).unwrap();
    let another = csrf::token(&session).unwrap();
    assert_ne!(token, another);
    assert!(csrf::check(&session, &token) && csrf::check(&session, &another));
    // An old session holds the secret masked.
    session.insert("_csrftoken", &another).unwrap();
    assert!(csrf::check(&session, &token) && csrf::check(&session, &csrf::token(&session).unwrap()));
    csrf::rotate(&session).unwrap();
    assert!(!csrf::check(&session, &token));
    for damaged in ["7", "\"short\"", "\"zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz-\""] {
        session.insert_raw("_csrftoken", RawJson::parse(damaged).unwrap());
        assert!(!csrf::check(&session, damaged.trim_matches('"')));
        let fresh = csrf::token(&session).unwrap();
        assert!(csrf::check(&session, &fresh), "a damaged secret is replaced");
    }
}

#[tokio::test]
async fn a_login_is_whole_whoever_logs_in_at_the_same_time() {
    let (sessions, auth) = (sessions(), Auth::new(&settings()));
    let key = saved(&sessions).await;
    let users = [User::new(1, "field of one"), User::new(2, "field of two")];
    let slots = [request(&sessions, Some(&key)).await, request(&sessions, Some(&key)).await];
    for (slot, user) in slots.iter().zip(&users) {
        auth.log_in(&slot.load().await.unwrap(), user).unwrap();
    }
    slots[0].save().await.unwrap();
    let second = slots[1].save().await;
    assert_eq!(second.unwrap_err().kind(), ErrorKind::Interrupted, "the session went on under another key");
    let session = request(&sessions, slots[0].key().as_ref()).await.load().await.unwrap();
    assert_eq!(auth.login(&session).unwrap().id(), "1");
    assert!(auth.confirm(&session, "field of one").unwrap());
    assert_eq!(request(&sessions, Some(&key)).await.load().await.unwrap().len(), 0);
}

#[tokio::test]
async fn a_login_that_is_none() {
    let auth = Auth::new(&settings());
    let session = request(&sessions(), None).await.load().await.unwrap();
    auth.log_in(&session, &User::new("8f14e45f-ceea-467f-a8d5-1d3f6c9e2b10", "field")).unwrap();
    let login = auth.login(&session).unwrap();
    assert_eq!(login.id(), "8f14e45f-ceea-467f-a8d5-1d3f6c9e2b10");
    let error = login.parse_id::<i64>().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Type);
    assert!(!error.to_string().contains("8f14"), "{error}");
    for foreign in ["null", "[1]", "true", "{}", "1.5"] {
        session.insert_raw(USER_ID_KEY, RawJson::parse(foreign).unwrap());
        assert_eq!(auth.login(&session), None, "{foreign}");
    }
    // Another user's session is not taken over, whatever stands in it.
    session.insert("secret of another", &1).unwrap();
    auth.log_in(&session, &User::new(1, "field")).unwrap();
    assert!(!session.contains_key("secret of another"));

    session.insert_raw(HASH_KEY, RawJson::parse("7").unwrap());
    assert!(!auth.confirm(&session, "field").unwrap());
    assert_eq!((session.len(), auth.login(&session)), (0, None), "a login that does not hold is flushed");
}

#[tokio::test]
async fn back_ends_count() {
    let session = request(&sessions(), None).await.load().await.unwrap();
    let user = User::new(1, "field").with_backend("site.ldap.Backend");
    let auth = Auth::new(&settings());
    auth.log_in(&session, &user).unwrap();
    assert_eq!(auth.login(&session), None, "as long as it is not listed");
    let auth = auth.with_backends(["site.ldap.Backend"]);
    assert_eq!(auth.login(&session).unwrap().backend(), "site.ldap.Backend");
    assert!(!format!("{user:?}").contains("field"), "a password field is not for logs");
}
