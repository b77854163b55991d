//! What lies in a Memcached, seen from outside, through a connection of its own; and what is sent to it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Asks for all keys in the order of the hash table; the order of use leaves out what is just being used.
const LIST: &[u8] = b"lru_crawler metadump hash\r\n";

/// A server.
pub struct Memcached(String);

/// An item as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The value.
    pub value: Vec<u8>,
    /// The client flags, which say what the value is.
    pub flags: u32,
    /// The seconds that are left to it; -1 for ever.
    pub ttl: i64,
}

impl Memcached {
    /// Names a server as `HOST:PORT`; nothing is connected yet.
    pub fn at(address: impl Into<String>) -> Memcached {
        Memcached(address.into())
    }

    /// Every item whose key begins so, by what follows in the key, in order.
    pub fn items(&self, prefix: &str) -> Vec<(String, Item)> {
        let mut connection = Connection::open(&self.0);
        let mut keys = Vec::new();
        connection.send(LIST);
        loop {
            let line = connection.line();
            if line.starts_with("BUSY") {
                // It sweeps, or lists for another test.
                thread::sleep(Duration::from_millis(5));
                connection.send(LIST);
                continue;
            }
            let Some(rest) = line.strip_prefix("key=") else {
                assert_eq!(line, "END", "Memcached lists its keys");
                break;
            };
            let key = rest.split(' ').next().expect("a key").replace("%3A", ":");
            if let Some(rest) = key.strip_prefix(prefix) {
                keys.push(rest.to_owned());
            }
        }
        keys.sort();
        // Some of what is listed has expired.
        keys.into_iter().filter_map(|key| connection.get(&format!("{prefix}{key}")).map(|item| (key, item))).collect()
    }

    /// Sends a command of one line, with a value perhaps, and returns the first line of the answer.
    pub fn send(&self, line: &str, value: Option<&[u8]>) -> String {
        let mut connection = Connection::open(&self.0);
        connection.send(&frame(line, value));
        connection.line()
    }
}

fn frame(line: &str, value: Option<&[u8]>) -> Vec<u8> {
    let mut bytes = [line.as_bytes(), b"\r\n"].concat();
    if let Some(value) = value {
        bytes.extend_from_slice(value);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

struct Connection(BufReader<TcpStream>);

impl Connection {
    fn open(address: &str) -> Connection {
        Connection(BufReader::new(TcpStream::connect(address).expect("a Memcached")))
    }

    fn send(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).expect("a Memcached that listens");
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a line from Memcached");
        line.trim_end().to_owned()
    }

    fn get(&mut self, key: &str) -> Option<Item> {
        self.send(&frame(&format!("mg {key} v f t"), None));
        let head = self.line();
        let words: Vec<&str> = head.split(' ').collect();
        if words[0] == "EN" {
            return None;
        }
        let number = |prefix| words.iter().find_map(|word| word.strip_prefix(prefix)).expect("what was asked for");
        let mut value = vec![0; words[1].parse::<usize>().expect("a length") + 2];
        self.0.read_exact(&mut value).expect("the value");
        value.truncate(value.len() - 2);
        Some(Item {
            value,
            flags: number("f").parse().expect("flags"),
            ttl: number("t").parse().expect("a number of seconds"),
        })
    }
}

/// Stands between a client and a server, and writes down what the client sends.
pub struct Recorder {
    address: String,
    sent: Arc<Mutex<Vec<Sent>>>,
}

/// A command that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Its words.
    pub words: Vec<String>,
    /// The value that followed it.
    pub value: Option<Vec<u8>>,
}

impl Recorder {
    /// Listens on a port of its own, and passes on to the server at `HOST:PORT`.
    pub fn before(server: &str) -> Recorder {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let (sent, server) = (Arc::new(Mutex::new(Vec::new())), server.to_owned());
        let list = Arc::clone(&sent);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(&server) else { continue };
                let mut answers = (server.try_clone().expect("a second handle"), client.try_clone().expect("one more"));
                thread::spawn(move || std::io::copy(&mut answers.0, &mut answers.1));
                let list = Arc::clone(&list);
                thread::spawn(move || pass_on(client, server, &list));
            }
        });
        Recorder { address, sent }
    }

    /// Where it listens, as `HOST:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What was sent since the last look, in order. Every command that was answered is among it.
    pub fn sent(&self) -> Vec<Sent> {
        std::mem::take(&mut *self.sent.lock().expect("a recorder that did not fail"))
    }
}

/// Passes commands on one by one, each after it was written down. Ends with the client.
fn pass_on(client: TcpStream, mut server: TcpStream, list: &Mutex<Vec<Sent>>) -> Option<()> {
    let mut client = BufReader::new(client);
    loop {
        let mut line = String::new();
        if client.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let words: Vec<String> = line.split_ascii_whitespace().map(str::to_owned).collect();
        let length = match words[0].as_str() {
            "set" | "add" | "replace" | "cas" => Some(words[4].parse::<usize>().expect("the length of a value")),
            "ms" => Some(words[2].parse().expect("the length of a value")),
            _ => None,
        };
        let mut value = length.map(|length| vec![0; length + 2]);
        if let Some(value) = &mut value {
            client.read_exact(value).ok()?;
            value.truncate(value.len() - 2);
        }
        let bytes = frame(line.trim_end(), value.as_deref());
        list.lock().expect("a list that did not fail").push(Sent { words, value });
        server.write_all(&bytes).ok()?;
    }
}
