//! A generator of load: visitors who each have a connection and a session, and ask again as soon as they are answered.
//! One thread, one system call to read a response and one to write the next request.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::cpu;
use crate::http::{Cookies, request, response};
use crate::stats::percentile;

/// How long nobody may be answered.
const PATIENCE: Duration = Duration::from_secs(60);

/// What every visitor asks for.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The method.
    pub method: &'a str,
    /// The path.
    pub path: &'a str,
    /// The body.
    pub body: &'a str,
    /// Whether each request is a new visitor's, who has no cookie.
    pub anonymous: bool,
    /// What the answers have to be.
    pub expected: Expected<'a>,
}

/// What answers have to be, beside 200.
#[derive(Clone, Copy, Debug)]
pub enum Expected<'a> {
    /// Anything.
    Anything,
    /// This text.
    Text(&'a str),
    /// A number that is one more than that of the same visitor's answer before.
    Next,
}

/// How long to go on.
#[derive(Clone, Copy, Debug)]
pub enum Limit {
    /// For a time, after another one in which nothing is measured.
    Time {
        /// Not measured.
        before: Duration,
        /// Measured.
        measured: Duration,
    },
    /// For so many requests.
    Requests(usize),
}

/// What was measured.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// Requests that were answered.
    pub requests: usize,
    /// Of these, those that were not answered with 200.
    pub failed: usize,
    /// Of the others, those whose answer was not the expected one.
    pub wrong: usize,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Half of the answers took so long, in milliseconds.
    pub p50: f64,
    /// Of a hundred answers, one took longer, in milliseconds.
    pub p99: f64,
    /// Processor time of this program, in seconds.
    pub client: f64,
    /// Processor time of each of the other processes, in seconds.
    pub others: Vec<f64>,
}

/// Visitors of a site.
#[derive(Debug)]
pub struct Visitors {
    poll: Poll,
    visitors: Vec<Visitor>,
}

#[derive(Debug)]
struct Visitor {
    stream: TcpStream,
    cookies: Cookies,
    request: Vec<u8>,
    sent: Instant,
    received: Vec<u8>,
    length: usize,
    number: Option<u64>,
}

impl Visitors {
    /// Connects so many visitors to a site.
    ///
    /// # Errors
    /// If there is no connection.
    pub fn connect(site: SocketAddr, visitors: usize) -> anyhow::Result<Self> {
        let poll = Poll::new()?;
        let visitors = (0..visitors).map(|number| Visitor::connect(site, &poll, number));
        Ok(Self { visitors: visitors.collect::<anyhow::Result<_>>()?, poll })
    }

    /// Lets all visitors ask, and measures. `pids` are those of the processes whose time is to be told.
    ///
    /// # Errors
    /// If the connection is lost, or nobody is answered.
    pub fn ask(&mut self, ask: &Ask<'_>, limit: Limit, pids: &[u32]) -> anyhow::Result<Measured> {
        let mut left = match limit {
            Limit::Time { .. } => usize::MAX,
            Limit::Requests(requests) => requests,
        };
        let (before, length) = match limit {
            Limit::Time { before, measured } => (before, measured),
            Limit::Requests(_) => (Duration::ZERO, Duration::MAX),
        };
        let mut tally = Tally::default();
        let mut pending = 0;
        let begin = Instant::now();
        for visitor in self.visitors.iter_mut().take(left) {
            visitor.prepare(ask);
            visitor.send()?;
            pending += 1;
            left = left.saturating_sub(1);
        }
        let mut clock = Clock::start(pids, before.is_zero());
        let mut measured = None;
        let mut events = Events::with_capacity(self.visitors.len());
        while pending > 0 {
            match self.poll.poll(&mut events, Some(PATIENCE)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                outcome => outcome?,
            }
            ensure!(!events.is_empty(), "{} is not answered for {PATIENCE:?}", ask.path);
            for event in &events {
                let visitor = &mut self.visitors[event.token().0];
                let Some(answer) = visitor.receive(ask)? else { continue };
                let now = Instant::now();
                if !clock.runs && now - begin >= before {
                    clock = Clock::start(pids, true);
                    tally = Tally::default();
                }
                if measured.is_none() {
                    tally.count(&answer, now - visitor.sent);
                    if clock.runs && clock.begin.elapsed() >= length || left == 0 && pending == 1 {
                        measured = Some(clock.stop(pids));
                    }
                }
                if measured.is_some() || left == 0 {
                    pending -= 1;
                } else {
                    left -= 1;
                    visitor.sent = now;
                    visitor.send()?;
                }
            }
        }
        let (seconds, client, others) = measured.context("nothing was measured")?;
        Ok(tally.finish(seconds, client, others))
    }
}

/// When measuring began, and what the processes had spent then.
struct Clock {
    runs: bool,
    begin: Instant,
    client: f64,
    others: Vec<f64>,
}

impl Clock {
    fn start(pids: &[u32], runs: bool) -> Self {
        let others = pids.iter().map(|pid| cpu::seconds(*pid)).collect();
        Self { runs, begin: Instant::now(), client: cpu::own_seconds(), others }
    }

    /// Seconds that have passed, and what was spent in them, by us and by the others.
    fn stop(&self, pids: &[u32]) -> (f64, f64, Vec<f64>) {
        let (seconds, client) = (self.begin.elapsed().as_secs_f64(), cpu::own_seconds() - self.client);
        let others = pids.iter().zip(&self.others).map(|(pid, before)| cpu::seconds(*pid) - before).collect();
        (seconds, client, others)
    }
}

#[derive(Default)]
struct Tally {
    /// In microseconds.
    times: Vec<f32>,
    failed: usize,
    wrong: usize,
}

impl Tally {
    fn count(&mut self, answer: &Answer, took: Duration) {
        self.times.push(took.as_secs_f32() * 1e6);
        match answer {
            Answer::Right => {}
            Answer::Wrong => self.wrong += 1,
            Answer::Failed => self.failed += 1,
        }
    }

    fn finish(mut self, seconds: f64, client: f64, others: Vec<f64>) -> Measured {
        self.times.sort_by(f32::total_cmp);
        let millis = |share| f64::from(percentile(&self.times, share)) / 1e3;
        Measured {
            requests: self.times.len(),
            failed: self.failed,
            wrong: self.wrong,
            seconds,
            p50: millis(0.5),
            p99: millis(0.99),
            client,
            others,
        }
    }
}

#[derive(Debug, PartialEq)]
enum Answer {
    Right,
    Wrong,
    Failed,
}

impl Visitor {
    fn connect(site: SocketAddr, poll: &Poll, number: usize) -> anyhow::Result<Self> {
        let stream = std::net::TcpStream::connect(site).context("the site takes no connection")?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        poll.registry().register(&mut stream, Token(number), Interest::READABLE)?;
        Ok(Self {
            stream,
            cookies: Cookies::default(),
            request: Vec::new(),
            sent: Instant::now(),
            received: vec![0; 65_536],
            length: 0,
            number: None,
        })
    }

    fn prepare(&mut self, ask: &Ask<'_>) {
        let none = Cookies::default();
        self.request = request(ask.method, ask.path, if ask.anonymous { &none } else { &self.cookies }, ask.body);
        self.number = None;
        self.sent = Instant::now();
    }

    fn send(&mut self) -> anyhow::Result<()> {
        // A request is smaller than the kernel's buffer, which is empty: the one before was answered.
        self.stream.write_all(&self.request).context("the connection is lost")
    }

    /// Reads what is there. The whole buffer is offered, so that nothing is left behind without another event.
    fn receive(&mut self, ask: &Ask<'_>) -> anyhow::Result<Option<Answer>> {
        match self.stream.read(&mut self.received[self.length..]) {
            Ok(0) => bail!("the site closes the connection at {}", ask.path),
            Ok(read) => self.length += read,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return Ok(None),
            Err(error) => return Err(error).context("the connection is lost"),
        }
        let Some(response) = response(&self.received[..self.length])? else { return Ok(None) };
        ensure!(response.length == self.length, "an answer that nobody asked for");
        let answer = judge(response.status, response.body, ask.expected, &mut self.number);
        if !ask.anonymous {
            let mut changed = false;
            for header in &response.cookies {
                changed |= self.cookies.set(header);
            }
            if changed {
                self.request = request(ask.method, ask.path, &self.cookies, ask.body);
            }
        }
        self.length = 0;
        Ok(Some(answer))
    }
}

fn judge(status: u16, body: &[u8], expected: Expected<'_>, number: &mut Option<u64>) -> Answer {
    if status != 200 {
        // Whether it was carried out, nobody knows.
        *number = None;
        return Answer::Failed;
    }
    let right = match expected {
        Expected::Anything => true,
        Expected::Text(text) => body == text.as_bytes(),
        Expected::Next => {
            let told = std::str::from_utf8(body).ok().and_then(|text| text.parse::<u64>().ok());
            let right = told.is_some() && number.is_none_or(|before| told == Some(before + 1));
            *number = told;
            right
        }
    };
    if right { Answer::Right } else { Answer::Wrong }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_judged() {
        let mut number = None;
        let mut next = |status, body: &str| judge(status, body.as_bytes(), Expected::Next, &mut number);
        assert_eq!(next(200, "7"), Answer::Right);
        assert_eq!(next(200, "8"), Answer::Right);
        assert_eq!(next(200, "8"), Answer::Wrong);
        assert_eq!(next(503, "9"), Answer::Failed);
        assert_eq!(next(200, "nine"), Answer::Wrong);
        let text = |body: &str| judge(200, body.as_bytes(), Expected::Text("ada"), &mut None);
        assert_eq!((text("ada"), text("bob")), (Answer::Right, Answer::Wrong));
    }

    /// A site that counts its requests, gives each visitor a cookie, and refuses every tenth request.
    fn site() -> SocketAddr {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for (visitor, stream) in listener.incoming().enumerate() {
                std::thread::spawn(move || serve(visitor, stream.unwrap()));
            }
        });
        address
    }

    fn serve(visitor: usize, mut stream: std::net::TcpStream) {
        let (mut buffer, mut count) = ([0; 4096], 0);
        while let Ok(read @ 1..) = stream.read(&mut buffer) {
            let has_cookie = String::from_utf8_lossy(&buffer[..read]).contains(&format!("cookie: id={visitor}\r\n"));
            count += 1;
            let status = if count % 10 == 0 { "503 No" } else { "200 OK" };
            let body = if has_cookie || count == 1 { count.to_string() } else { "stranger".to_owned() };
            let length = body.len();
            let text =
                format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nset-cookie: id={visitor}\r\n\r\n{body}");
            if stream.write_all(text.as_bytes()).is_err() {
                return;
            }
        }
    }

    #[test]
    fn visitors_keep_their_cookies_and_failures_are_counted() {
        let mut visitors = Visitors::connect(site(), 4).unwrap();
        let mut ask = Ask { method: "GET", path: "/", body: "", anonymous: false, expected: Expected::Next };
        let measured = visitors.ask(&ask, Limit::Requests(400), &[std::process::id()]).unwrap();
        // However the requests are spread over the visitors, one in ten of each is refused.
        assert_eq!((measured.requests, measured.wrong), (400, 0));
        assert!((37..=40).contains(&measured.failed), "{}", measured.failed);
        assert!(measured.seconds > 0.0 && measured.p50 <= measured.p99 && measured.others.len() == 1);
        ask.anonymous = true;
        let measured = visitors.ask(&ask, Limit::Requests(40), &[]).unwrap();
        assert_eq!(measured.wrong + measured.failed, 40);
    }

    #[test]
    fn a_time_is_kept() {
        let mut visitors = Visitors::connect(site(), 2).unwrap();
        let ask = Ask { method: "GET", path: "/", body: "", anonymous: false, expected: Expected::Anything };
        let limit = Limit::Time { before: Duration::from_millis(20), measured: Duration::from_millis(50) };
        let measured = visitors.ask(&ask, limit, &[]).unwrap();
        assert!(measured.requests > 0 && measured.seconds >= 0.05, "{measured:?}");
    }
}
