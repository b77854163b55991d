//! One connection, and the few commands of Memcached's text protocol that sessions need.

use std::fmt;
use std::io;
use std::mem::MaybeUninit;

use bytes::{Buf, Bytes, BytesMut};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;

use crate::options::Address;

/// The longest line that a server sends in answer to our commands is far shorter.
const MAX_LINE: usize = 4_096;
/// For how many bytes there is room at each reading.
const READ: usize = 4_096;
/// No server keeps items larger than its largest `-I`, one gigabyte.
const MAX_VALUE: usize = 1 << 30;

/// A command with what follows it.
pub(crate) struct Request {
    line: String,
    data: Option<Bytes>,
}

impl Request {
    /// Reads an item with its number, flags and the seconds that are left to it.
    pub(crate) fn get(key: &str) -> Self {
        Self { line: format!("mg {key} v f c t\r\n"), data: None }
    }

    /// Moves the end of an item, and nothing else.
    pub(crate) fn touch(key: &str, exptime: i64) -> Self {
        Self { line: format!("mg {key} T{exptime}\r\n"), data: None }
    }

    /// Deletes an item, if it still is the one with this number.
    pub(crate) fn delete(key: &str, cas: Option<u64>) -> Self {
        let line = match cas {
            None => format!("md {key}\r\n"),
            Some(cas) => format!("md {key} C{cas}\r\n"),
        };
        Self { line, data: None }
    }

    // Not `ms`, which deletes what stands when the new value is too large or finds no memory.

    /// Stores an item unless there is one.
    pub(crate) fn add(key: &str, flags: u32, exptime: i64, data: Bytes) -> Self {
        Self { line: format!("add {key} {flags} {exptime} {}\r\n", data.len()), data: Some(data) }
    }

    /// Replaces the item with this number.
    pub(crate) fn cas(key: &str, flags: u32, exptime: i64, data: Bytes, cas: u64) -> Self {
        Self { line: format!("cas {key} {flags} {exptime} {} {cas}\r\n", data.len()), data: Some(data) }
    }

    fn key(&self) -> &str {
        self.line.split_ascii_whitespace().nth(1).unwrap_or("?")
    }

    /// Bytes of the value that it stores.
    pub(crate) fn size(&self) -> usize {
        self.data.as_ref().map_or(0, Bytes::len)
    }

    /// Whether it may be sent a second time when the connection broke: not if it stores, since the first one may have
    /// been carried out.
    pub(crate) fn is_repeatable(&self) -> bool {
        self.data.is_none() && self.line.starts_with("mg")
    }
}

/// What the server answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// It did what it was asked to.
    Done,
    /// An item.
    Item(Item),
    /// There is no such item.
    Missing,
    /// `add`: there is one already.
    Taken,
    /// Another number stands.
    Changed,
}

/// An item as the server keeps it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) data: Bytes,
    pub(crate) flags: u32,
    pub(crate) cas: u64,
    /// Seconds that are left to it; `None` for ever.
    pub(crate) ttl: Option<u32>,
}

/// Why there is no answer that can be used.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The connection broke.
    Lost(io::Error),
    /// `SERVER_ERROR`: the server could not. The connection can be used on.
    Server(String),
    /// `CLIENT_ERROR` or `ERROR`: the server did not want.
    Refused(String),
    /// This is not Memcached's protocol.
    Nonsense(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(error) => error.fmt(f),
            Self::Server(said) | Self::Refused(said) | Self::Nonsense(said) => write!(f, "{said:?}"),
        }
    }
}

impl std::error::Error for Failure {}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Lost(error)
    }
}

enum Stream {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

/// A connection on which no answer is outstanding.
pub(crate) struct Connection {
    stream: Stream,
    buffer: BytesMut,
}

impl Connection {
    /// Connects. A host name is looked up each time, so that a server may move.
    pub(crate) async fn open(address: &Address) -> io::Result<Self> {
        let stream = match address {
            Address::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                Stream::Tcp(stream)
            }
            #[cfg(unix)]
            Address::Unix(path) => Stream::Unix(UnixStream::connect(path).await?),
            #[cfg(not(unix))]
            Address::Unix(_) => return Err(io::ErrorKind::Unsupported.into()),
        };
        Ok(Self { stream, buffer: BytesMut::new() })
    }

    /// Whether the server has neither closed the connection nor said something unasked while it lay idle.
    pub(crate) fn is_quiet(&self) -> bool {
        // The socket itself is asked: what tokio knows of it is as old as the last look that its driver took.
        let socket = match &self.stream {
            Stream::Tcp(stream) => SockRef::from(stream),
            #[cfg(unix)]
            Stream::Unix(stream) => SockRef::from(stream),
        };
        let peeked = socket.peek(&mut [MaybeUninit::uninit()]);
        self.buffer.is_empty() && matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Sends a request and reads the answer.
    pub(crate) async fn exchange(&mut self, request: &Request) -> Result<Reply, Failure> {
        match &mut self.stream {
            Stream::Tcp(stream) => exchange(stream, &mut self.buffer, request).await,
            #[cfg(unix)]
            Stream::Unix(stream) => exchange(stream, &mut self.buffer, request).await,
        }
    }
}

async fn exchange<S>(stream: &mut S, buffer: &mut BytesMut, request: &Request) -> Result<Reply, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match &request.data {
        None => stream.write_all(request.line.as_bytes()).await?,
        Some(data) => {
            let mut parts = Buf::chain(request.line.as_bytes(), data.clone()).chain(&b"\r\n"[..]);
            stream.write_all_buf(&mut parts).await?;
        }
    }
    let line = loop {
        if let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(&buffer[..end]).trim_end().to_owned();
            buffer.advance(end + 1);
            break line;
        }
        if buffer.len() > MAX_LINE {
            return Err(Failure::Nonsense("a line without an end".to_owned()));
        }
        more(stream, buffer).await?;
    };
    let Some(head) = Head::parse(&line) else {
        // A server of another kind may well quote the request, and in it the key, whole or cut off: that is no text
        // for a log.
        let said = |limit| line[..line.floor_char_boundary(limit)].replace(request.key(), "…");
        return Err(match line.split(' ').next() {
            Some("SERVER_ERROR") => Failure::Server(said(200)),
            Some("CLIENT_ERROR" | "ERROR") => Failure::Refused(said(200)),
            _ => Failure::Nonsense(said(24)),
        });
    };
    match head {
        Head::Reply(reply) => Ok(reply),
        Head::Value { length, .. } if length > MAX_VALUE => {
            Err(Failure::Nonsense(format!("a value of {length} bytes")))
        }
        Head::Value { length, flags, cas, ttl } => {
            while buffer.len() < length + 2 {
                more(stream, buffer).await?;
            }
            // Most values are copied, so that the buffer remains the connection's own, to be filled again.
            let data = if length <= READ {
                let data = Bytes::copy_from_slice(&buffer[..length]);
                buffer.advance(length);
                data
            } else {
                buffer.split_to(length).freeze()
            };
            if !buffer.starts_with(b"\r\n") {
                return Err(Failure::Nonsense("a value without an end".to_owned()));
            }
            buffer.advance(2);
            Ok(Reply::Item(Item { data, flags, cas, ttl }))
        }
    }
}

async fn more<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut BytesMut) -> io::Result<()> {
    buffer.reserve(READ);
    match stream.read_buf(buffer).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

/// The first line of an answer.
enum Head {
    Reply(Reply),
    Value { length: usize, flags: u32, cas: u64, ttl: Option<u32> },
}

impl Head {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        Some(Self::Reply(match words.next()? {
            "VA" => {
                let length = words.next()?.parse().ok()?;
                let (mut flags, mut cas, mut ttl) = (None, None, None);
                for word in words {
                    match word.split_at_checked(1)? {
                        ("f", number) => flags = Some(number.parse().ok()?),
                        ("c", number) => cas = Some(number.parse().ok()?),
                        ("t", "-1") => ttl = Some(None),
                        ("t", number) => ttl = Some(Some(number.parse().ok()?)),
                        // Marks of other clients' leases: no matter of ours.
                        _ => {}
                    }
                }
                return Some(Self::Value { length, flags: flags?, cas: cas?, ttl: ttl? });
            }
            "HD" | "STORED" => Reply::Done,
            "EN" | "NF" | "NOT_FOUND" => Reply::Missing,
            "NOT_STORED" => Reply::Taken,
            "EX" | "EXISTS" => Reply::Changed,
            _ => return None,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answer(said: &[u8]) -> (Result<Reply, Failure>, usize) {
        let mut stream = tokio_test_stream(said);
        let mut buffer = BytesMut::new();
        let reply = exchange(&mut stream, &mut buffer, &Request::get("k")).await;
        (reply, buffer.len())
    }

    /// A stream on which the server has said something already.
    fn tokio_test_stream(said: &[u8]) -> tokio::io::Join<std::io::Cursor<Vec<u8>>, tokio::io::Sink> {
        tokio::io::join(std::io::Cursor::new(said.to_vec()), tokio::io::sink())
    }

    #[tokio::test]
    async fn answers_are_read_to_their_end() {
        let item = |data: &'static [u8], ttl| {
            Reply::Item(Item { data: Bytes::from_static(data), flags: 1, cas: 18_446_744_073_709_551_615, ttl })
        };
        for (said, wanted) in [
            (&b"VA 3 f1 c18446744073709551615 t100\r\na\r\n\r\n"[..], item(b"a\r\n", Some(100))),
            (b"VA 0 t-1 c18446744073709551615 f1 W X\r\n\r\n", item(b"", None)),
            (b"HD\r\n", Reply::Done),
            (b"STORED\r\n", Reply::Done),
            (b"EN\r\n", Reply::Missing),
            (b"NF\r\n", Reply::Missing),
            (b"NOT_FOUND\r\n", Reply::Missing),
            (b"NOT_STORED\r\n", Reply::Taken),
            (b"EX\r\n", Reply::Changed),
            (b"EXISTS\r\n", Reply::Changed),
        ] {
            let (reply, left) = answer(said).await;
            assert_eq!((reply.unwrap(), left), (wanted, 0), "{}", String::from_utf8_lossy(said));
        }
    }

    #[tokio::test]
    async fn what_is_no_answer_is_a_failure() {
        let failure = async |said: &[u8]| answer(said).await.0.unwrap_err();
        assert!(matches!(failure(b"SERVER_ERROR out of memory\r\n").await, Failure::Server(_)));
        assert!(matches!(failure(b"CLIENT_ERROR bad\r\n").await, Failure::Refused(_)));
        assert!(matches!(failure(b"ERROR\r\n").await, Failure::Refused(_)));
        for said in [
            &b"-ERR unknown command 'mg'\r\n"[..],
            b"\r\n",
            b"VA\r\n",
            b"VA -1 f1 c1 t1\r\n",
            b"VA 1 f1 c1\r\nx\r\n",
            b"VA 1 f1 c1 tx\r\nx\r\n",
            b"VA 1 f1 c1 t1\r\nxy\r\n",
            b"VA 1073741825 f1 c1 t1\r\n",
            "VA 1 é\r\n".as_bytes(),
            "é".repeat(90).as_bytes(),
        ] {
            let said = [said, b"\r\n"].concat();
            assert!(matches!(failure(&said).await, Failure::Nonsense(_)), "{}", String::from_utf8_lossy(&said));
        }
        assert!(matches!(failure(&[b'x'; 10_000]).await, Failure::Nonsense(_)));
        for cut in [&b""[..], b"VA 3 f1", b"VA 3 f1 c1 t1\r\nab"] {
            assert!(matches!(failure(cut).await, Failure::Lost(_)));
        }
    }
}
