//! Each operation is one statement, as the server counts them.

use cloakroom_core::store::{Created, Version};
use cloakroom_test_servers::{Kind, Options, Server};

use crate::common::{LATER, bytes, key};
use crate::{is_postgres, on_each_server, store};

on_each_server! { operations_cost_one_statement }

/// How many statements the server has run so far, those of this question among them.
fn count(server: &Server, kind: Kind) -> u64 {
    let text = if is_postgres(kind) {
        server.sql("postgres", "SELECT SUM(calls) FROM pg_stat_statements")
    } else {
        server.sql(
            "mysql",
            "SELECT SUM(variable_value) FROM information_schema.global_status
             WHERE variable_name IN ('COM_SELECT', 'COM_INSERT', 'COM_UPDATE', 'COM_DELETE', 'COM_BEGIN', 'COM_COMMIT',
                                     'COM_ROLLBACK', 'COM_SET_OPTION')",
        )
    };
    text.trim().parse().unwrap()
}

/// A server that counts statements.
pub(crate) fn counting(kind: Kind) -> Option<Server> {
    let options = Options::new(kind);
    if !is_postgres(kind) {
        return options.require_or_skip();
    }
    let server = options.args(["-c", "shared_preload_libraries=pg_stat_statements"]).require_or_skip()?;
    server.sql("postgres", "CREATE EXTENSION pg_stat_statements");
    Some(server)
}

async fn operations_cost_one_statement(kind: Kind) {
    let Some(server) = counting(kind) else { return };
    let url = server.database();
    let store = store(&format!("{url}?pool=1")).await;
    // Which opens the connection.
    store.load(&key(9)).await.unwrap();
    let mut last = count(&server, kind);
    let asking = count(&server, kind) - last;
    last += asking;
    let mut taken = || {
        let now = count(&server, kind);
        let taken = now - last - asking;
        last = now;
        taken
    };
    server.sql(&url, "SELECT 1");
    assert_eq!(taken(), asking, "the server counts");

    let Created::Created(version) = store.create(&key(1), bytes("x"), LATER).await.unwrap() else { panic!() };
    assert_eq!(taken(), 1, "create");
    store.create(&key(1), bytes("x"), LATER).await.unwrap();
    assert_eq!(taken(), 1, "create under a taken key");
    store.load(&key(1)).await.unwrap();
    assert_eq!(taken(), 1, "load");
    store.load(&key(2)).await.unwrap();
    assert_eq!(taken(), 1, "load of an unknown key");
    store.replace(&key(1), &version, bytes("y"), LATER).await.unwrap();
    assert_eq!(taken(), 1, "replace");
    store.replace(&key(1), &version, bytes("z"), LATER).await.unwrap();
    assert_eq!(taken(), 2, "replace that meets a conflict");
    store.touch(&key(1), LATER).await.unwrap();
    assert_eq!(taken(), 1, "touch");
    store.rotate(&key(1), &Version::payload(bytes("y")), &key(2), bytes("z"), LATER).await.unwrap();
    assert_eq!(taken(), 1, "rotate");
    store.rotate(&key(2), &Version::payload(bytes("y")), &key(1), bytes("z"), LATER).await.unwrap();
    assert_eq!(taken(), 2, "rotate that meets a conflict");
    store.rotate(&key(2), &Version::payload(bytes("z")), &key(1), bytes("y"), LATER).await.unwrap();
    assert_eq!(taken(), 1, "rotate");
    store.delete(&key(1), Some(&Version::payload(bytes("y")))).await.unwrap();
    assert_eq!(taken(), 1, "guarded delete");
    store.delete(&key(1), None).await.unwrap();
    assert_eq!(taken(), 1, "delete");
    store.clear_expired(10).await.unwrap();
    assert_eq!(taken(), 1, "clear_expired");
    store.list(None, 10).await.unwrap();
    assert_eq!(taken(), 1, "list");
}
