//! The table may be made by either side first.

use cloakroom_compat::live::http::Visitor;
use cloakroom_compat::live::python::python;
use cloakroom_compat::live::site::{Deployment, Engine};
use cloakroom_compat::live::sqlite::Database;

/// Everything SQLite knows of the session table, and Django's record of it.
fn schema(database: &Database) -> Vec<String> {
    let mut parts = database
        .column("SELECT sql FROM sqlite_master WHERE tbl_name = 'django_session' AND sql IS NOT NULL ORDER BY name");
    parts.extend(database.column("SELECT app || '.' || name FROM django_migrations WHERE app = 'sessions'"));
    parts
}

#[test]
fn django_has_nothing_to_do_after_our_migration() {
    if python().is_none() {
        return;
    }
    let deployment = Deployment::new(Engine::Db);
    deployment.command(&["migrate"]).ok();
    let ours = schema(&deployment.database());
    deployment.manage(&["migrate", "sessions", "--check"]).ok();
    let shown = deployment.manage(&["showmigrations", "sessions"]).ok().stdout;
    assert!(shown.contains("[X] 0001_initial"), "{shown}");
    assert!(!shown.contains("[ ]"), "{shown}");
    // The whole of Django's own migrations runs through on top, and leaves the table alone.
    let done = deployment.manage(&["migrate", "--no-color"]).ok().stdout;
    assert!(!done.contains("sessions.0001_initial"), "{done}");
    deployment.manage(&["migrate", "--check"]).ok();
    assert_eq!(schema(&deployment.database()), ours);

    // A second run of ours changes nothing either, and both sides work on it.
    deployment.command(&["migrate"]).ok();
    assert_eq!(schema(&deployment.database()), ours);
    let (django, cloakroom) = (deployment.django(), deployment.cloakroom());
    let mut visitor = Visitor::new();
    visitor.get(&django, "incr", &[("k", "n")]).ok();
    assert_eq!(visitor.get(&cloakroom, "incr", &[("k", "n")]).ok().member("value").as_i64(), Some(2));
}

#[test]
fn django_migrated_first_and_we_have_nothing_to_do() {
    if python().is_none() {
        return;
    }
    let theirs = Deployment::new(Engine::Db);
    theirs.manage(&["migrate", "--verbosity", "0"]).ok();
    let before = schema(&theirs.database());
    theirs.command(&["migrate"]).ok();
    assert_eq!(schema(&theirs.database()), before);
    theirs.manage(&["migrate", "--check"]).ok();

    let ours = Deployment::new(Engine::Db);
    ours.command(&["migrate"]).ok();
    assert_eq!(schema(&ours.database()), before, "the same table, index and record as Django makes");
}
