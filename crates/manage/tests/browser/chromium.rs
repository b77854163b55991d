//! A Chromium without a window, and what a visitor does with it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use fantoccini::elements::Element;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::Process;

/// How long to wait for what should take a moment. Only a hang gets this far: machines are shared.
const PATIENCE: Duration = Duration::from_secs(60);

/// What kind of browser it is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Kind {
    pub(crate) dark: bool,
    pub(crate) without_script: bool,
    /// A phone, 360 pixels wide.
    pub(crate) phone: bool,
}

/// A running browser. It ends with the test.
pub(crate) struct Browser {
    client: Client,
    // Dropped in this order: the driver with its browser, then the profile, unless it is the caller's.
    _driver: Process,
    _profile: Option<TempDir>,
}

/// The first of these programs that is in `PATH`.
fn find(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories: Vec<PathBuf> = std::env::split_paths(&path).collect();
    names
        .iter()
        .flat_map(|name| directories.iter().map(move |directory| directory.join(name)))
        .find(|path| path.is_file())
}

/// Chromium and its driver; or nothing, after saying which test is left out. With `CLOAKROOM_REQUIRE=all` a missing
/// program fails the test instead.
fn programs() -> Option<(PathBuf, PathBuf)> {
    let found =
        find(&["chromium", "chromium-browser", "google-chrome"]).zip(find(&["chromedriver", "chromium.chromedriver"]));
    if found.is_none() {
        let required = std::env::var("CLOAKROOM_REQUIRE").is_ok_and(|required| required == "all");
        assert!(!required, "Chromium or its driver is not installed, but CLOAKROOM_REQUIRE=all is set");
        let thread = std::thread::current();
        let test = thread.name().unwrap_or("a test").to_owned();
        // Past the test harness, which shows only what failed tests print.
        let _ = writeln!(std::io::stderr(), "left out: {test}, because Chromium or its driver is not installed");
    }
    found
}

impl Browser {
    /// Opens a browser with a fresh profile; nothing where none is installed.
    pub(crate) async fn open(kind: Kind) -> Option<Self> {
        let profile = TempDir::with_prefix("cloakroom-profile-").expect("a temporary directory");
        let browser = Self::open_profile(kind, profile.path()).await?;
        Some(Self { _profile: Some(profile), ..browser })
    }

    /// Opens a browser with a profile that may have been used before.
    pub(crate) async fn open_profile(kind: Kind, profile: &Path) -> Option<Self> {
        let (chromium, driver) = programs()?;
        let mut command = Command::new(driver);
        command.arg("--port=0");
        let (driver, port) = Process::start(&command, |line| {
            let (_, rest) = line.split_once("started successfully on port ")?;
            rest.trim_end_matches('.').parse::<u16>().ok()
        });
        let mut arguments = vec![
            "--headless=new".to_owned(),
            // As root it does not start otherwise; it visits nothing but our own site.
            "--no-sandbox".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--disable-quic".to_owned(),
            "--no-first-run".to_owned(),
            "--disable-background-networking".to_owned(),
            "--disable-component-update".to_owned(),
            "--disable-sync".to_owned(),
            "--hide-scrollbars".to_owned(),
            "--lang=en-GB".to_owned(),
            "--window-size=1280,960".to_owned(),
            format!("--user-data-dir={}", profile.display()),
        ];
        if kind.dark {
            arguments.push("--blink-settings=preferredColorScheme=0".to_owned());
        }
        let mut options = json!({ "binary": chromium, "args": arguments });
        if kind.without_script {
            options["prefs"] = json!({ "profile.managed_default_content_settings.javascript": 2 });
        }
        if kind.phone {
            options["mobileEmulation"] = json!({ "deviceMetrics": { "width": 360, "height": 780, "pixelRatio": 1.0 } });
        }
        let Value::Object(capabilities) = json!({ "browserName": "chrome", "goog:chromeOptions": options }) else {
            unreachable!("an object was written")
        };
        let mut builder = ClientBuilder::new(HttpConnector::new());
        let client = builder.capabilities(capabilities).connect(&format!("http://127.0.0.1:{port}")).await;
        Some(Self { client: client.expect("a browser"), _driver: driver, _profile: None })
    }

    /// Closes the browser, as a visitor does.
    pub(crate) async fn close(self) {
        self.client.close().await.expect("a browser that closes");
    }

    pub(crate) async fn go(&self, address: &str) {
        self.client.goto(address).await.expect("a page");
    }

    /// The element of a selector, as soon as it is there.
    pub(crate) async fn find(&self, css: &str) -> Element {
        match self.client.wait().at_most(PATIENCE).for_element(Locator::Css(css)).await {
            Ok(element) => element,
            Err(error) => {
                let page = self.client.source().await.unwrap_or_default();
                panic!("{css}: {error}\n{page}");
            }
        }
    }

    /// How many elements there are.
    pub(crate) async fn count(&self, css: &str) -> usize {
        self.client.find_all(Locator::Css(css)).await.expect("a page").len()
    }

    /// What a visitor reads in an element.
    pub(crate) async fn text(&self, css: &str) -> String {
        self.find(css).await.text().await.expect("text")
    }

    /// Waits until an element says something, and gives all that it says.
    pub(crate) async fn until(&self, css: &str, text: &str) -> String {
        let begin = Instant::now();
        loop {
            let said = self.script(&format!("return document.querySelector({css:?})?.innerText ?? ''")).await;
            let said = said.as_str().unwrap_or_default();
            if said.contains(text) {
                return said.to_owned();
            }
            assert!(begin.elapsed() < PATIENCE, "{css} does not say {text}: {said}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Clicks what leads to another page, and waits for that.
    pub(crate) async fn press(&self, css: &str) {
        let element = self.in_sight(css).await;
        self.leave(element.click()).await;
    }

    /// Does what leads to another page, and waits for that: what a click begins goes on after it.
    async fn leave(&self, act: impl Future<Output = Result<(), fantoccini::error::CmdError>>) {
        let before = self.root().await;
        act.await.expect("it can be done");
        let begin = Instant::now();
        while self.root().await == before {
            assert!(begin.elapsed() < PATIENCE, "no other page came");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What stands for the present document.
    async fn root(&self) -> Option<String> {
        // In the moment between two documents there is none.
        let root = self.client.find(Locator::Css("html")).await.ok()?;
        Some(root.element_id().to_string())
    }

    /// Presses a key.
    pub(crate) async fn key(&self, key: char) {
        let focused = self.client.active_element().await.expect("something has the focus");
        focused.send_keys(&key.to_string()).await.expect("a key");
    }

    /// Presses a key that leads to another page.
    pub(crate) async fn press_key(&self, key: char) {
        let focused = self.client.active_element().await.expect("something has the focus");
        self.leave(focused.send_keys(&key.to_string())).await;
    }

    /// What the focused element says.
    pub(crate) async fn focused(&self) -> String {
        self.client.active_element().await.expect("something has the focus").text().await.expect("text")
    }

    /// Writes into a field instead of what is there.
    pub(crate) async fn fill(&self, css: &str, text: &str) {
        let field = self.find(css).await;
        field.clear().await.expect("a field");
        field.send_keys(text).await.expect("a field");
    }

    pub(crate) async fn choose(&self, css: &str, value: &str) {
        self.find(css).await.select_by_value(value).await.expect("a choice");
    }

    pub(crate) async fn click(&self, css: &str) {
        self.in_sight(css).await.click().await.expect("it can be clicked");
    }

    /// An element in the middle of the window: at its upper edge the bar of buttons would take the click.
    async fn in_sight(&self, css: &str) -> Element {
        let element = self.find(css).await;
        let this = serde_json::to_value(&element).expect("an element has a name");
        let moved = self.client.execute("arguments[0].scrollIntoView({ block: 'center' })", vec![this]).await;
        moved.expect("a script of ours runs, whatever the page may run");
        element
    }

    /// The result of a script.
    pub(crate) async fn script(&self, script: &str) -> Value {
        self.client.execute(script, Vec::new()).await.expect("a script")
    }

    pub(crate) async fn source(&self) -> String {
        self.client.source().await.expect("a page")
    }

    pub(crate) async fn resize(&self, width: u32, height: u32) {
        self.client.set_window_size(width, height).await.expect("a window");
    }

    /// Keeps a picture of what is seen.
    pub(crate) async fn picture(&self, name: &str) {
        let directory =
            Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target directory").join("screenshots");
        std::fs::create_dir_all(&directory).expect("a directory for pictures");
        let png = self.client.screenshot().await.expect("a picture");
        std::fs::write(directory.join(format!("{name}.png")), png).expect("a file");
    }
}
