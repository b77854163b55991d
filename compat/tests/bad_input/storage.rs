//! A store that cannot be used for a while.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::thread;
use std::time::Duration;

use cloakroom_compat::live::http::Visitor;
use cloakroom_compat::live::site::{Deployment, Engine, SERVE, Site, cloakroom_binary};

use super::{says_unavailable, still_has_the_coat, visitor_with_a_coat};

const SET: (&str, &[(&str, &str)]) = ("set", &[("k", "coat"), ("v", "\"green\"")]);

#[test]
fn bad_permissions_on_the_database_file_allow_reading() {
    let deployment = Deployment::migrated(Engine::Db);
    let site = deployment.cloakroom();
    let mut visitor = visitor_with_a_coat(&site);
    assert_eq!(site.stop().code(), Some(0), "{}", site.log());
    let database = deployment.database().path().to_owned();
    let before = fs::read(&database).unwrap();
    fs::set_permissions(&database, Permissions::from_mode(0o444)).unwrap();

    let mut command = deployment.cloakroom_command(SERVE);
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        // Permissions do not bind root. Nobody may not be allowed to look into our build directory, so it gets a copy.
        fs::set_permissions(deployment.directory(), Permissions::from_mode(0o777)).unwrap();
        let copy = deployment.directory().join("cloakroom");
        fs::copy(cloakroom_binary(), &copy).unwrap();
        let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        let settings: Vec<_> = command.get_envs().map(|(k, v)| (k.to_owned(), v.map(ToOwned::to_owned))).collect();
        command = std::process::Command::new(copy);
        command.args(arguments).current_dir(deployment.directory()).uid(65_534).gid(65_534);
        for (name, value) in settings {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
    }
    let running = deployment.running_as(command);
    still_has_the_coat(&mut visitor, &running);
    says_unavailable(&visitor.get(&running, SET.0, SET.1), &running);
    says_unavailable(&Visitor::new().get(&running, SET.0, SET.1), &running);
    says_unavailable(&visitor.get(&running, "flush", &[]), &running);
    running.wait_for_log("the reason", |line| line.contains("sessions.sqlite3"));
    still_has_the_coat(&mut visitor, &running);
    assert_eq!(fs::read(&database).unwrap(), before);
}

/// The settings of a database that gives up waiting for a lock soon.
fn impatient(seconds: &str) -> Deployment {
    let deployment = Deployment::migrated(Engine::Db);
    let url = format!("sqlite://{}?busy_timeout={seconds}", deployment.database().path().display());
    deployment.with("DATABASE_URL", &url)
}

#[test]
fn bad_lock_of_another_writer_is_told_and_passes() {
    let running = impatient("0.3").running();
    let mut visitor = visitor_with_a_coat(&running);
    running.deployment.database().while_locked(|| {
        says_unavailable(&visitor.get(&running, SET.0, SET.1), &running);
        says_unavailable(&Visitor::new().get(&running, SET.0, SET.1), &running);
        still_has_the_coat(&mut visitor, &running);
    });
    running.wait_for_log("the reason", |line| line.contains("locked"));
    still_has_the_coat(&mut visitor, &running);
    visitor.get(&running, SET.0, SET.1).ok();
}

#[test]
fn bad_lock_that_ends_in_time_is_waited_for() {
    let running = impatient("50").running();
    let mut visitor = visitor_with_a_coat(&running);
    thread::scope(|scope| {
        let waiting = running.deployment.database().while_locked(|| {
            let waiting = scope.spawn(|| visitor.get(&running, SET.0, SET.1).ok());
            thread::sleep(Duration::from_millis(500));
            assert!(!waiting.is_finished(), "nobody writes past a lock");
            waiting
        });
        waiting.join().expect("an answer");
    });
    assert_eq!(visitor.get(&running, "get", &[("k", "coat")]).ok().member("value").as_text().as_deref(), Some("green"));
}

/// While what holds the sessions is away, the site says so; when it is back, everything is there.
fn away_and_back(deployment: Deployment, place: &std::path::Path, reason: &str) {
    let running = deployment.running();
    let site: &Site = &running;
    let mut visitor = visitor_with_a_coat(site);
    let away = running.deployment.directory().join("away");
    fs::rename(place, &away).unwrap();
    for (page, query) in [("all", &[][..]), SET, ("flush", &[]), ("incr", &[("k", "n")])] {
        says_unavailable(&visitor.get(site, page, query), &running);
    }
    says_unavailable(&Visitor::new().get(site, SET.0, SET.1), &running);
    assert_eq!(visitor.get(site, "noop", &[]).ok().cookies().len(), 0, "who needs no session is not disturbed");
    site.wait_for_log("the reason", |line| line.contains(reason));
    assert!(!place.exists(), "nothing is made again behind the operator's back");
    fs::rename(&away, place).unwrap();
    still_has_the_coat(&mut visitor, site);
    visitor.get(site, SET.0, SET.1).ok();
}

#[test]
fn bad_deletion_of_the_database_file_under_way() {
    let deployment = Deployment::migrated(Engine::Db);
    let place = deployment.database().path().to_owned();
    away_and_back(deployment, &place, "sessions.sqlite3");
}

#[test]
fn bad_deletion_of_the_directory_of_files_under_way() {
    let deployment = Deployment::new(Engine::File);
    let place = deployment.files();
    away_and_back(deployment, &place, "SESSION_FILE_PATH");
}
