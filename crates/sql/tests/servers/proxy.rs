//! A stand-in for the network between a store and its server, which loses answers as told.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// What to do to the connection on which a certain text is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The text goes through, its answer does not, and then the connection breaks.
    LoseAnswer,
    /// The text does not even go through: the connection breaks.
    LoseRequest,
    /// The text goes through; from there on there is silence.
    Silence,
    /// Another text of the same length goes through in its place.
    Garble,
}

/// A proxy to a server. It ends with its runtime.
pub(crate) struct Proxy {
    port: u16,
    state: Arc<State>,
}

struct State {
    server: u16,
    fault: Mutex<Option<(Vec<u8>, Fault)>>,
    /// A permit for each answer that was lost, before the connection breaks.
    lost: Semaphore,
    /// A permit for each connection that may break.
    go_on: Semaphore,
}

impl Proxy {
    pub(crate) async fn new(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state =
            Arc::new(State { server, fault: Mutex::new(None), lost: Semaphore::new(0), go_on: Semaphore::new(0) });
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, Arc::clone(&shared)));
            }
        });
        Self { port, state }
    }

    /// The URL that leads through here.
    pub(crate) fn url(&self, url: &str) -> String {
        let (server, proxy) = (format!(":{}/", self.state.server), format!(":{}/", self.port));
        assert!(url.contains(&server));
        url.replace(&server, &proxy)
    }

    /// Arms a fault, for the first time that this text is sent.
    pub(crate) fn arm(&self, text: &str, fault: Fault) {
        *self.state.fault.lock().unwrap() = Some((text.as_bytes().to_vec(), fault));
    }

    /// Waits until a fault has happened. The connection does not break before [`go_on`](Self::go_on).
    pub(crate) async fn happened(&self) {
        self.state.lost.acquire().await.unwrap().forget();
    }

    pub(crate) fn go_on(&self) {
        self.state.go_on.add_permits(1);
    }
}

/// Passes bytes to and fro until one side ends, or a fault does.
async fn pass(mut client: TcpStream, state: Arc<State>) {
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", state.server)).await else { return };
    let (mut request, mut answer) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        tokio::select! {
            read = client.read(&mut request) => {
                let Ok(read @ 1..) = read else { return };
                let fault = {
                    let mut armed = state.fault.lock().unwrap();
                    let place = armed.as_ref().and_then(|(text, _)| {
                        request[..read].windows(text.len()).position(|window| window == text)
                    });
                    let hit = place.and_then(|place| Some((place, armed.take()?)));
                    if let Some((place, (text, Fault::Garble))) = &hit {
                        request[*place..place + text.len()].fill(b'?');
                    }
                    hit.map(|(_, (_, fault))| fault)
                };
                if fault != Some(Fault::LoseRequest) && server.write_all(&request[..read]).await.is_err() {
                    return;
                }
                match fault {
                    None => {}
                    Some(Fault::Garble) => state.lost.add_permits(1),
                    Some(Fault::Silence) => {
                        state.lost.add_permits(1);
                        // Whatever comes from here on is read and forgotten, so that nobody notices.
                        while client.read(&mut request).await.is_ok_and(|read| read > 0) {}
                        return;
                    }
                    Some(fault) => {
                        if fault == Fault::LoseAnswer {
                            let _ = server.read(&mut answer).await;
                        }
                        state.lost.add_permits(1);
                        state.go_on.acquire().await.unwrap().forget();
                        return;
                    }
                }
            }
            read = server.read(&mut answer) => {
                let Ok(read @ 1..) = read else { return };
                if client.write_all(&answer[..read]).await.is_err() {
                    return;
                }
            }
        }
    }
}
