//! The inspector: an operator in one browser, a user in another.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::json;

use crate::chromium::{Browser, Kind};
use crate::site::Site;

const SCRIPT: &str = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>";

/// A browser that has signed in as a user of the site, with an item in the session.
async fn signed_in(site: &Site, user: &str, item: &str) -> Option<Browser> {
    let browser = Browser::open(Kind::default()).await?;
    browser.go(&site.url(&format!("/login?u={user}"))).await;
    let value = json!(item).to_string().bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    browser.go(&site.url(&format!("/set?k=item&v={value}"))).await;
    Some(browser)
}

/// Visits a page as somebody new.
fn visit(site: &Site, path: &str) {
    let address = site.url("");
    let mut stream = TcpStream::connect(address.trim_start_matches("http://")).expect("the site listens");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: site\r\nConnection: close\r\n\r\n").expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
}

#[tokio::test]
async fn a_user_is_signed_out_while_active_in_another_browser() {
    let site = Site::start(&[]);
    let Some(user) = signed_in(&site, "7", "x").await else { return };
    let other = signed_in(&site, "8", "x").await.expect("a browser");
    let operator = Browser::open(Kind::default()).await.expect("a browser");
    operator.go(&site.url("/inspector")).await;
    assert_eq!(operator.count(".sessions tbody tr").await, 2);
    assert_eq!(operator.text("nav [aria-current]").await, "Inspector");
    operator.fill("[name=user]", "7").await;
    operator.choose("[name=show]", "live").await;
    operator.press(".filters button").await;
    assert_eq!(operator.count(".sessions tbody tr").await, 1);
    operator.press(".sessions tbody th a").await;
    let shown = operator.text("main").await;
    assert!(shown.contains("_auth_user_id") && shown.contains("live"), "{shown}");
    operator.picture("inspector-session").await;

    // The key is nowhere: not on the page, not in its address.
    user.go(&site.url("/all")).await;
    let all = user.text("body").await;
    let key = all.split("\"key\":\"").nth(1).expect("a key").split('"').next().expect("a key").to_owned();
    let here = operator.script("return location.href + document.documentElement.outerHTML").await.to_string();
    assert!(here.contains(&key[..4]) && !here.contains(&key[..5]), "{here}");

    operator.press("a[href$='/revoke']").await;
    operator.picture("inspector-revoke").await;
    user.go(&site.url("/whoami")).await;
    assert!(user.text("body").await.contains(r#""user":"7""#), "asking is not revoking");
    operator.press("form[action$='/revoke'] button").await;
    assert!(operator.text(".notice").await.starts_with("The session was revoked"));
    user.go(&site.url("/whoami")).await;
    assert!(user.text("body").await.contains(r#""user":null"#), "the user is still signed in");
    other.go(&site.url("/whoami")).await;
    assert!(other.text("body").await.contains(r#""user":"8""#), "another user was signed out");

    // All of a user, who is back.
    user.go(&site.url("/login?u=8")).await;
    operator.go(&site.url("/inspector?user=8")).await;
    assert_eq!(operator.count(".sessions tbody tr").await, 2);
    operator.press("form[action$='/user/revoke'] button").await;
    operator.press("form[action$='/user/revoke'] button").await;
    assert!(operator.text(".notice").await.starts_with("2 sessions were revoked"));
    for browser in [user, other] {
        browser.go(&site.url("/whoami")).await;
        assert!(browser.text("body").await.contains(r#""user":null"#));
        browser.close().await;
    }
    // Looking has made no session for the operator.
    operator.go(&site.url("/inspector")).await;
    assert_eq!(operator.count(".sessions tbody tr").await, 0);
    operator.close().await;
}

#[tokio::test]
async fn what_is_stored_is_text_on_every_page() {
    let site = Site::start(&[]);
    let Some(user) = signed_in(&site, "%3Cscript%3Ewindow.hacked%20=%201%3C/script%3E", SCRIPT).await else { return };
    user.go(&site.url("/inspector")).await;
    let pages = user.script("return [...document.querySelectorAll('.tabs a, .sessions a')].map(a => a.href)").await;
    let mut pages: Vec<String> = serde_json::from_value(pages).expect("addresses");
    pages.push(format!("{}/revoke", pages.last().expect("a session")));
    assert_eq!(pages.len(), 4);
    for page in pages {
        user.go(&page).await;
        let found =
            user.script("return [window.hacked === undefined, document.scripts.length, document.images.length]");
        assert_eq!(found.await, json!([true, 0, 0]), "{page}");
    }
    user.go(&site.url("/inspector")).await;
    user.press(".sessions tbody th a").await;
    assert!(user.text(".data-items").await.contains("<script>window.hacked = 1</script>"));
    user.picture("inspector-markup").await;
    user.close().await;
}

#[tokio::test]
async fn the_inspector_needs_no_script() {
    let site = Site::start(&[]);
    visit(&site, "/login?u=7");
    visit(&site, "/login?u=8");
    let Some(browser) = Browser::open(Kind { without_script: true, ..Kind::default() }).await else { return };
    browser.go(&site.url("/inspector/stats")).await;
    assert!(browser.text(".facts").await.contains("2, 2 of them with a user"));
    browser.press(".tabs li:first-child a").await;
    browser.fill("[name=user]", "7").await;
    browser.press(".filters button").await;
    browser.press(".sessions tbody th a").await;
    browser.press("a[href$='/revoke']").await;
    browser.press("form[action$='/revoke'] button").await;
    assert!(browser.text(".notice").await.starts_with("The session was revoked"));
    assert_eq!(browser.count(".sessions tbody tr").await, 1);
    browser.close().await;
}

#[tokio::test]
async fn the_inspector_fits_a_phone() {
    let site = Site::start(&[]);
    visit(&site, &format!("/set?k={}&v=%22{}%22", "wide".repeat(20), "wide".repeat(200)));
    visit(&site, &format!("/login?u={}", "7".repeat(50)));
    let Some(browser) = Browser::open(Kind { phone: true, ..Kind::default() }).await else { return };
    let fits = async |name: &str| {
        let script = "return [innerWidth, document.documentElement.scrollWidth,
            [...document.body.querySelectorAll('*')].filter(e => e.checkVisibility() && !e.closest('.said, .skip')
                && e.getBoundingClientRect().right > innerWidth + 0.5).map(e => e.outerHTML.slice(0, 200))]";
        assert_eq!(browser.script(script).await, json!([360, 360, []]), "{name}");
        browser.picture(name).await;
    };
    browser.go(&site.url(&format!("/inspector?user={}", "7".repeat(50)))).await;
    fits("phone-inspector-user").await;
    browser.go(&site.url("/inspector")).await;
    fits("phone-inspector").await;
    browser.go(&site.url("/inspector/stats")).await;
    fits("phone-inspector-stats").await;
    for place in 1..=2 {
        browser.go(&site.url("/inspector")).await;
        browser.press(&format!(".sessions tbody tr:nth-child({place}) th a")).await;
        fits(&format!("phone-inspector-session-{place}")).await;
    }
    browser.press("a[href$='/revoke']").await;
    fits("phone-inspector-revoke").await;
    browser.press("form[action$='/revoke'] button").await;
    assert!(browser.text(".notice").await.starts_with("The session was revoked"));
    browser.close().await;
}

#[tokio::test]
async fn the_inspector_is_dark_in_the_dark_and_loads_nothing_from_elsewhere() {
    for (dark, name) in [(true, "dark"), (false, "light")] {
        let Some(browser) = Browser::open(Kind { dark, ..Kind::default() }).await else { return };
        let site = Site::start(&[]);
        for path in ["/login?u=7", "/login?u=42", "/login?u=7", "/login?u=1815", "/incr?k=visits", "/bulk?n=3&size=900"]
        {
            visit(&site, path);
        }
        for seconds in [900, 14_400, 50_000, 200_000, 500_000] {
            visit(&site, &format!("/expiry?s={seconds}"));
        }
        browser.resize(1280, 820).await;
        for (path, page) in [("/inspector", "inspector"), ("/inspector/stats", "inspector-stats")] {
            browser.go(&site.url(path)).await;
            let brightness = "const sum = p => getComputedStyle(document.body)[p].match(/\\d+/g).slice(0, 3).reduce((a, b) => a + +b, 0);
                return sum('color') > sum('backgroundColor')";
            assert_eq!(browser.script(brightness).await, json!(dark), "{path}");
            let loaded =
                "return performance.getEntriesByType('resource').map(e => new URL(e.name).origin === location.origin)";
            assert_eq!(browser.script(loaded).await, json!([true, true]), "{path}: the two stylesheets");
            browser.picture(&format!("{name}-{page}")).await;
        }
        browser.close().await;
    }
}
