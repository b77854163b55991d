//! Encrypted connections.

use cloakroom_core::ErrorKind;
use cloakroom_test_servers::{Kind, Options, USER, shared};

use crate::{is_postgres, on_each_server, open, refused};

on_each_server! {
    encryption_is_as_asked_for
    a_server_without_encryption_is_told
}

async fn encryption_is_as_asked_for(kind: Kind) {
    let Some(server) = Options::new(kind).tls().require_or_skip() else { return };
    let encrypted = server.database();
    if is_postgres(kind) {
        let rules = server.directory().join("data/pg_hba.conf");
        std::fs::write(&rules, "hostssl all all 127.0.0.1/32 scram-sha-256\n").unwrap();
        server.restart();
    } else {
        server.sql("mysql", &format!("ALTER USER '{USER}'@'%' REQUIRE SSL"));
    }
    let ca = server.ca_certificate();
    let ca = ca.display();
    // The server takes encrypted connections only, so that whoever gets through is encrypted.
    for parameters in [
        String::new(),
        "?sslmode=require".to_owned(),
        format!("?sslmode=verify-ca&sslrootcert={ca}"),
        format!("?sslmode=verify-full&sslrootcert={ca}"),
    ] {
        let store = open(&format!("{encrypted}{parameters}")).await.unwrap();
        assert!(!store.is_migrated().await.unwrap(), "{parameters}");
    }
    refused(open(&format!("{encrypted}?sslmode=disable")).await, ErrorKind::Configuration, &["DATABASE_URL"]);
    for mode in ["verify-ca", "verify-full"] {
        let url = format!("{encrypted}?sslmode={mode}");
        refused(open(&url).await, ErrorKind::Configuration, &["sslmode and sslrootcert", "encrypted"]);
    }
    let missing = open(&format!("{encrypted}?sslmode=verify-full&sslrootcert=/no/such/file.pem")).await;
    refused(missing, ErrorKind::Configuration, &["DATABASE_URL"]);
}

async fn a_server_without_encryption_is_told(kind: Kind) {
    let Some(server) = shared(kind) else { return };
    let url = server.database();
    assert!(open(&url).await.is_ok(), "it is preferred, not required");
    refused(open(&format!("{url}?sslmode=require")).await, ErrorKind::Configuration, &["sslmode"]);
}
