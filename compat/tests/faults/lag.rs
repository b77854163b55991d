//! A slow network: answers of a server come late.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Stands before a server on this machine, and holds its answers back for a while.
pub(crate) struct Lag {
    port: u16,
    millis: Arc<AtomicU64>,
}

impl Lag {
    /// Passes everything on at once, until it is told otherwise.
    pub(crate) fn before(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let millis = Arc::new(AtomicU64::new(0));
        let shared = Arc::clone(&millis);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { continue };
                let (Ok(from), Ok(to)) = (client.try_clone(), server.try_clone()) else { continue };
                let lag = Arc::clone(&shared);
                thread::spawn(move || pass(from, to, None));
                thread::spawn(move || pass(server, client, Some(&lag)));
            }
        });
        Self { port, millis }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// How late answers come; those that are held back already go by the new time, too.
    pub(crate) fn set_millis(&self, millis: u64) {
        self.millis.store(millis, Ordering::Relaxed);
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, lag: Option<&AtomicU64>) {
    let mut bytes = [0; 1 << 14];
    while let Ok(length @ 1..) = from.read(&mut bytes) {
        let read = Instant::now();
        while lag.is_some_and(|lag| read.elapsed() < Duration::from_millis(lag.load(Ordering::Relaxed))) {
            thread::sleep(Duration::from_millis(2));
        }
        if to.write_all(&bytes[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}
