//! The walk through the steps, on every engine.

use crate::chromium::{Browser, Kind};
use crate::site::Site;

const SETTINGS: &str = "#settings form";
const STORED: &str = r#"{"color":"blue"}"#;

/// Chooses an engine, and what is to be kept in the session.
async fn choose(browser: &Browser, site: &Site, engine: &str) {
    browser.go(&site.url("/")).await;
    browser.click("#settings summary").await;
    browser.choose(&format!("{SETTINGS} [name=engine]"), engine).await;
    browser.fill(&format!("{SETTINGS} [name=key]"), "color").await;
    browser.fill(&format!("{SETTINGS} [name=value]"), "blue").await;
    browser.press(&format!("{SETTINGS} .primary")).await;
}

/// A cell of the table: 1 to 4 for what is done, the settings, the effect and the data.
async fn cell(browser: &Browser, step: usize, column: usize) -> String {
    browser.text(&format!("#step-{step} td:nth-of-type({column})")).await
}

async fn walk(engine: &str) {
    let Some(browser) = Browser::open(Kind::default()).await else { return };
    let mut site = Site::start(&[]);
    choose(&browser, &site, engine).await;
    assert_eq!(browser.text(".flow [aria-current] .station").await, "Start");
    for step in 1..=7 {
        browser.press("form[action='/steps/next'] button").await;
        assert_eq!(browser.count(&format!("#step-{step}.present")).await, 1, "{engine}, step {step}");
        assert_eq!(browser.count(".failed, .failure").await, 0, "{engine}, step {step}");
        let data = cell(&browser, step, 4).await;
        assert_eq!(data.contains(STORED), (4..=6).contains(&step), "{engine}, step {step}: {data}");
        assert!(cell(&browser, step, 2).await.contains("INSTALLED_APPS = [\"django.contrib.sessions\"]"));
        browser.picture(&format!("step-{step}-{engine}")).await;
    }
    assert_eq!(browser.count(".flow .done").await, 7, "{engine}");
    assert!(browser.text(".flow .done[aria-current] .station").await.starts_with("End"));
    assert!(!browser.find("form[action='/steps/next'] button").await.is_enabled().await.unwrap());

    // What really happened stands in the table.
    let migrated = cell(&browser, 3, 3).await;
    let has_table = matches!(engine, "db" | "cached_db");
    assert_eq!(migrated.contains("the table django_session was created"), has_table, "{migrated}");
    assert_eq!(migrated.contains("there is nothing to migrate"), !has_table, "{migrated}");
    let saved = cell(&browser, 4, 3).await;
    assert!(saved.contains("change: set") && saved.contains("item=color") && saved.contains("200 OK"), "{saved}");
    assert!(cell(&browser, 5, 3).await.contains("color is blue"));
    let persisted = cell(&browser, 6, 3).await;
    assert!(
        persisted.contains("color is blue") && persisted.contains("There is no color in your session."),
        "{persisted}"
    );
    assert!(!cell(&browser, 7, 3).await.contains("color is blue"));
    let variables = browser.text(".variables tbody tr:nth-child(5)").await;
    assert!(variables.starts_with("Step 4") && variables.contains(engine) && variables.contains(STORED), "{variables}");

    // And so does the evidence.
    browser.press("#step-4 td a").await;
    let evidence = browser.text("#evidence").await;
    for wanted in [
        "What happened in step 4",
        "POST /assign?key=color&value=blue HTTP/1.1",
        "set-cookie: sessionid=",
        "vary: Cookie",
        "session.insert(&item.key, &item.value)?;",
        "INSTALLED_APPS = [\"django.contrib.sessions\"]",
    ] {
        assert!(evidence.contains(wanted), "{engine}: {wanted}: {evidence}");
    }
    let place = match engine {
        "db" | "cached_db" => "FROM django_session",
        "cache" => "The cache in the site's process",
        "file" => "The directory ",
        _ => "the server keeps nothing",
    };
    let stored = browser.text(".shelf").await;
    assert!(stored.contains(place) && stored.contains(STORED), "{engine}: {stored}");
    assert_eq!(browser.count(".shelf").await, if engine == "cached_db" { 2 } else { 1 });
    browser.picture(&format!("evidence-{engine}")).await;

    // Cleared instead of expired.
    browser.press("button[formaction='/steps/take/assign']").await;
    browser.press("button[formaction='/steps/take/clear']").await;
    let cleared = cell(&browser, 7, 3).await;
    assert!(cleared.contains("Goodbye.") && cleared.contains("The browser drops sessionid."), "{cleared}");

    browser.press("form[action='/steps/again'] button").await;
    assert_eq!(browser.count("#steps .present").await, 0);
    assert_eq!(site.sandboxes(), 1, "starting again leaves the old sandbox behind");
    site.stop();
    assert_eq!(site.sandboxes(), 0, "the end of the site leaves a sandbox behind");
    browser.close().await;
}

macro_rules! on_each_engine {
    ($($engine:ident),+) => { $(#[tokio::test] async fn $engine() { walk(stringify!($engine)).await; })+ };
}

on_each_engine!(db, cached_db, cache, file, signed_cookies);

#[tokio::test]
async fn steps_out_of_order_show_the_real_errors() {
    let Some(browser) = Browser::open(Kind::default()).await else { return };
    let site = Site::start(&[]);
    browser.go(&site.url("/")).await;
    let assign = "button[formaction='/steps/take/assign']";
    browser.press(assign).await;
    assert!(cell(&browser, 4, 3).await.contains("sessions are switched off: INSTALLED_APPS names neither"));
    assert!(browser.text(".flow .failed[aria-current] .station").await.starts_with("Use the session in views"));
    browser.press("button[formaction='/steps/take/switch-on']").await;
    browser.press(assign).await;
    let said = cell(&browser, 4, 3).await;
    assert!(said.contains("no such table: django_session") && said.contains("run `cloakroom migrate`"), "{said}");
    browser.picture("out-of-order").await;
    browser.press("form[action='/steps/all'] button").await;
    assert_eq!(browser.count(".failure").await, 0);

    browser.click("#settings summary").await;
    browser.choose("[name=engine]", "file").await;
    browser.click("[name=missing]").await;
    browser.press("[formaction='/steps/settings/run']").await;
    for step in [2, 4] {
        let said = cell(&browser, step, 3).await;
        assert!(said.contains("SESSION_FILE_PATH") && said.contains("does not exist; create it"), "{said}");
    }
    browser.close().await;
}

#[tokio::test]
async fn the_form_shows_what_the_settings_say() {
    let Some(browser) = Browser::open(Kind::default()).await else { return };
    let site = Site::start(&[("SESSION_ENGINE", "signed_cookies")]);
    browser.go(&site.url("/")).await;
    browser.click("#settings summary").await;
    browser.fill("[name=age]", "two weeks").await;
    browser.fill("[name=name]", "my ticket").await;
    browser.press("#settings form .primary").await;
    let said = browser.text("#settings .notice").await;
    for wanted in [
        "2 problems",
        "SESSION_COOKIE_AGE = \"two weeks\"",
        "SESSION_COOKIE_NAME = \"my ticket\"",
        "1209600 for two weeks",
    ] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    // What was typed is still there, to be mended.
    assert_eq!(browser.find("[name=age]").await.prop("value").await.unwrap().as_deref(), Some("two weeks"));
    browser.picture("settings-refused").await;
    browser.fill("[name=age]", "3600").await;
    browser.fill("[name=name]", "ticket").await;
    browser.choose("[name=same_site]", "Strict").await;
    browser.click("[name=at_close]").await;
    browser.press("[formaction='/steps/settings/run']").await;
    browser.press("#step-4 td a").await;
    let evidence = browser.text("#evidence").await;
    assert!(evidence.contains("set-cookie: ticket=") && evidence.contains("SameSite=Strict"), "{evidence}");
    assert!(
        evidence.contains("The browser keeps ticket until it is closed.") && !evidence.contains("Max-Age"),
        "{evidence}"
    );
    browser.press("button[formaction='/steps/take/assign']").await;
    browser.press("button[formaction='/steps/take/reopen']").await;
    assert!(cell(&browser, 6, 3).await.contains("ticket ended with the browser."));
    browser.close().await;
}
