//! How the pages look and are used: on a phone, in the dark, by keyboard, without a script, with markup for data.

use serde_json::json;

use crate::chromium::{Browser, Kind};
use crate::site::Site;

const MARKUP: &str = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>";
const TAB: char = '\u{e004}';
const ENTER: char = '\u{e007}';

#[tokio::test]
async fn a_value_with_a_script_is_text() {
    let Some(browser) = Browser::open(Kind::default()).await else { return };
    let site = Site::start(&[]);
    browser.go(&site.url("/")).await;
    for engine in ["db", "cached_db", "cache", "file", "signed_cookies"] {
        browser.click("#settings summary").await;
        browser.choose("[name=engine]", engine).await;
        browser.fill("[name=key]", MARKUP).await;
        browser.fill("[name=value]", MARKUP).await;
        browser.press("[formaction='/steps/settings/run']").await;
        for step in 1..=7 {
            browser.go(&site.url(&format!("/?step={step}"))).await;
            let found =
                browser.script("return [window.hacked === undefined, document.scripts.length, document.images.length]");
            assert_eq!(found.await, json!([true, 0, 0]), "{engine}, step {step}");
        }
        assert!(browser.text("#step-5 td:nth-of-type(3)").await.contains(MARKUP), "{engine}");
    }
    browser.picture("markup").await;
    // A route that prints what is stored says that it is no page.
    browser.go(&site.url("/set?k=x&v=%22%3Cscript%3Ewindow.hacked=1%3C/script%3E%22")).await;
    browser.go(&site.url("/all")).await;
    let found = browser.script("return [window.hacked === undefined, document.scripts.length, document.contentType]");
    assert_eq!(found.await, json!([true, 0, "application/json"]));
    browser.close().await;
}

#[tokio::test]
async fn everything_works_without_script() {
    let Some(browser) = Browser::open(Kind { without_script: true, ..Kind::default() }).await else { return };
    browser.go("data:text/html,<title>off</title><script>document.title='on'</script>").await;
    assert!(browser.source().await.contains("<title>off</title>"), "scripts are on in this browser");
    let site = Site::start(&[]);
    browser.go(&site.url("/")).await;
    browser.press("form[action='/steps/all'] button").await;
    assert_eq!(browser.count("#step-7.present").await, 1);
    assert_eq!(browser.count(".failure").await, 0);
    browser.press("form[action='/steps/again'] button").await;
    browser.press("form[action='/steps/next'] button").await;
    assert_eq!(browser.count("#step-1.present").await, 1);
    browser.go(&site.url("/practice")).await;
    browser.click(".choice:nth-of-type(1) input").await;
    browser.press("form[action='/practice/answer'] button").await;
    assert!(browser.text(".question .notice").await.starts_with("Right."));
    browser.press("form[action='/practice/proof'] button").await;
    assert!(browser.text("#proof").await.contains("key is value"));
    browser.close().await;
}

#[tokio::test]
async fn a_phone_scrolls_in_one_direction_only() {
    let Some(browser) = Browser::open(Kind { phone: true, ..Kind::default() }).await else { return };
    let site = Site::start(&[]);
    let fits = async |name: &str| {
        // An element that sticks out, though the page may hide it.
        let script = "return [innerWidth, document.documentElement.scrollWidth,
            [...document.body.querySelectorAll('*')].filter(e => e.checkVisibility() && !e.closest('.said, .skip')
                && e.getBoundingClientRect().right > innerWidth + 0.5).map(e => e.outerHTML.slice(0, 200))]";
        assert_eq!(browser.script(script).await, json!([360, 360, []]), "{name}");
        browser.picture(name).await;
    };
    browser.go(&site.url("/")).await;
    fits("phone-start").await;
    browser.click("#settings summary").await;
    fits("phone-settings").await;
    browser.choose("[name=engine]", "cached_db").await;
    browser.fill("[name=value]", &"x".repeat(400)).await;
    browser.press("[formaction='/steps/settings/run']").await;
    for step in 1..=7 {
        browser.go(&site.url(&format!("/?step={step}#step-{step}"))).await;
        fits(&format!("phone-step-{step}")).await;
    }
    browser.go(&site.url("/practice")).await;
    fits("phone-practice").await;
    browser.click(".choice:nth-of-type(2) input").await;
    browser.press("form[action='/practice/answer'] button").await;
    browser.press("form[action='/practice/proof'] button").await;
    fits("phone-proof").await;
    browser.go(&site.url("/routes")).await;
    fits("phone-routes").await;
    browser.close().await;
}

#[tokio::test]
async fn the_dark_scheme_is_dark_and_the_light_one_light() {
    for (dark, name) in [(true, "dark"), (false, "light")] {
        let Some(browser) = Browser::open(Kind { dark, ..Kind::default() }).await else { return };
        let site = Site::start(&[]);
        browser.go(&site.url("/")).await;
        for _ in 0..4 {
            browser.press("form[action='/steps/next'] button").await;
        }
        browser.go(&site.url("/?step=4")).await;
        let brightness = "const sum = p => getComputedStyle(document.body)[p].match(/\\d+/g).slice(0, 3).reduce((a, b) => a + +b, 0);
            return sum('color') > sum('backgroundColor')";
        assert_eq!(browser.script(brightness).await, json!(dark));
        browser.resize(1280, 1500).await;
        browser.picture(&format!("{name}-steps")).await;
        browser.go(&site.url("/?step=4#evidence")).await;
        browser.picture(&format!("{name}-evidence")).await;
        browser.go(&site.url("/routes")).await;
        browser.picture(&format!("{name}-routes")).await;
        browser.close().await;
    }
}

#[tokio::test]
async fn the_keyboard_is_enough_and_nothing_comes_from_elsewhere() {
    let Some(browser) = Browser::open(Kind::default()).await else { return };
    let site = Site::start(&[]);
    browser.go(&site.url("/")).await;
    browser.key(TAB).await;
    assert_eq!(browser.focused().await, "Skip to the content");
    for step in 1..=3 {
        let wanted = format!("Next step: {step}");
        for _ in 0..30 {
            if browser.focused().await == wanted {
                break;
            }
            browser.key(TAB).await;
        }
        assert_eq!(browser.focused().await, wanted);
        browser.press_key(ENTER).await;
        assert_eq!(browser.count(&format!("#step-{step}.present")).await, 1);
    }
    for page in ["/", "/practice", "/routes"] {
        browser.go(&site.url(page)).await;
        let loaded =
            browser.script("return performance.getEntriesByType('resource').map(e => new URL(e.name).origin)").await;
        let here = browser.script("return location.origin").await;
        let loaded = loaded.as_array().expect("a list").clone();
        assert!(!loaded.is_empty() && loaded.iter().all(|origin| *origin == here), "{page}: {loaded:?}");
    }
    browser.close().await;
}
