//! Others that hold rows.

use std::time::Duration;

use cloakroom_core::ErrorKind;
use cloakroom_test_servers::{Kind, shared};
use sqlx::{AssertSqlSafe, Connection, Executor};

use crate::common::{LATER, bytes, key};
use crate::{create, on_each_server, payload, refused, store};

on_each_server! {
    a_row_that_another_holds_is_not_waited_for_long
    a_busy_pool_is_told
}

/// Another program that holds something up. It ends with the connection.
pub(crate) enum Holder {
    #[cfg(feature = "postgres")]
    Postgres(sqlx::PgConnection),
    #[cfg(feature = "mysql")]
    MySql(sqlx::MySqlConnection),
}

impl Holder {
    async fn new(url: &str) -> Self {
        match url.split(':').next() {
            #[cfg(feature = "postgres")]
            Some("postgres") => Self::Postgres(sqlx::PgConnection::connect(url).await.unwrap()),
            #[cfg(feature = "mysql")]
            Some("mysql") => Self::MySql(sqlx::MySqlConnection::connect(url).await.unwrap()),
            other => panic!("{other:?}"),
        }
    }

    /// Runs a statement, for the number of rows.
    async fn execute(&mut self, sql: String) -> u64 {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(conn) => conn.execute(AssertSqlSafe(sql)).await.unwrap().rows_affected(),
            #[cfg(feature = "mysql")]
            Self::MySql(conn) => conn.execute(AssertSqlSafe(sql)).await.unwrap().rows_affected(),
        }
    }

    /// A transaction that has changed a row and does not end.
    pub(crate) async fn of(url: &str, number: u32) -> Self {
        let mut holder = Self::new(url).await;
        holder.execute("BEGIN".into()).await;
        let change = format!("UPDATE django_session SET session_data = 'held' WHERE session_key = '{number:032}'");
        assert_eq!(holder.execute(change).await, 1);
        holder
    }

    /// One that has locked the whole table.
    pub(crate) async fn of_all(url: &str) -> Self {
        let mut holder = Self::new(url).await;
        if url.starts_with("postgres") {
            holder.execute("BEGIN".into()).await;
            holder.execute("LOCK TABLE django_session IN ACCESS EXCLUSIVE MODE".into()).await;
        } else {
            holder.execute("LOCK TABLES django_session WRITE".into()).await;
        }
        holder
    }
}

async fn a_row_that_another_holds_is_not_waited_for_long(kind: Kind) {
    let Some(server) = shared(kind) else { return };
    let url = server.database();
    let store = store(&format!("{url}?statement_timeout=0.3")).await;
    let version = create(&*store, &key(1), "mine").await;
    create(&*store, &key(2), "other").await;
    let holder = Holder::of(&url, 1).await;
    let saving = store.replace(&key(1), &version, bytes("new"), LATER).await;
    refused(saving, ErrorKind::Unavailable, &["save a session", "longer than the statement timeout"]);
    // Reading does not wait, nor do other rows.
    assert_eq!(payload(&*store, &key(1)).await.unwrap(), "mine");
    assert!(store.delete(&key(2), None).await.is_ok());
    drop(holder);
    let saving = store.replace(&key(1), &version, bytes("new"), LATER).await;
    assert!(matches!(saving, Ok(cloakroom_core::store::Replaced::Replaced(_))), "{saving:?}");
}

async fn a_busy_pool_is_told(kind: Kind) {
    let Some(server) = shared(kind) else { return };
    let url = server.database();
    let store = store(&format!("{url}?pool=1&acquire_timeout=0.2&statement_timeout=60")).await;
    create(&*store, &key(1), "x").await;
    let holder = Holder::of(&url, 1).await;
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.touch(&key(1), LATER).await }
    });
    // Until the waiting one has the only connection.
    loop {
        match store.load(&key(1)).await {
            Ok(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            error => break refused(error, ErrorKind::Unavailable, &["all 1 connections", "200ms"]),
        }
    }
    drop(holder);
    assert!(waiting.await.unwrap().is_ok());
}
