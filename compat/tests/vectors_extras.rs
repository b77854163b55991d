//! What Django keeps in a session beside the session, case by case: messages, and CSRF secrets.

use cloakroom_compat::{Vectors, text};
use cloakroom_core::wire::django_items::{
    CSRF_ALPHABET, CSRF_SECRET_LENGTH, Message, csrf_token_matches, decode_messages, encode_messages, mask_csrf_secret,
    unmask_csrf_token,
};
use serde_json::Value;

#[test]
fn vectors_extras_messages() {
    let vectors = Vectors::load("extras");
    let mut report = vectors.report(&["messages"]);
    for (n, case) in vectors.section("messages").iter().enumerate() {
        report.case(&format!("messages {n}"), || {
            let messages: Vec<Message> = case["messages"]
                .as_array()
                .unwrap()
                .iter()
                .map(|message| Message {
                    level: message["level"].as_i64().unwrap(),
                    text: text(message, "message").to_owned(),
                    safe: message["safe"] == true,
                    extra_tags: message["extra_tags"].as_str().map(str::to_owned),
                })
                .collect();
            assert_eq!(encode_messages(&messages), text(case, "_messages"));
            assert_eq!(decode_messages(text(case, "_messages")).unwrap(), messages);
        });
    }
    report.finish();
}

#[test]
fn vectors_extras_csrf() {
    let vectors = Vectors::load("extras");
    assert_eq!(vectors.root()["csrf_alphabet"].as_str().unwrap().as_bytes(), CSRF_ALPHABET);
    let mut report = vectors.report(&["csrf"]);
    for (n, case) in vectors.section("csrf").iter().enumerate() {
        report.case(&format!("csrf {n}"), || {
            let (secret, token) = (text(case, "secret"), text(case, "token"));
            assert_eq!(Value::from(csrf_token_matches(token, secret)), case["matches"]);
            if case["matches"] == true {
                assert_eq!(secret.len(), CSRF_SECRET_LENGTH);
                assert_eq!(unmask_csrf_token(token).as_deref(), Some(secret));
                assert!(csrf_token_matches(&mask_csrf_secret(secret).unwrap(), secret));
            }
        });
    }
    report.finish();
}
