//! Closing the browser and opening it again: a new process on the same profile.

use tempfile::TempDir;

use crate::chromium::{Browser, Kind};
use crate::site::Site;

/// Whether a session outlives the browser under these settings.
async fn outlives(settings: &[(&str, &str)]) -> Option<bool> {
    let profile = TempDir::with_prefix("cloakroom-profile-").unwrap();
    let browser = Browser::open_profile(Kind::default(), profile.path()).await?;
    let site = Site::start(settings);
    browser.go(&site.url("/set?k=color&v=%22blue%22")).await;
    browser.go(&site.url("/get?k=color")).await;
    assert_eq!(browser.text("body").await, "{\"found\":true,\"value\":\"blue\"}");
    browser.go(&site.url("/")).await;
    browser.press("form[action='/steps/next'] button").await;
    browser.close().await;

    let browser = Browser::open_profile(Kind::default(), profile.path()).await.expect("it was there before");
    browser.go(&site.url("/get?k=color")).await;
    let found = match browser.text("body").await.as_str() {
        "{\"found\":true,\"value\":\"blue\"}" => true,
        "{\"found\":false,\"value\":null}" => false,
        other => panic!("{other}"),
    };
    // The sandbox of the pages is found by the same session.
    browser.go(&site.url("/")).await;
    assert_eq!(
        browser.text("form[action='/steps/next'] button").await,
        if found { "Next step: 2" } else { "Next step: 1" }
    );
    browser.close().await;
    Some(found)
}

#[tokio::test]
async fn a_session_outlives_the_browser() {
    let Some(outlives) = outlives(&[("SESSION_COOKIE_AGE", "1209600")]).await else { return };
    assert!(outlives);
}

#[tokio::test]
async fn a_session_ends_with_the_browser_if_the_settings_say_so() {
    let Some(outlives) = outlives(&[("SESSION_EXPIRE_AT_BROWSER_CLOSE", "True")]).await else { return };
    assert!(!outlives);
}
