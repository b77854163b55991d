//! The examples, visited over HTTP: the same shop on each framework.

use std::collections::BTreeSet;
use std::net::TcpListener;

use cloakroom::{Sessions, Settings};

#[allow(dead_code, unreachable_pub)]
#[path = "../examples/actix.rs"]
mod on_actix;
#[allow(dead_code, unreachable_pub)]
#[path = "../examples/axum.rs"]
mod on_axum;

/// A server on a free port, until the test ends.
struct Server(String);

fn listen() -> (TcpListener, Server) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = Server(format!("http://{}", listener.local_addr().unwrap()));
    (listener, server)
}

fn axum(settings: Settings) -> Server {
    let (listener, server) = listen();
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async move {
            let sessions = Sessions::from_settings(settings).await.unwrap();
            listener.set_nonblocking(true).unwrap();
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, on_axum::shop(&sessions)).await.unwrap();
        });
    });
    server
}

fn actix(settings: Settings) -> Server {
    use actix_web::{App, HttpServer, rt::System};

    let (listener, server) = listen();
    std::thread::spawn(|| {
        System::new().block_on(async move {
            let sessions = Sessions::from_settings(settings).await.unwrap();
            let app = move || App::new().configure(on_actix::shop).wrap(sessions.actix_middleware());
            HttpServer::new(app).workers(2).disable_signals().listen(listener).unwrap().run().await.unwrap();
        });
    });
    server
}

/// A browser: it keeps the session's cookie.
#[derive(Clone, Default)]
struct Browser {
    key: Option<String>,
}

/// What came back: status, body, and the `Set-Cookie` lines.
struct Page {
    status: u16,
    text: String,
    cookies: Vec<String>,
}

impl Browser {
    fn get(&mut self, server: &Server, path: &str) -> Page {
        self.send(server, "GET", path)
    }

    fn post(&mut self, server: &Server, path: &str) -> Page {
        self.send(server, "POST", path)
    }

    fn send(&mut self, server: &Server, method: &str, path: &str) -> Page {
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", server.0));
        if let Some(key) = &self.key {
            request = request.header("cookie", format!("sessionid={key}"));
        }
        let config = ureq::Agent::config_builder().http_status_as_error(false).max_redirects(0).build();
        let agent = ureq::Agent::new_with_config(config);
        let mut response = agent.run(request.body(()).unwrap()).unwrap();
        let cookies = response.headers().get_all("set-cookie").iter();
        let cookies: Vec<_> = cookies.map(|cookie| cookie.to_str().unwrap().to_owned()).collect();
        for cookie in &cookies {
            let value = cookie.strip_prefix("sessionid=").unwrap().split(';').next().unwrap();
            self.key = (value != "\"\"").then(|| value.to_owned());
        }
        Page { status: response.status().as_u16(), text: response.body_mut().read_to_string().unwrap(), cookies }
    }
}

fn in_memory() -> Settings {
    Settings::builder().secret_key("of a test").set("SESSION_ENGINE", "cache").build().unwrap()
}

fn visit(shop: &Server) {
    let mut ada = Browser::default();
    assert_eq!(ada.get(shop, "/cart").text, "In your cart: nothing.\n");
    assert_eq!(ada.key, None, "nothing is kept of who only looks");
    assert_eq!(ada.get(shop, "/").text, "Welcome. This is visit 1.\n");
    assert_eq!(ada.get(shop, "/").text, "Welcome. This is visit 2.\n");
    assert_eq!(Browser::default().get(shop, "/").text, "Welcome. This is visit 1.\n");
    assert_eq!(ada.post(shop, "/cart/tea").text, "In your cart: tea.\n");
    assert_eq!(ada.post(shop, "/cart/honey").text, "In your cart: tea, honey.\n");

    let mut thief = ada.clone();
    let login = ada.post(shop, "/login/ada");
    assert_eq!((login.status, login.text.as_str(), login.cookies.len()), (200, "Hello, ada.\n", 1));
    assert_ne!(ada.key, thief.key, "the key from before the login still is the session's");
    assert_eq!(thief.get(shop, "/cart").text, "In your cart: nothing.\n");
    assert_eq!(thief.key, None);
    assert_eq!(ada.get(shop, "/").text, "Welcome back, ada. This is visit 3.\n");
    assert_eq!(ada.get(shop, "/cart").text, "In your cart: tea, honey.\n");

    assert_eq!(ada.post(shop, "/login/bob").text, "Hello, bob.\n");
    assert_eq!(ada.get(shop, "/cart").text, "In your cart: nothing.\n", "bob gets what ada put there");
    let mut left_open = ada.clone();
    let logout = ada.post(shop, "/logout");
    assert_eq!((logout.text.as_str(), logout.cookies.len(), &ada.key), ("Goodbye.\n", 1, &None));
    assert_eq!(left_open.get(shop, "/").text, "Welcome. This is visit 1.\n", "the session lives on after the logout");
    assert_eq!(ada.get(shop, "/nowhere").status, 404);
}

fn fill_a_cart_at_once(shop: &Server) {
    let mut visitor = Browser::default();
    visitor.get(shop, "/");
    std::thread::scope(|scope| {
        for worker in 0..8 {
            let mut visitor = visitor.clone();
            scope.spawn(move || {
                for item in 0..5 {
                    assert_eq!(visitor.post(shop, &format!("/cart/{worker}-{item}")).status, 200);
                }
            });
        }
    });
    let page = visitor.get(shop, "/cart").text;
    let items = page.trim_start_matches("In your cart: ").trim_end_matches(".\n").split(", ");
    let wanted = (0..8).flat_map(|worker| (0..5).map(move |item| format!("{worker}-{item}")));
    assert_eq!(items.map(str::to_owned).collect::<BTreeSet<_>>(), wanted.collect());
}

#[test]
fn the_shop_on_axum() {
    let shop = axum(in_memory());
    visit(&shop);
    fill_a_cart_at_once(&shop);
}

#[test]
fn the_shop_on_actix() {
    let shop = actix(in_memory());
    visit(&shop);
    fill_a_cart_at_once(&shop);
}

/// Two programs on one database: a visitor goes from the one to the other and is the same.
#[cfg(feature = "sqlite")]
#[test]
fn both_frameworks_share_a_session() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", directory.path().join("shop.sqlite3").display());
    let settings = || Settings::builder().secret_key("of a test").database_url(url.as_str()).build().unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let store = cloakroom::open_database(&settings(), true, cloakroom::Clock::system()).await.unwrap();
        store.migrate().await.unwrap();
    });
    let (axum, actix) = (axum(settings()), actix(settings()));
    let mut ada = Browser::default();
    assert_eq!(ada.get(&axum, "/").text, "Welcome. This is visit 1.\n");
    assert_eq!(ada.get(&actix, "/").text, "Welcome. This is visit 2.\n");
    assert_eq!(ada.post(&actix, "/cart/tea").text, "In your cart: tea.\n");
    assert_eq!(ada.post(&axum, "/login/ada").text, "Hello, ada.\n");
    assert_eq!(ada.get(&actix, "/").text, "Welcome back, ada. This is visit 3.\n");
    assert_eq!(ada.post(&actix, "/logout").text, "Goodbye.\n");
    assert_eq!(ada.get(&axum, "/cart").text, "In your cart: nothing.\n");
}
