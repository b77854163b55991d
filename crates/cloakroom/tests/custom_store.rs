//! The store of `examples/custom_store.rs` holds to the contract, and serves.

#[allow(dead_code, unreachable_pub)]
#[path = "../examples/custom_store.rs"]
mod custom_store;

use cloakroom_core::conformance::store::{Harness, Subject};
use custom_store::MapStore;

cloakroom_core::store_conformance!(Harness::new(async |clock| Subject::new(MapStore::new(clock))));

#[tokio::test]
async fn its_page_counts() {
    use axum::body::{Body, to_bytes};
    use axum::http::{Request, header};
    use tower::ServiceExt;

    let page = custom_store::page(MapStore::new(cloakroom::Clock::system())).unwrap();
    let first = page.clone().oneshot(Request::new(Body::empty())).await.unwrap();
    let cookie = first.headers()[header::SET_COOKIE].to_str().unwrap().split(';').next().unwrap().to_owned();
    let second = Request::builder().header(header::COOKIE, cookie).body(Body::empty()).unwrap();
    let second = page.oneshot(second).await.unwrap();
    let body = to_bytes(second.into_body(), 1000).await.unwrap();
    assert_eq!(body, "This is visit 2.\n");
}
