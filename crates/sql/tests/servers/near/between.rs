//! What stands between a near cache and its server: it sees what is sent, and can hold back what is told.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A proxy to a server. It ends with its runtime.
pub(super) struct Between {
    port: u16,
    state: Arc<State>,
}

struct State {
    server: u16,
    requests: Mutex<Vec<String>>,
    /// Nothing comes from the server on connections that listen.
    held_back: watch::Sender<bool>,
    /// Nothing comes from the server but answers.
    pooled: watch::Sender<bool>,
}

/// What the server sends last when it has answered, and no transaction is open.
const READY: &[u8] = b"Z\0\0\0\x05I";

impl Between {
    pub(super) async fn new(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            server,
            requests: Mutex::default(),
            held_back: watch::Sender::new(false),
            pooled: watch::Sender::new(false),
        });
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, Arc::clone(&shared)));
            }
        });
        Self { port, state }
    }

    /// The URL that leads through here.
    pub(super) fn url(&self, url: &str) -> String {
        let server = format!(":{}/", self.state.server);
        assert!(url.contains(&server));
        url.replace(&server, &format!(":{}/", self.port))
    }

    /// What was sent since the last call, but for what it takes to listen and to prove that all was heard.
    pub(super) fn requests(&self) -> Vec<String> {
        let mut requests = std::mem::take(&mut *self.state.requests.lock().unwrap());
        requests.retain(|request| !request.contains("cloakroom_"));
        requests
    }

    /// Whether what the server tells is held back, on connections that listen.
    pub(super) fn hold_back(&self, held_back: bool) {
        self.state.held_back.send_replace(held_back);
    }

    /// As a pooler does that lends its connections for single transactions: once it has answered, the server has no
    /// connection any more on which it could tell something.
    pub(super) fn pool_transactions(&self) {
        self.state.pooled.send_replace(true);
    }
}

/// Passes bytes to and fro until one side ends.
async fn pass(mut client: TcpStream, state: Arc<State>) {
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", state.server)).await else { return };
    let (mut request, mut answer) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let (mut held_back, pooled) = (state.held_back.subscribe(), state.pooled.subscribe());
    let (mut listens, mut answered) = (false, false);
    loop {
        let quiet = listens && *held_back.borrow_and_update() || answered && *pooled.borrow();
        tokio::select! {
            read = client.read(&mut request) => {
                let Ok(read @ 1..) = read else { return };
                let text = String::from_utf8_lossy(&request[..read]).into_owned();
                listens |= text.contains("LISTEN");
                answered = false;
                state.requests.lock().unwrap().push(text);
                if server.write_all(&request[..read]).await.is_err() {
                    return;
                }
            }
            read = server.read(&mut answer), if !quiet => {
                let Ok(read @ 1..) = read else { return };
                // What the server told before it was held back may be here already.
                if listens {
                    held_back.wait_for(|held_back| !held_back).await.unwrap();
                }
                if client.write_all(&answer[..read]).await.is_err() {
                    return;
                }
                answered = answer[..read].ends_with(READY);
            }
            changed = held_back.changed() => changed.unwrap(),
        }
    }
}
