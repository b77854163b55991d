//! Servers that are killed, stopped, frozen, slow or read-only under the site.

use cloakroom_compat::live::http::Visitor;
use cloakroom_compat::live::memcached::Memcached;
use cloakroom_compat::live::redis::{Answer, Redis};
use cloakroom_compat::live::site::Deployment;
use cloakroom_test_servers::{Kind, PASSWORD, Server, USER, require_or_skip, shared};

use super::lag::Lag;
use super::*;

/// Writes a test for each kind of server, from a function of the kind.
macro_rules! on_each_server {
    ($($name:ident)*) => {
        mod on_postgres {
            $(#[test] fn $name() { super::$name(super::Kind::Postgres) })*
        }
        mod on_mariadb {
            $(#[test] fn $name() { super::$name(super::Kind::MariaDb) })*
        }
        mod on_redis {
            $(#[test] fn $name() { super::$name(super::Kind::Redis) })*
        }
        mod on_valkey {
            $(#[test] fn $name() { super::$name(super::Kind::Valkey) })*
        }
        mod on_memcached {
            $(#[test] fn $name() { super::$name(super::Kind::Memcached) })*
        }
    };
}

on_each_server! {
    faults_of_a_server_that_is_down
    faults_of_a_server_that_is_frozen
    faults_of_a_server_that_is_slow
}

/// How many sessions a server holds for a site.
fn count(server: &Server, deployment: &Deployment) -> usize {
    match server.kind() {
        Kind::Postgres | Kind::MariaDb => {
            let url = deployment.setting("DATABASE_URL");
            let (database, _) = url.split_once('?').expect("the options of the site");
            server.sql(database, "SELECT COUNT(*) FROM django_session").trim().parse().expect("a number")
        }
        // The server has one site, whose database is the first.
        Kind::Redis | Kind::Valkey => match Redis::at(&server.url_of("1")).ask(&["DBSIZE"]) {
            Answer::Int(keys) => usize::try_from(keys).expect("a number of keys"),
            other => panic!("{other:?}"),
        },
        Kind::Memcached => Memcached::at(server.address()).items(":1:django.contrib.sessions.cache").len(),
    }
}

fn faults_of_a_server_that_is_down(kind: Kind) {
    let Some(server) = require_or_skip(kind) else { return };
    let running = deployment(&server).running();
    let mut owner = visitor_with_a_coat(&running);
    for break_it in [Server::kill as fn(&Server), Server::stop] {
        break_it(&server);
        all_say_unavailable(&running, &owner, READING);
        all_say_unavailable(&running, &owner, WRITING);
        says_unavailable(&get(&mut Visitor::new(), &running, SET), &running);
        others_are_not_affected(&running, &owner);
        running.wait_for_log("the reason", |line| line.contains(&server.address()));

        server.restart();
        if kind == Kind::Memcached {
            assert_eq!((data(&mut owner, &running).as_str(), count(&server, &running.deployment)), ("{}", 0));
            owner = visitor_with_a_coat(&running);
        }
        assert_eq!(data(&mut owner, &running), r#"{"coat":"red"}"#, "the next request works");
        assert_eq!(count(&server, &running.deployment), 1, "no session was made or lost");
        works(&mut visitor_with_a_coat(&running), &running, ("flush", &[]));
    }
}

fn faults_of_a_server_that_is_frozen(kind: Kind) {
    let Some(server) = require_or_skip(kind) else { return };
    let running = deployment(&server).running();
    let (mut owner, mut writer) = (visitor_with_a_coat(&running), visitor_with_a_coat(&running));
    server.freeze();
    all_say_unavailable(&running, &owner, READING);
    others_are_not_affected(&running, &owner);
    says_unavailable(&get(&mut writer, &running, SET), &running);
    server.thaw();
    assert_eq!(data(&mut owner, &running), r#"{"coat":"red"}"#, "the next request works");
    works(&mut owner, &running, SET);
    assert_eq!(data(&mut owner, &running), r#"{"coat":"green"}"#);
    // It was refused before it was read.
    assert_eq!(data(&mut writer, &running), r#"{"coat":"red"}"#);
    assert_eq!(count(&server, &running.deployment), 2);
}

/// Slow but within the limits is only slow; beyond them it is as good as down, and no longer waited for.
fn faults_of_a_server_that_is_slow(kind: Kind) {
    let Some(server) = require_or_skip(kind) else { return };
    let lag = Lag::before(server.port());
    let place = server.database().replace(&format!(":{}", server.port()), &format!(":{}", lag.port()));
    let running = deployment_at(kind, &place).running();
    let mut owner = visitor_with_a_coat(&running);
    lag.set_millis(100);
    assert_eq!(data(&mut owner, &running), r#"{"coat":"red"}"#);
    works(&mut owner, &running, SET);

    lag.set_millis(60_000);
    all_say_unavailable(&running, &owner, READING);
    others_are_not_affected(&running, &owner);
    lag.set_millis(0);
    assert_eq!(data(&mut owner, &running), r#"{"coat":"green"}"#, "the next request works");
}

/// A database that takes no changes, as a replica does: sessions are read, and every change is refused.
fn faults_of_a_read_only_database(kind: Kind) {
    let Some(server) = require_or_skip(kind) else { return };
    let writable = deployment(&server);
    let mut owner = visitor_with_a_coat(&writable.cloakroom());
    let url = writable.setting("DATABASE_URL").to_owned();
    let url = if kind == Kind::Postgres {
        let database = url.split(['/', '?']).nth(3).expect("a database in the URL");
        server.sql("postgres", &format!("ALTER DATABASE {database} SET default_transaction_read_only = on"));
        url
    } else {
        // Administrators may write to a read-only server.
        server.sql("mysql", "CREATE USER site IDENTIFIED BY 'pw'; GRANT SELECT, INSERT, UPDATE, DELETE ON *.* TO site");
        server.sql("mysql", "SET GLOBAL read_only = 1");
        url.replace(USER, "site").replace(PASSWORD, "pw")
    };
    let running = writable.with("DATABASE_URL", &url).running();
    assert_eq!(data(&mut owner, &running), r#"{"coat":"red"}"#);
    all_say_unavailable(&running, &owner, WRITING);
    says_unavailable(&get(&mut Visitor::new(), &running, SET), &running);
    others_are_not_affected(&running, &owner);
    running.wait_for_log("the reason", |line| line.contains("read-only"));
    assert_eq!(data(&mut owner, &running), r#"{"coat":"red"}"#);
    assert_eq!(count(&server, &running.deployment), 1);
}

#[test]
fn faults_of_a_read_only_postgres() {
    faults_of_a_read_only_database(Kind::Postgres);
}

#[test]
fn faults_of_a_read_only_mariadb() {
    faults_of_a_read_only_database(Kind::MariaDb);
}

/// A site that starts while its server is down serves what needs no session, and works once the server is there.
#[test]
fn faults_at_the_start_are_no_reason_not_to_start() {
    for kind in [Kind::Postgres, Kind::MariaDb, Kind::Redis, Kind::Memcached] {
        if shared(kind).is_none() {
            continue;
        }
        let Some(server) = require_or_skip(kind) else { continue };
        let deployment = deployment(&server);
        server.stop();
        let running = deployment.running();
        others_are_not_affected(&running, &Visitor::new());
        says_unavailable(&get(&mut Visitor::new(), &running, SET), &running);
        server.restart();
        assert_eq!(data(&mut visitor_with_a_coat(&running), &running), r#"{"coat":"red"}"#, "{kind:?}");
    }
}
