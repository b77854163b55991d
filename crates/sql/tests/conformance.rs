//! Every store has to pass the suite of `cloakroom-core`.

mod common;

#[cfg(feature = "sqlite")]
mod sqlite {
    use cloakroom_core::conformance::store::{Harness, Subject};
    use cloakroom_sql::{SqliteOptions, SqliteStore, Synchronous};

    use crate::common::place;

    fn harness() -> Harness {
        Harness::new(async |clock| {
            let (directory, path) = place();
            // Power cuts are not what this is about. The busy timeout is long, for the two handles on one file meet.
            let options = || SqliteOptions::new(&path).create_if_missing(true).synchronous(Synchronous::Off);
            let store = SqliteStore::open(options(), clock.clone()).await.unwrap();
            store.migrations().apply().await.unwrap();
            let other = SqliteStore::open(options(), clock).await.unwrap();
            Subject::new(store).with_second(other).keeping(directory)
        })
    }

    cloakroom_core::store_conformance!(harness());
}

#[cfg(feature = "postgres")]
mod postgres {
    use cloakroom_core::conformance::store::{self, Harness, Subject};
    use cloakroom_sql::PostgresStore;
    use cloakroom_test_servers::{Kind, shared};

    use crate::common::server_options;

    /// All checks in one test, on one server with a database for each.
    #[test]
    fn postgres_conforms() {
        let Some(server) = shared(Kind::Postgres) else { return };
        store::block_on(store::run(Harness::new(async |clock| {
            let options = server_options(&server.database());
            let store = PostgresStore::open(options.clone(), clock.clone()).await.unwrap();
            store.migrations().apply().await.unwrap();
            Subject::new(store).with_second(PostgresStore::open(options, clock).await.unwrap())
        })));
    }
}

#[cfg(feature = "mysql")]
mod mysql {
    use cloakroom_core::conformance::store::{self, Harness, Subject};
    use cloakroom_sql::MySqlStore;
    use cloakroom_test_servers::{Kind, shared};

    use crate::common::server_options;

    #[test]
    fn mariadb_conforms() {
        let Some(server) = shared(Kind::MariaDb) else { return };
        store::block_on(store::run(Harness::new(async |clock| {
            let options = server_options(&server.database());
            let store = MySqlStore::open(options.clone(), clock.clone()).await.unwrap();
            store.migrations().apply().await.unwrap();
            Subject::new(store).with_second(MySqlStore::open(options, clock).await.unwrap())
        })));
    }
}
