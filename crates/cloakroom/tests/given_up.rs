//! Requests that do not come to their end, on real servers of both frameworks: the client goes away, the handler panics,
//! a time-out layer around ours gives up. Either all changes of the request are there afterwards, or none.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use cloakroom::core::engine::memory::MemoryStore;
use cloakroom::core::store::{Cleared, Created, Deleted, Replaced, Store, Stored, Touched, Version};
use cloakroom::{Clock, Error, Session, SessionKey, Sessions, Settings, Timestamp};
use tokio::sync::Semaphore;

/// A store that waits before an operation until the test lets it go on.
struct Gate {
    inner: MemoryStore,
    shut: Mutex<Option<&'static str>>,
    reached: Semaphore,
    opened: Semaphore,
}

impl Gate {
    async fn pass(&self, operation: &'static str) {
        let shut = self.shut.lock().unwrap().take_if(|shut| *shut == operation);
        if shut.is_some() {
            self.reached.add_permits(1);
            self.opened.acquire().await.unwrap().forget();
        }
    }
}

#[async_trait]
impl Store for Gate {
    async fn load(&self, key: &SessionKey) -> cloakroom_core::Result<Option<Stored>> {
        self.inner.load(key).await
    }

    async fn create(&self, key: &SessionKey, payload: Bytes, expiry: Timestamp) -> cloakroom_core::Result<Created> {
        self.pass("create").await;
        self.inner.create(key, payload, expiry).await
    }

    async fn replace(
        &self,
        key: &SessionKey,
        version: &Version,
        payload: Bytes,
        expiry: Timestamp,
    ) -> cloakroom_core::Result<Replaced> {
        self.pass("replace").await;
        self.inner.replace(key, version, payload, expiry).await
    }

    async fn touch(&self, key: &SessionKey, expiry: Timestamp) -> cloakroom_core::Result<Touched> {
        self.inner.touch(key, expiry).await
    }

    async fn delete(&self, key: &SessionKey, version: Option<&Version>) -> cloakroom_core::Result<Deleted> {
        self.pass("delete").await;
        self.inner.delete(key, version).await
    }

    async fn clear_expired(&self, batch: usize) -> cloakroom_core::Result<Cleared> {
        self.inner.clear_expired(batch).await
    }

    async fn list(&self, after: Option<&SessionKey>, limit: usize) -> cloakroom_core::Result<Vec<SessionKey>> {
        self.inner.list(after, limit).await
    }
}

/// What the test and the site tell each other.
struct Control {
    paused: Semaphore,
    go_on: Semaphore,
    time_is_over: Semaphore,
    /// How many requests have ended, one way or the other.
    over: Arc<AtomicUsize>,
}

/// Counts a request when it ends, even if that is by being dropped.
struct Over(Arc<AtomicUsize>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// What each page does to the session.
async fn act(page: &str, session: &Session, control: &Control) -> Result<(), Error> {
    let change = || {
        session.insert("a", &1)?;
        session.update("n", |n: Option<u64>| n.unwrap_or(0) + 1)?;
        session.insert("b", &1)
    };
    match page {
        "/change" => change()?,
        "/pause" => {
            change()?;
            control.paused.add_permits(1);
            control.go_on.acquire().await.unwrap().forget();
            session.insert("c", &1)?;
        }
        "/panic" => {
            change()?;
            session.cycle_key()?;
            panic!("a handler that panics, as this test wants it");
        }
        "/rotate" => {
            session.cycle_key()?;
            change()?;
        }
        "/flush" => session.flush(),
        "/restart" => {
            session.flush();
            change()?;
        }
        other => panic!("no page {other}"),
    }
    Ok(())
}

/// A server, and the end of the wire that the test has in its hand.
struct Site {
    address: String,
    store: Arc<Gate>,
    sessions: Sessions,
    control: Arc<Control>,
    runtime: tokio::runtime::Runtime,
}

impl Site {
    fn start(serve: fn(TcpListener, Sessions, Arc<Control>)) -> Self {
        let (shut, reached, opened) = (Mutex::new(None), Semaphore::new(0), Semaphore::new(0));
        let store = Arc::new(Gate { inner: MemoryStore::new(Clock::system()), shut, reached, opened });
        let settings = Settings::builder().secret_key("of a test").build().unwrap();
        let sessions = Sessions::with_store(settings, store.clone()).unwrap();
        let control = Arc::new(Control {
            paused: Semaphore::new(0),
            go_on: Semaphore::new(0),
            time_is_over: Semaphore::new(0),
            over: Arc::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (theirs, shared) = (sessions.clone(), Arc::clone(&control));
        std::thread::spawn(move || serve(listener, theirs, shared));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { address, store, sessions, control, runtime }
    }

    fn ask(&self, page: &str, key: Option<&SessionKey>) -> TcpStream {
        let cookie = key.map(|key| format!("Cookie: sessionid={}\r\n", key.as_str())).unwrap_or_default();
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        write!(stream, "GET {page} HTTP/1.1\r\nHost: site\r\n{cookie}Connection: close\r\n\r\n").unwrap();
        stream
    }

    fn get(&self, page: &str, key: Option<&SessionKey>) -> String {
        let mut reply = String::new();
        // A connection that breaks is an answer, too.
        let _ = self.ask(page, key).read_to_string(&mut reply);
        reply
    }

    /// Every session that stands, with its data.
    fn standing(&self) -> Vec<(SessionKey, String)> {
        self.runtime.block_on(async {
            let mut standing = Vec::new();
            for key in self.store.inner.list(None, 100).await.unwrap() {
                let cookie = format!("sessionid={}", key.as_str());
                let slot = self.sessions.exchange().open([cookie.as_bytes()].into_iter());
                standing.push((key, slot.load().await.unwrap().to_json()));
            }
            standing
        })
    }

    /// The only session there is.
    fn made(&self) -> SessionKey {
        assert!(self.get("/change", None).starts_with("HTTP/1.1 200"));
        let [(key, data)] = &self.standing()[..] else { panic!("one session") };
        assert_eq!(data, ONCE);
        key.clone()
    }

    fn wait(&self, what: &Semaphore) {
        let reached = async { tokio::time::timeout(Duration::from_secs(60), what.acquire()).await };
        self.runtime.block_on(reached).expect("nothing happens any more").unwrap().forget();
    }

    /// Waits until a request has ended, if it does so within a moment. actix-web lets handlers come to their end.
    fn is_over(&self, before: usize) -> bool {
        let begin = Instant::now();
        while self.control.over.load(Ordering::SeqCst) == before && begin.elapsed() < Duration::from_millis(500) {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.control.over.load(Ordering::SeqCst) > before
    }

    /// Waits until one session stands, with this data, under this key or under another one; or none at all.
    fn comes_to(&self, data: Option<&str>, key: &SessionKey, same: bool, case: &str) {
        let begin = Instant::now();
        loop {
            let standing = self.standing();
            let done = match (&standing[..], data) {
                ([], None) => true,
                ([(stands, holds)], Some(data)) => holds == data && (stands == key) == same,
                _ => false,
            };
            if done {
                return;
            }
            assert!(begin.elapsed() < Duration::from_secs(60), "{case}: {data:?} is due, and there is {standing:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

const ONCE: &str = r#"{"a":1,"n":1,"b":1}"#;
const TWICE: &str = r#"{"a":1,"n":2,"b":1}"#;

/// How a request ends before it is answered.
#[derive(Clone, Copy, Debug)]
enum End {
    ClientLeaves,
    TimeIsOver,
}

impl Site {
    /// Ends a request that is under way, and says whether it was dropped.
    fn end(&self, how: End, mut request: TcpStream) -> bool {
        let before = self.control.over.load(Ordering::SeqCst);
        match how {
            End::ClientLeaves => drop(request),
            End::TimeIsOver => {
                self.control.time_is_over.add_permits(1);
                let mut reply = String::new();
                request.read_to_string(&mut reply).unwrap();
                assert!(reply.starts_with("HTTP/1.1 504") && !reply.contains("sessionid"), "{reply}");
            }
        }
        self.is_over(before)
    }
}

/// The handler is under way: nothing of what it did is saved, unless the framework lets it go on to its end.
fn in_the_handler(serve: fn(TcpListener, Sessions, Arc<Control>)) {
    for how in [End::ClientLeaves, End::TimeIsOver] {
        let site = Site::start(serve);
        let key = site.made();
        let request = site.ask("/pause", Some(&key));
        site.wait(&site.control.paused);
        let dropped = site.end(how, request);
        site.control.go_on.add_permits(1);
        let expected = if dropped { ONCE } else { r#"{"a":1,"n":2,"b":1,"c":1}"# };
        site.comes_to(Some(expected), &key, true, &format!("{how:?}, dropped: {dropped}"));
        assert!(site.get("/change", Some(&key)).starts_with("HTTP/1.1 200"), "{how:?}");
    }
}

/// The session is being saved: what has begun is carried out whole, but for a rotation that nobody would learn of.
fn in_the_store(serve: fn(TcpListener, Sessions, Arc<Control>)) {
    for how in [End::ClientLeaves, End::TimeIsOver] {
        for (page, operation) in [
            ("/change", "replace"),
            ("/rotate", "create"),
            ("/rotate", "delete"),
            ("/flush", "delete"),
            ("/restart", "delete"),
            ("/restart", "create"),
        ] {
            let site = Site::start(serve);
            let key = site.made();
            *site.store.shut.lock().unwrap() = Some(operation);
            let request = site.ask(page, Some(&key));
            site.wait(&site.store.reached);
            let dropped = site.end(how, request);
            site.store.opened.add_permits(1);
            let (data, same) = match (page, operation) {
                ("/change", _) => (Some(TWICE), true),
                ("/rotate", "create") if dropped => (Some(ONCE), true),
                ("/rotate", _) => (Some(TWICE), false),
                ("/flush", _) => (None, true),
                _ => (Some(ONCE), false),
            };
            site.comes_to(data, &key, same, &format!("{how:?} before {operation} of {page}, dropped: {dropped}"));
            assert!(site.get("/change", Some(&key)).starts_with("HTTP/1.1 200"));
        }
    }
}

/// A handler that panics has changed nothing, and the next request finds everything in order.
fn in_a_panic(serve: fn(TcpListener, Sessions, Arc<Control>)) {
    let site = Site::start(serve);
    let key = site.made();
    let reply = site.get("/panic", Some(&key));
    assert!(!reply.contains("200 OK") && !reply.contains("sessionid"), "{reply}");
    site.comes_to(Some(ONCE), &key, true, "after a panic");
    assert!(site.get("/change", Some(&key)).starts_with("HTTP/1.1 200"));
    site.comes_to(Some(TWICE), &key, true, "after a panic and a change");
}

mod on_axum {
    use axum::Router;
    use axum::extract::{Request, State};
    use axum::http::{StatusCode, Uri};
    use axum::middleware::{Next, from_fn_with_state};
    use axum::response::{IntoResponse, Response};

    use super::*;

    async fn page(State(control): State<Arc<Control>>, uri: Uri, session: Session) -> Result<&'static str, Error> {
        act(uri.path(), &session, &control).await.map(|()| "done")
    }

    async fn time_limit(State(control): State<Arc<Control>>, request: Request, next: Next) -> Response {
        let _over = Over(Arc::clone(&control.over));
        tokio::select! {
            reply = next.run(request) => reply,
            over = control.time_is_over.acquire() => {
                over.unwrap().forget();
                StatusCode::GATEWAY_TIMEOUT.into_response()
            }
        }
    }

    fn serve(listener: TcpListener, sessions: Sessions, control: Arc<Control>) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async move {
            let router = Router::new().fallback(page).with_state(Arc::clone(&control)).layer(sessions.layer());
            listener.set_nonblocking(true).unwrap();
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, router.layer(from_fn_with_state(control, time_limit))).await.unwrap();
        });
    }

    #[test]
    fn a_request_given_up_in_its_handler_saves_nothing() {
        in_the_handler(serve);
    }

    #[test]
    fn a_request_given_up_while_it_is_saved_is_saved_whole() {
        in_the_store(serve);
    }

    #[test]
    fn a_handler_that_panics_saves_nothing() {
        in_a_panic(serve);
    }
}

mod on_actix {
    use actix_web::body::{BoxBody, MessageBody};
    use actix_web::dev::{ServiceRequest, ServiceResponse};
    use actix_web::middleware::{Next, from_fn};
    use actix_web::rt::System;
    use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};

    use super::*;

    async fn page(request: HttpRequest, session: Session, control: web::Data<Control>) -> Result<&'static str, Error> {
        act(request.path(), &session, &control).await.map(|()| "done")
    }

    async fn time_limit(
        control: web::Data<Control>,
        request: ServiceRequest,
        next: Next<impl MessageBody + 'static>,
    ) -> actix_web::Result<ServiceResponse<BoxBody>> {
        let _over = Over(Arc::clone(&control.over));
        let head = request.request().clone();
        tokio::select! {
            reply = next.call(request) => Ok(reply?.map_into_boxed_body()),
            over = control.time_is_over.acquire() => {
                over.unwrap().forget();
                Ok(ServiceResponse::new(head, HttpResponse::GatewayTimeout().finish()))
            }
        }
    }

    fn serve(listener: TcpListener, sessions: Sessions, control: Arc<Control>) {
        System::new().block_on(async move {
            let app = move || {
                let app = App::new().app_data(web::Data::from(Arc::clone(&control)));
                app.default_service(web::to(page)).wrap(sessions.actix_middleware()).wrap(from_fn(time_limit))
            };
            HttpServer::new(app).workers(2).disable_signals().listen(listener).unwrap().run().await.unwrap();
        });
    }

    #[test]
    fn a_request_given_up_in_its_handler_saves_nothing() {
        in_the_handler(serve);
    }

    #[test]
    fn a_request_given_up_while_it_is_saved_is_saved_whole() {
        in_the_store(serve);
    }

    #[test]
    fn a_handler_that_panics_saves_nothing() {
        in_a_panic(serve);
    }
}
