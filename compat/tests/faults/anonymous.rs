//! `SESSION_ON_UNAVAILABLE = "anonymous"`: visitors are served without a session while the store is down.

use cloakroom_compat::live::site::{Deployment, Engine, Running};
use cloakroom_test_servers::{Kind, require_or_skip};

use super::*;

/// While the store is away, everybody is a visitor without a session who cannot get one.
fn served_without_a_session(running: &Running, break_it: impl FnOnce(), mend: impl FnOnce()) {
    let mut owner = visitor_with_a_coat(running);
    break_it();
    for page in READING {
        let reply = works(&mut owner, running, *page);
        assert!(reply.cookies().is_empty(), "{reply:#?}");
        assert_eq!(reply.header("vary"), ["Cookie"], "{reply:#?}");
    }
    assert_eq!(data(&mut owner, running), "{}");
    all_say_unavailable(running, &owner, WRITING);
    says_unavailable(&get(&mut Visitor::new(), running, SET), running);
    others_are_not_affected(running, &owner);
    running.wait_for_log("the outage", |line| line.contains("ERROR") && line.contains("served without a session"));
    mend();
    assert_eq!(data(&mut owner, running), r#"{"coat":"red"}"#);
    works(&mut owner, running, SET);
    assert_eq!(data(&mut owner, running), r#"{"coat":"green"}"#);
}

#[test]
fn faults_of_sqlite_served_anonymously() {
    let running = Deployment::migrated(Engine::Db).with("SESSION_ON_UNAVAILABLE", "anonymous").running();
    let (place, away) =
        (running.deployment.directory().join("sessions.sqlite3"), running.deployment.directory().join("away"));
    let back = || std::fs::rename(&away, &place).expect("it comes back");
    served_without_a_session(&running, || std::fs::rename(&place, &away).expect("it goes away"), back);
}

#[test]
fn faults_of_a_server_served_anonymously() {
    for kind in [Kind::Postgres, Kind::Redis] {
        let Some(server) = require_or_skip(kind) else { continue };
        for every in ["False", "True"] {
            let deployment = deployment(&server).with("SESSION_ON_UNAVAILABLE", "anonymous");
            let running = deployment.with("SESSION_SAVE_EVERY_REQUEST", every).running();
            served_without_a_session(&running, || server.kill(), || server.restart());
        }
    }
}
