//! What lies in a Redis, and what is said to it, seen from outside, through a connection of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A database of a server, through a connection that lives as long as this.
pub struct Redis {
    connection: BufReader<TcpStream>,
    database: String,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing
    Nil,
    /// A number
    Int(i64),
    /// A value, or a short text such as `OK`
    Bytes(Vec<u8>),
    /// Several
    List(Vec<Answer>),
    /// What went wrong
    Error(String),
}

/// A command as the server carried it out, on behalf of a client or of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// The number of the database.
    pub database: String,
    /// Whether a script sent it, inside the server.
    pub by_script: bool,
    /// Its name and arguments.
    pub words: Vec<Vec<u8>>,
}

impl Redis {
    /// Connects to a database by its URL, `redis://HOST:PORT/NUMBER`.
    pub fn at(url: &str) -> Redis {
        let rest = url.strip_prefix("redis://").expect("a URL without TLS and login");
        let (address, database) = rest.split_once('/').unwrap_or((rest, "0"));
        let stream = TcpStream::connect(address).unwrap_or_else(|problem| panic!("{url}: {problem}"));
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a time limit");
        let mut redis = Redis { connection: BufReader::new(stream), database: database.to_owned() };
        assert_eq!(redis.ask(&["SELECT", database]), Answer::Bytes(b"OK".to_vec()));
        redis
    }

    /// The number of the database.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// Sends a command and reads its answer.
    pub fn ask<W: AsRef<[u8]>>(&mut self, words: &[W]) -> Answer {
        let mut command = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            let word = word.as_ref();
            command.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            command.extend_from_slice(word);
            command.extend_from_slice(b"\r\n");
        }
        self.connection.get_mut().write_all(&command).expect("a Redis that listens");
        self.answer()
    }

    /// Every value whose key begins so, by what follows in the key, in order.
    pub fn items(&mut self, prefix: &str) -> Vec<(String, Vec<u8>)> {
        let Answer::List(keys) = self.ask(&["KEYS", "*"]) else { panic!("Redis lists its keys") };
        let mut items = Vec::new();
        for key in keys {
            let Answer::Bytes(key) = key else { panic!("a key is text") };
            let Some(rest) = key.strip_prefix(prefix.as_bytes()) else { continue };
            // It may have expired since.
            if let Answer::Bytes(value) = self.ask(&[&b"GET"[..], &key]) {
                items.push((String::from_utf8(rest.to_vec()).expect("a key in UTF-8"), value));
            }
        }
        items.sort();
        items
    }

    /// Milliseconds until a key expires.
    pub fn lifetime(&mut self, key: &str) -> i64 {
        let Answer::Int(left) = self.ask(&["PTTL", key]) else { panic!("a number") };
        left
    }

    /// From now on, this connection reports every command that the server carries out.
    pub fn monitor(mut self) -> Monitor {
        assert_eq!(self.ask(&["MONITOR"]), Answer::Bytes(b"OK".to_vec()));
        Monitor(self)
    }

    fn line(&mut self) -> Vec<u8> {
        let mut line = Vec::new();
        self.connection.read_until(b'\n', &mut line).expect("a line from Redis");
        assert!(line.ends_with(b"\r\n"), "Redis closed the connection");
        line.truncate(line.len() - 2);
        line
    }

    fn answer(&mut self) -> Answer {
        let line = self.line();
        let text = || String::from_utf8_lossy(&line[1..]).into_owned();
        let number = || text().parse::<i64>().expect("a number");
        match line[0] {
            b'+' => Answer::Bytes(line[1..].to_vec()),
            b'-' => Answer::Error(text()),
            b':' => Answer::Int(number()),
            b'$' if number() < 0 => Answer::Nil,
            b'$' => {
                let mut value = vec![0; usize::try_from(number()).expect("a length") + 2];
                self.connection.read_exact(&mut value).expect("the value");
                value.truncate(value.len() - 2);
                Answer::Bytes(value)
            }
            b'*' if number() < 0 => Answer::Nil,
            b'*' => Answer::List((0..number()).map(|_| self.answer()).collect()),
            other => panic!("an answer that begins with {:?}", char::from(other)),
        }
    }
}

/// A connection that reports what the server carries out.
pub struct Monitor(Redis);

impl Monitor {
    /// What was carried out in this connection's database since the last call, up to now.
    pub fn carried(&mut self) -> Vec<Carried> {
        // The server reports in its own order: what comes before our mark is all there is.
        let address = self.0.connection.get_ref().peer_addr().expect("connected");
        let mark = format!("mark {:?}", std::time::Instant::now());
        Redis::at(&format!("redis://{address}/0")).ask(&["ECHO", &mark]);
        let mut carried = Vec::new();
        loop {
            let line = self.0.line();
            let line = line.strip_prefix(b"+").expect("a report");
            let report = report(line).unwrap_or_else(|| panic!("a report: {}", line.escape_ascii()));
            if report.words.last().is_some_and(|word| word == mark.as_bytes()) {
                return carried;
            }
            if report.database == self.0.database {
                carried.push(report);
            }
        }
    }
}

/// Reads `1700000000.000000 [3 127.0.0.1:50000] "SET" "key" "value\x80"`.
fn report(line: &[u8]) -> Option<Carried> {
    let open = line.iter().position(|&byte| byte == b'[')?;
    let close = line.iter().position(|&byte| byte == b']')?;
    let origin = std::str::from_utf8(&line[open + 1..close]).ok()?;
    let (database, client) = origin.split_once(' ')?;
    let (mut words, mut word) = (Vec::new(), None::<Vec<u8>>);
    let mut rest = line[close + 1..].iter().copied();
    while let Some(byte) = rest.next() {
        match (&mut word, byte) {
            (None, b'"') => word = Some(Vec::new()),
            (None, _) => {}
            (Some(_), b'"') => words.extend(word.take()),
            (Some(text), b'\\') => text.push(match rest.next()? {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'a' => 7,
                b'b' => 8,
                b'x' => {
                    let digits = [rest.next()?, rest.next()?];
                    u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
                }
                other => other,
            }),
            (Some(text), byte) => text.push(byte),
        }
    }
    Some(Carried { database: database.to_owned(), by_script: client == "lua", words })
}
