//! Sockets, database numbers, users and passwords, TLS.

use std::time::Duration;

use cloakroom_core::{Clock, ErrorKind};
use cloakroom_redis::RedisStore;
use cloakroom_test_servers::{Kind, Options, require_or_skip};

use crate::{Wire, all_of, create, key, options, payload, store};

#[tokio::test]
async fn by_socket_and_number() {
    let Some(server) = require_or_skip(Kind::Redis) else { return };
    let socket = server.directory().join("socket");
    let path = socket.to_str().expect("a path in UTF-8");
    let by_socket = store(&format!("unix://{path}?db=7"));
    let key = key();
    create(&by_socket, &key, "seven").await;
    assert_eq!(payload(&store(&server.url_of("7")), &key).await.as_deref(), Some("seven"));
    assert_eq!(payload(&store(&server.url_of("8")), &key).await, None, "another database");

    let error = store(&server.url_of("1001")).ping().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(error.to_string().contains("no database of this number"), "{error}");

    let error = store(&format!("unix://{path}.gone")).ping().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn by_user_and_password() {
    let Some(server) = Options::new(Kind::Redis).password("p@ss/word").require_or_skip() else { return };
    let address = server.address();
    let right = format!("redis://:p%40ss%2Fword@{address}/0");
    let mut wire = Wire::to(&right).await;
    let _: () = wire.ask(&["ACL", "SETUSER", "clerk", "on", ">coat", "~*", "+@all"]).await;
    let _: () =
        wire.ask(&["ACL", "SETUSER", "reader", "on", ">look", "~*", "+get", "+ping", "+select", "+client"]).await;
    for url in [right, format!("redis://clerk:coat@{address}"), format!("redis://clerk@{address}?password=coat")] {
        let (store, key) = (store(&url), key());
        create(&store, &key, "mine").await;
        assert_eq!(payload(&store, &key).await.as_deref(), Some("mine"));
    }

    for wrong in ["redis://:secret-guess@", "redis://clerk:secret-guess@", "redis://nobody:secret-guess@"] {
        for database in [0, 3] {
            let error = store(&format!("{wrong}{address}/{database}")).load(&key()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
            assert!(error.to_string().contains("refused the user name or the password"), "{error}");
            assert!(!all_of(&error).contains("secret-guess"), "{error:?}");
        }
    }
    for database in [0, 3] {
        let error = store(&format!("redis://{address}/{database}")).load(&key()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
        assert!(error.to_string().contains("wants a password"), "{error}");
    }

    let reader = store(&format!("redis://reader:look@{address}"));
    assert_eq!(payload(&reader, &key()).await, None);
    let error = reader.create(&key(), "x".into(), crate::later()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
    assert!(error.to_string().contains("does not allow this user"), "{error}");
}

#[tokio::test]
async fn by_tls() {
    let Some(server) = Options::new(Kind::Redis).tls().require_or_skip() else { return };
    let (address, ca) = (server.address(), server.ca_certificate());
    let ca = ca.to_str().expect("a path in UTF-8");
    let key = key();
    create(&store(&format!("rediss://{address}/2?ssl_ca_certs={ca}")), &key, "sealed").await;
    for url in [
        format!("rediss://localhost:{}/2?ssl_ca_certs={ca}", server.port()),
        format!("rediss://{address}/2?ssl_cert_reqs=none"),
        format!("rediss://{address}/2?ssl_ca_certs={ca}&ssl_check_hostname=false"),
    ] {
        assert_eq!(payload(&store(&url), &key).await.as_deref(), Some("sealed"), "{url}");
    }

    // Nobody that this system knows has signed the certificate.
    let error = store(&server.url()).ping().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration, "{error:?}");
    assert!(error.to_string().contains("ssl_ca_certs"), "{error}");

    let error = store(&format!("redis://{address}")).ping().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(error.to_string().contains("speaks TLS"), "{error}");

    for (name, content, told) in [("missing", None, "cannot be read"), ("broken", Some("no certificate"), "PEM")] {
        let path = std::path::Path::new(ca).with_file_name(name);
        if let Some(content) = content {
            std::fs::write(&path, content).expect("written");
        }
        let opened = RedisStore::open(options(&server.url()).ca_file(&path), Clock::system());
        let error = opened.err().map(|error| (error.kind(), error.to_string()));
        let (kind, text) = error.unwrap_or_else(|| panic!("{name} was taken for an authority"));
        assert_eq!(kind, ErrorKind::Configuration);
        assert!(text.contains(told) && text.contains("ssl_ca_certs"), "{text}");
    }
}

#[tokio::test]
async fn tls_to_a_server_without() {
    let Some(server) = require_or_skip(Kind::Redis) else { return };
    let quick = options(&format!("rediss://{}", server.address())).connect_timeout(Duration::from_secs(5));
    let error = RedisStore::open(quick, Clock::system()).unwrap().ping().await.unwrap_err();
    assert!(error.to_string().contains("TLS"), "{error}");
}
use cloakroom_core::store::Store;
