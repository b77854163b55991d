//! What somebody who learns this framework is asked, on the running site.

use std::process::ExitStatus;
use std::time::{SystemTime, UNIX_EPOCH};

use cloakroom_compat::live::http::Visitor;
use cloakroom_compat::live::json::Json;
use cloakroom_compat::live::process::Process;
use cloakroom_compat::live::site::{Deployment, Engine, SERVE};

const ENGINES: [Engine; 4] = [Engine::Db, Engine::Cache, Engine::File, Engine::SignedCookies];

#[test]
fn question_1_data_is_remembered_between_pages_of_one_visitor() {
    for engine in ENGINES {
        let site = Deployment::migrated(engine).running();
        let (mut ann, mut bob) = (Visitor::new(), Visitor::new());
        ann.get(&site, "set", &[("k", "coat"), ("v", "\"red\"")]).ok();
        bob.get(&site, "set", &[("k", "coat"), ("v", "\"blue\"")]).ok();
        for page in ["noop", "all", "whoami"] {
            ann.get(&site, page, &[]).ok();
        }
        assert_eq!(ann.get(&site, "get", &[("k", "coat")]).ok().member("value"), Json::from_text("red"), "{engine:?}");
        assert_eq!(bob.get(&site, "get", &[("k", "coat")]).ok().member("value"), Json::from_text("blue"), "{engine:?}");
        let stranger = Visitor::new().get(&site, "get", &[("k", "coat")]).ok();
        assert_eq!(stranger.member("found"), Json::Bool(false), "{engine:?}");
    }
}

#[test]
fn question_2_session_engine_chooses_the_storage() {
    for engine in ENGINES {
        let running = Deployment::migrated(engine).running();
        let deployment = &running.deployment;
        let mut visitor = Visitor::new();
        visitor.get(&running, "set", &[("k", "coat"), ("v", "\"red\"")]).ok();
        let cookie = visitor.session();

        let row = deployment.database().path().exists().then(|| deployment.database().session(&cookie)).flatten();
        assert_eq!(row.is_some(), engine == Engine::Db, "{engine:?}: a row only for db");
        let file = deployment.files().join(format!("sessionid{cookie}"));
        assert_eq!(file.is_file(), engine == Engine::File, "{engine:?}: a file only for file");
        assert_eq!(cookie.contains(':'), engine == Engine::SignedCookies, "{engine:?}: data in the cookie only there");

        // What is stored outside the process is there after a restart; what only the process knew is not.
        assert_eq!(running.stop().code(), Some(0), "{engine:?}: {}", running.log());
        let again = deployment.cloakroom();
        let found = visitor.get(&again, "get", &[("k", "coat")]).ok().member("found");
        assert_eq!(found, Json::Bool(engine != Engine::Cache), "{engine:?}");
    }
}

#[test]
fn question_3_two_weeks_in_the_cache_survive_a_browser_restart() {
    let site = Deployment::new(Engine::Cache)
        .with("SESSION_COOKIE_AGE", "1209600")
        .with("SESSION_EXPIRE_AT_BROWSER_CLOSE", "False")
        .running();
    let mut visitor = Visitor::new();
    let reply = visitor.get(&site, "set", &[("k", "coat"), ("v", "\"red\"")]).ok();
    assert_eq!(reply.cookies()[0].max_age(), Some(1_209_600), "{reply:#?}");
    visitor.restart_browser();
    assert_eq!(visitor.get(&site, "get", &[("k", "coat")]).ok().member("value"), Json::from_text("red"));
}

#[test]
fn question_4_a_missing_directory_of_the_file_engine_fails_clearly() {
    let mut deployment = Deployment::new(Engine::File);
    std::fs::remove_dir(deployment.files()).unwrap();
    refuses_to_start(&deployment, "a missing directory");

    // A file in the place of the directory is no better, and it stays as it is.
    let file = deployment.directory().join("not-a-directory");
    std::fs::write(&file, "mine").unwrap();
    deployment.set("SESSION_FILE_PATH", file.to_str().unwrap());
    refuses_to_start(&deployment, "a file instead of a directory");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
}

fn refuses_to_start(deployment: &Deployment, why: &str) {
    let mut process = Process::start("cloakroom serve", deployment.cloakroom_command(SERVE));
    let status: ExitStatus = process.wait();
    let path = deployment.setting("SESSION_FILE_PATH");
    let log = process.wait_for("its message", |log| log.contains("SESSION_FILE_PATH").then(|| log.to_owned()));
    assert!(status.code().is_some_and(|code| code != 0), "{why}: {status}\n{log}");
    assert!(log.contains(path), "{why}: the message names {path}:\n{log}");
    assert!(!log.contains("panicked"), "{why}:\n{log}");
}

#[test]
fn question_5_expiry_at_browser_close_ends_on_the_server_after_an_hour() {
    let site = Deployment::migrated(Engine::Db)
        .with("SESSION_EXPIRE_AT_BROWSER_CLOSE", "True")
        .with("SESSION_COOKIE_AGE", "3600")
        .running();
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let database = site.deployment.database();
    let mut visitor = Visitor::new();

    let before = now();
    let reply = visitor.get(&site, "set", &[("k", "coat"), ("v", "\"red\"")]).ok();
    let after = now();
    assert!(!reply.cookies()[0].is_persistent(), "the browser forgets it when it closes: {reply:#?}");

    // The server's record ends an hour from now, to the second ...
    let ends = database.column("SELECT strftime('%s', expire_date) FROM django_session");
    let ends: u64 = ends[0].parse().unwrap();
    assert!((before + 3600..=after + 3600).contains(&ends), "{before} {after} {ends}");
    // ... and instead of waiting for that hour, the test moves the record an hour back. Half of it is not enough:
    let move_back = |minutes: &str| {
        let sql = "UPDATE django_session SET expire_date = datetime(expire_date, ?) || substr(expire_date, 20)";
        assert_eq!(database.execute(sql, &[minutes]), 1);
    };
    move_back("-30 minutes");
    let found = |visitor: &mut Visitor| visitor.get(&site, "get", &[("k", "coat")]).ok().member("found");
    assert_eq!(found(&mut visitor), Json::Bool(true));
    // Another browser that stayed open cannot use the cookie either, once the hour is over.
    let mut open = visitor.copy();
    move_back("-30 minutes");
    assert_eq!(found(&mut visitor), Json::Bool(false));
    assert_eq!(found(&mut open), Json::Bool(false));
    visitor.restart_browser();
    assert_eq!(visitor.cookie("sessionid"), None);
}
