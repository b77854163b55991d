//! The table may be made by either side first.

use cloakroom_compat::live::database::Database;
use cloakroom_compat::live::http::Visitor;
use cloakroom_compat::live::site::{Deployment, Engine};

macro_rules! on_each_database {
    ($($test:ident),+ $(,)?) => {
        mod sqlite { on_engine!(Db: $($test),+); }
        mod postgres { on_engine!(DbPostgres: $($test),+); }
        mod mariadb { on_engine!(DbMariaDb: $($test),+); }
    };
}

on_each_database!(django_has_nothing_to_do_after_our_migration, django_migrated_first_and_we_have_nothing_to_do);

/// What each database says of Django's two tables: columns, types, defaults, constraints, indexes.
const SQLITE: &[&str] = &["SELECT sql FROM sqlite_master WHERE tbl_name IN ('django_session', 'django_migrations') \
     AND sql IS NOT NULL ORDER BY name"];
const POSTGRES: &[&str] = &[
    "SELECT concat_ws(' ', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, \
     pg_get_expr(d.adbin, d.adrelid)) FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid \
     LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
     WHERE c.relname IN ('django_session', 'django_migrations') AND a.attnum > 0 ORDER BY c.relname, a.attnum",
    "SELECT concat_ws(' ', conrelid::regclass, conname, pg_get_constraintdef(oid)) FROM pg_constraint \
     WHERE conrelid::regclass::text IN ('django_session', 'django_migrations') ORDER BY 1",
    "SELECT indexdef FROM pg_indexes WHERE tablename IN ('django_session', 'django_migrations') ORDER BY indexname",
];
const MARIADB: &[&str] = &[
    "SELECT concat_ws(' ', table_name, engine, table_collation) FROM information_schema.tables \
     WHERE table_schema = database() AND table_name IN ('django_session', 'django_migrations') ORDER BY 1",
    "SELECT concat_ws(' ', table_name, column_name, column_type, is_nullable, column_default, extra, collation_name) \
     FROM information_schema.columns WHERE table_schema = database() \
     AND table_name IN ('django_session', 'django_migrations') ORDER BY table_name, ordinal_position",
    "SELECT concat_ws(' ', table_name, index_name, non_unique, index_type, seq_in_index, column_name, sub_part) \
     FROM information_schema.statistics WHERE table_schema = database() \
     AND table_name IN ('django_session', 'django_migrations') ORDER BY 1",
];
const RECORD: &str = "SELECT name FROM django_migrations WHERE app = 'sessions'";

/// Everything that the database knows of the session table, and Django's record of it.
fn schema(engine: Engine, database: &Database) -> String {
    let (queries, index) = match engine {
        Engine::DbPostgres => (POSTGRES, "varchar_pattern_ops"),
        Engine::DbMariaDb => (MARIADB, "django_session PRIMARY 0"),
        _ => (SQLITE, "CREATE INDEX"),
    };
    let parts: Vec<String> = queries.iter().flat_map(|query| database.column(query)).collect();
    let schema = parts.join("\n");
    assert!(schema.contains("django_session_expire_date_a5c62663") && schema.contains(index), "{schema}");
    assert_eq!(database.column(RECORD), ["0001_initial"]);
    schema
}

fn django_has_nothing_to_do_after_our_migration(engine: Engine) {
    if !engine.is_available() {
        return;
    }
    let deployment = Deployment::new(engine);
    deployment.command(&["migrate"]).ok();
    let ours = schema(engine, deployment.database());
    deployment.manage(&["migrate", "sessions", "--check"]).ok();
    let shown = deployment.manage(&["showmigrations", "sessions"]).ok().stdout;
    assert!(shown.contains("[X] 0001_initial"), "{shown}");
    assert!(!shown.contains("[ ]"), "{shown}");
    // The whole of Django's own migrations runs through on top, and leaves the table alone.
    let done = deployment.manage(&["migrate", "--no-color"]).ok().stdout;
    assert!(!done.contains("sessions.0001_initial"), "{done}");
    deployment.manage(&["migrate", "--check"]).ok();
    assert_eq!(schema(engine, deployment.database()), ours);

    // A second run of ours changes nothing either, and both sides work on it.
    deployment.command(&["migrate"]).ok();
    assert_eq!(schema(engine, deployment.database()), ours);
    let (django, cloakroom) = (deployment.django(), deployment.cloakroom());
    let mut visitor = Visitor::new();
    visitor.get(&django, "incr", &[("k", "n")]).ok();
    assert_eq!(visitor.get(&cloakroom, "incr", &[("k", "n")]).ok().member("value").as_i64(), Some(2));
}

fn django_migrated_first_and_we_have_nothing_to_do(engine: Engine) {
    if !engine.is_available() {
        return;
    }
    let theirs = Deployment::new(engine);
    theirs.manage(&["migrate", "--verbosity", "0"]).ok();
    let before = schema(engine, theirs.database());
    let said = theirs.command(&["migrate"]).ok().stdout;
    assert!(said.contains("nothing to do"), "{said}");
    assert_eq!(schema(engine, theirs.database()), before);
    theirs.manage(&["migrate", "--check"]).ok();

    let ours = Deployment::new(engine);
    ours.command(&["migrate"]).ok();
    assert_eq!(schema(engine, ours.database()), before, "the same tables, indexes and record as Django makes");
}
