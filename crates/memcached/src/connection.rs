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
const READ: usize = 16_384;
/// Values up to this size are copied out of what was read.
const SMALL: usize = 4_096;
/// No server keeps items larger than its largest `-I`, one gigabyte.
const MAX_VALUE: usize = 1 << 30;
/// After a line, and after a value.
const END: &[u8] = b"\r\n";

/// A command with what follows it.
#[derive(Clone)]
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
    /// `SERVER_ERROR`: the server could not.
    Failed(String),
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

/// Why there is no answer that can be used, and no more of them on this connection.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The connection broke.
    Lost(io::Error),
    /// `CLIENT_ERROR` or `ERROR`: the server did not want.
    Refused(String),
    /// This is not Memcached's protocol.
    Nonsense(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(error) => error.fmt(f),
            Self::Refused(said) | Self::Nonsense(said) => write!(f, "{said:?}"),
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

    /// Sends requests together and reads their answers in turn. Of a failure, and of an exchange that is given up, those
    /// that came before are left.
    pub(crate) async fn exchange(&mut self, requests: &[Request], replies: &mut Vec<Reply>) -> Result<(), Failure> {
        let buffer = &mut self.buffer;
        match &mut self.stream {
            Stream::Tcp(stream) => {
                let (reader, writer) = stream.split();
                exchange(reader, writer, buffer, requests, replies).await
            }
            #[cfg(unix)]
            Stream::Unix(stream) => {
                let (reader, writer) = stream.split();
                exchange(reader, writer, buffer, requests, replies).await
            }
        }
    }
}

async fn exchange(
    mut reader: impl AsyncRead + Unpin,
    writer: impl AsyncWrite + Unpin,
    buffer: &mut BytesMut,
    requests: &[Request],
    replies: &mut Vec<Reply>,
) -> Result<(), Failure> {
    let receive = async {
        for request in requests {
            replies.push(receive(&mut reader, buffer, request).await?);
        }
        Ok(())
    };
    // At the same time: a server that cannot get rid of its answers may take no more questions.
    tokio::try_join!(biased; send(writer, requests), receive).map(|_| ())
}

async fn send(mut writer: impl AsyncWrite + Unpin, requests: &[Request]) -> Result<(), Failure> {
    if let [Request { line, data: Some(data) }] = requests {
        let mut parts = Buf::chain(line.as_bytes(), data.clone()).chain(END);
        return Ok(writer.write_all_buf(&mut parts).await?);
    }
    let mut all =
        Vec::with_capacity(requests.iter().map(|request| request.line.len() + request.size() + END.len()).sum());
    for Request { line, data } in requests {
        all.extend_from_slice(line.as_bytes());
        if let Some(data) = data {
            all.extend_from_slice(data);
            all.extend_from_slice(END);
        }
    }
    Ok(writer.write_all(&all).await?)
}

async fn receive(
    reader: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
    request: &Request,
) -> Result<Reply, Failure> {
    let (head, length) = loop {
        if let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            break (head(String::from_utf8_lossy(&buffer[..end]).trim_end(), request)?, end + 1);
        }
        if buffer.len() > MAX_LINE {
            return Err(Failure::Nonsense("a line without an end".to_owned()));
        }
        more(reader, buffer).await?;
    };
    buffer.advance(length);
    match head {
        Head::Reply(reply) => Ok(reply),
        Head::Value { length, .. } if length > MAX_VALUE => {
            Err(Failure::Nonsense(format!("a value of {length} bytes")))
        }
        Head::Value { length, flags, cas, ttl } => {
            while buffer.len() < length + END.len() {
                more(reader, buffer).await?;
            }
            // Most values are copied, so that the buffer remains the connection's own, to be filled again.
            let data = if length <= SMALL {
                let data = Bytes::copy_from_slice(&buffer[..length]);
                buffer.advance(length);
                data
            } else {
                buffer.split_to(length).freeze()
            };
            if !buffer.starts_with(END) {
                return Err(Failure::Nonsense("a value without an end".to_owned()));
            }
            buffer.advance(END.len());
            Ok(Reply::Item(Item { data, flags, cas, ttl }))
        }
    }
}

/// What the first line of the answer to a request says.
fn head(line: &str, request: &Request) -> Result<Head, Failure> {
    if let Some(head) = Head::parse(line) {
        return Ok(head);
    }
    // A server of another kind may well quote the request, and in it the key, whole or cut off: that is no text for a
    // log.
    let said = |limit| line[..line.floor_char_boundary(limit)].replace(request.key(), "…");
    match line.split(' ').next() {
        Some("SERVER_ERROR") => Ok(Head::Reply(Reply::Failed(said(200)))),
        Some("CLIENT_ERROR" | "ERROR") => Err(Failure::Refused(said(200))),
        _ => Err(Failure::Nonsense(said(24))),
    }
}

async fn more(reader: &mut (impl AsyncRead + Unpin), buffer: &mut BytesMut) -> io::Result<()> {
    buffer.reserve(READ);
    match reader.read_buf(buffer).await? {
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

    async fn answers(said: &[u8], count: usize) -> (Result<(), Failure>, Vec<Reply>, usize) {
        let requests = vec![Request::get("k"); count];
        let (mut buffer, mut replies) = (BytesMut::new(), Vec::new());
        let ended = exchange(said, tokio::io::sink(), &mut buffer, &requests, &mut replies).await;
        (ended, replies, buffer.len())
    }

    async fn answer(said: &[u8]) -> (Result<Reply, Failure>, usize) {
        let (ended, mut replies, left) = answers(said, 1).await;
        (ended.map(|()| replies.remove(0)), left)
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
            (b"SERVER_ERROR out of memory\r\n", Reply::Failed("SERVER_ERROR out of memory".to_owned())),
        ] {
            let (reply, left) = answer(said).await;
            assert_eq!((reply.unwrap(), left), (wanted, 0), "{}", String::from_utf8_lossy(said));
        }
    }

    #[tokio::test]
    async fn what_is_no_answer_is_a_failure() {
        let failure = async |said: &[u8]| answer(said).await.0.unwrap_err();
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

    #[tokio::test]
    async fn answers_come_in_turn_and_those_before_a_failure_stay() {
        let said = b"EN\r\nSERVER_ERROR busy\r\nVA 2 f1 c7 t-1\r\nab\r\nHD\r\n";
        let item = Reply::Item(Item { data: Bytes::from_static(b"ab"), flags: 1, cas: 7, ttl: None });
        let wanted = [Reply::Missing, Reply::Failed("SERVER_ERROR busy".to_owned()), item, Reply::Done];
        let (ended, replies, left) = answers(said, 4).await;
        assert!(ended.is_ok());
        assert_eq!((replies.as_slice(), left), (&wanted[..], 0));
        let (ended, replies, _) = answers(said, 5).await;
        assert!(matches!(ended, Err(Failure::Lost(_))));
        assert_eq!(replies, wanted);
        let (ended, replies, _) = answers(b"EN\r\nERROR\r\nHD\r\n", 3).await;
        assert!(matches!(ended, Err(Failure::Refused(_))));
        assert_eq!(replies, [Reply::Missing]);
    }

    #[tokio::test]
    async fn requests_go_as_they_would_go_alone() {
        let data = Bytes::from_static(b"data");
        let requests = [Request::get("a"), Request::cas("b", 1, 60, data.clone(), 5), Request::touch("c", 9)];
        let (mut together, mut alone) = (Vec::new(), Vec::new());
        send(&mut together, &requests).await.unwrap();
        for request in &requests {
            send(&mut alone, std::slice::from_ref(request)).await.unwrap();
        }
        assert_eq!(together, b"mg a v f c t\r\ncas b 1 60 4 5\r\ndata\r\nmg c T9\r\n");
        assert_eq!(together, alone);
    }

    #[tokio::test]
    async fn a_server_that_answers_before_it_reads_on_is_heard() {
        // There is room for little on the way, in either direction.
        let (ours, theirs) = tokio::io::duplex(100);
        let server = tokio::spawn(async move {
            let (mut reader, mut writer) = tokio::io::split(theirs);
            let mut line = [0; 14];
            for _ in 0..1_000 {
                reader.read_exact(&mut line).await.unwrap();
                writer.write_all(b"VA 3 f1 c1 t1\r\nabc\r\n").await.unwrap();
            }
        });
        let (reader, writer) = tokio::io::split(ours);
        let (mut buffer, mut replies) = (BytesMut::new(), Vec::new());
        let requests = vec![Request::get("k"); 1_000];
        exchange(reader, writer, &mut buffer, &requests, &mut replies).await.unwrap();
        assert_eq!(replies.len(), 1_000);
        server.await.unwrap();
    }
}
