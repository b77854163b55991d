//! Sites with the same routes on several session libraries, and a visitor who calls them without a network.

pub mod sites;
pub mod visitor;

/// The [`items`] as one object.
pub fn items_as_object() -> serde_json::Value {
    items().into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<serde_json::Map<_, _>>().into()
}

/// What is stored at `/login`: about 500 bytes of JSON, a counter among them.
pub fn items() -> Vec<(&'static str, serde_json::Value)> {
    use serde_json::json;
    vec![
        ("_auth_user_id", json!("4711")),
        ("_auth_user_backend", json!("django.contrib.auth.backends.ModelBackend")),
        ("_auth_user_hash", json!("9f2b7c4e0d5a81f36b1e8d7c2a4f90b3e6d5c4b7a8f90123")),
        ("_csrftoken", json!("Zk3vQ0xUu7rM2bYt9sLw4cHn6eGd8aPf")),
        ("name", json!("Ada Lovelace")),
        ("email", json!("ada@example.org")),
        ("language", json!("en-gb")),
        ("visits", json!(1)),
        ("cart", json!([{"sku": "A-1001", "count": 2, "price": 12.5}, {"sku": "B-2002", "count": 1, "price": 99}])),
        ("preferences", json!({"theme": "dark", "per_page": 50, "newsletter": false, "zone": "Europe/London"})),
    ]
}
