//! The live trace.

use serde_json::json;

use crate::chromium::{Browser, Kind};
use crate::site::Site;

const TAB: char = '\u{e004}';
const ENTER: char = '\u{e007}';

fn site() -> Site {
    Site::start_with(&["--trace"], &[])
}

/// Whether nothing sticks out of a window that is 360 pixels wide.
async fn fits(browser: &Browser) {
    let script = "return [innerWidth, document.documentElement.scrollWidth,
        [...document.body.querySelectorAll('*')].filter(e => e.checkVisibility() && !e.closest('.skip')
            && e.getBoundingClientRect().right > innerWidth + 0.5).map(e => e.outerHTML.slice(0, 200))]";
    assert_eq!(browser.script(script).await, json!([360, 360, []]));
}

#[tokio::test]
async fn the_steps_of_another_client_arrive_as_they_happen() {
    let Some(browser) = Browser::open(Kind::default()).await else { return };
    let mut site = site();
    browser.go(&site.url("/trace")).await;
    browser.until("#state", "Live.").await;
    assert_eq!(browser.count("#requests > li").await, 0);
    let first = site.visit("/incr?k=visits", "");
    for step in ["GET /incr 200", "load: no key", "change: updated", "item=visits", "bytes=1", "save: create"] {
        browser.until("#request-1", step).await;
    }
    let second = site.visit("/set?k=%3Cscript%3Ewindow.hacked=1%3C/script%3E&v=%22hidden%22", &first);
    let told = browser.until("#requests > li:first-child", "GET /set 200").await;
    assert!(told.contains("item=<script>window.hacked=1</script>") && told.contains("save: replace"), "{told}");
    site.visit("/cycle", &second);
    browser.until("#request-3", "save: rotated").await;
    site.visit("/noop", "");
    browser.until("#request-4", "GET /noop 200").await;
    browser.picture("trace").await;
    let shown = browser.text("#requests").await;
    let key = first.strip_prefix("sessionid=").expect("a session");
    assert!(shown.contains(&key[..4]) && !shown.contains(&key[..5]) && !shown.contains("hidden"), "{shown}");
    assert_eq!(browser.script("return window.hacked === undefined").await, json!(true));

    // A session is chosen by its key, wherever that stands.
    browser.press("#request-1 a").await;
    browser.until("#state", "Live.").await;
    assert_eq!(browser.count("#requests > li").await, 3, "the one that has no session is not among them");
    site.visit("/set?k=of_another&v=1", "");
    site.visit("/set?k=of_the_first&v=1", &first);
    // Its key was changed, so the old one finds nothing: and that is told.
    let told = browser.until("#requests > li:first-child", "GET /set 200").await;
    assert!(told.contains("load: miss") && told.contains("of_the_first"), "{told}");
    assert!(!browser.text("#requests").await.contains("of_another"));
    browser.picture("trace-one-session").await;

    // An open stream does not keep the site from stopping.
    site.stop();
    browser.until("#state", "Not live").await;
    browser.close().await;
}

#[tokio::test]
async fn ones_own_session_can_be_watched_by_keyboard_and_the_stream_paused() {
    let Some(browser) = Browser::open(Kind::default()).await else { return };
    let site = site();
    browser.go(&site.url("/trace")).await;
    browser.choose("[name=of]", "browser").await;
    browser.press(".choice-of .primary").await;
    browser.until("#state", "Live.").await;
    // In another tab of this browser, as it were.
    let visit = "return fetch('/incr?k=of_this_browser').then(answer => answer.status)";
    assert_eq!(browser.script(visit).await, json!(200));
    site.visit("/incr?k=of_another", "");
    browser.until("#requests", "of_this_browser").await;
    for _ in 0..30 {
        if browser.focused().await == "Pause" {
            break;
        }
        browser.key(TAB).await;
    }
    assert_eq!(browser.focused().await, "Pause");
    browser.key(ENTER).await;
    browser.until("#state", "Paused.").await;
    let before = browser.count("#requests > li").await;
    assert_eq!(browser.script(visit).await, json!(200));
    site.visit("/incr?k=of_another", "");
    assert_eq!(browser.count("#requests > li").await, before);
    browser.key(ENTER).await;
    browser.until("#requests > li:first-child", "load: hit").await;
    assert!(!browser.text("#requests").await.contains("of_another"));
    // Nothing comes from elsewhere, and a script that is not the page's own does not run.
    let loaded =
        "return performance.getEntriesByType('resource').every(e => new URL(e.name).origin === location.origin)";
    assert_eq!(browser.script(loaded).await, json!(true));
    let inline = "const s = document.createElement('script'); s.text = 'window.hacked = 1'; document.body.append(s);
        return window.hacked === undefined";
    assert_eq!(browser.script(inline).await, json!(true));
    browser.close().await;
}

#[tokio::test]
async fn without_a_script_a_reload_shows_what_happened() {
    let Some(browser) = Browser::open(Kind { without_script: true, ..Kind::default() }).await else { return };
    let site = site();
    browser.go(&site.url("/trace")).await;
    assert!(browser.text("#state").await.starts_with("Not live"));
    assert!(browser.text("#none").await.starts_with("No request yet"));
    site.visit("/incr?k=visits", "");
    browser.press(".buttons .button").await;
    let told = browser.text("#request-1").await;
    assert!(told.contains("GET /incr 200") && told.contains("item=visits") && told.contains("save: create"), "{told}");
    assert_eq!(browser.count("#pause[hidden]").await, 1);
    browser.picture("trace-without-script").await;
    browser.choose("[name=of]", "browser").await;
    browser.press(".choice-of .primary").await;
    assert_eq!(browser.count("#requests > li").await, 0, "that was another client");
    browser.close().await;
}

#[tokio::test]
async fn a_phone_shows_it_in_the_dark_too() {
    for dark in [false, true] {
        let Some(browser) = Browser::open(Kind { phone: true, dark, ..Kind::default() }).await else { return };
        let site = site();
        browser.go(&site.url("/trace")).await;
        browser.until("#state", "Live.").await;
        fits(&browser).await;
        let session = site.visit(&format!("/set?k={}&v=1", "long".repeat(50)), "");
        site.visit("/cycle", &session);
        browser.until("#request-2", "save: rotated").await;
        fits(&browser).await;
        browser.picture(if dark { "phone-trace-dark" } else { "phone-trace" }).await;
        browser.close().await;
    }
}

#[tokio::test]
async fn it_is_off_unless_asked_for() {
    let Some(browser) = Browser::open(Kind::default()).await else { return };
    let site = Site::start(&[]);
    browser.go(&site.url("/trace")).await;
    assert!(browser.text(".notice").await.contains("cloakroom serve --trace"));
    assert_eq!(browser.script("return document.scripts.length").await, json!(0));
    browser.close().await;
}
