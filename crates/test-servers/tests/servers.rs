//! The servers themselves: they start, break and come back as told, and nothing is left of them.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use cloakroom_test_servers::{Kind, Options, require_or_skip, shared};

/// What a server answers to a line, over a connection of its own. `None` if it keeps silent for a second.
fn ask(port: u16, line: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    exchange(&mut stream, line)
}

fn exchange(stream: &mut TcpStream, line: &str) -> Option<String> {
    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    stream.write_all(format!("{line}\r\n").as_bytes()).ok()?;
    let mut answer = [0; 1000];
    match stream.read(&mut answer) {
        Ok(read) => Some(String::from_utf8_lossy(&answer[..read]).into_owned()),
        Err(e) => {
            assert!(
                matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::ConnectionReset),
                "{e}"
            );
            None
        }
    }
}

#[test]
fn redis_breaks_and_comes_back() {
    let Some(server) = require_or_skip(Kind::Redis) else { return };
    let port = server.port();
    assert_eq!(ask(port, "SET a 1").unwrap(), "+OK\r\n");

    server.freeze();
    assert_eq!(ask(port, "GET a"), None, "a frozen server is silent");
    assert!(server.is_running());
    server.thaw();
    assert_eq!(ask(port, "GET a").unwrap(), "$1\r\n1\r\n");

    server.kill();
    assert!(!server.is_running());
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    server.restart();
    assert_eq!(server.port(), port);
    assert_eq!(ask(port, "GET a").unwrap(), "$1\r\n1\r\n", "what was acknowledged survives a kill");

    server.stop();
    server.stop();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    server.restart();
    assert_eq!(ask(port, "GET a").unwrap(), "$1\r\n1\r\n");

    let directory = server.directory().to_owned();
    assert!(directory.exists());
    drop(server);
    assert!(!directory.exists());
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
}

#[test]
fn redis_takes_options() {
    let options = Options::new(Kind::Redis).args(["--maxmemory", "3mb"]).password("sesame");
    let Some(server) = options.require_or_skip() else { return };
    assert!(ask(server.port(), "GET a").unwrap().starts_with("-NOAUTH"));
    let mut stream = TcpStream::connect(server.address()).unwrap();
    assert_eq!(exchange(&mut stream, "AUTH sesame").unwrap(), "+OK\r\n");
    assert!(exchange(&mut stream, "CONFIG GET maxmemory").unwrap().contains("3145728"));
    assert_eq!(server.url(), format!("redis://:sesame@127.0.0.1:{}/0", server.port()));
    assert_ne!(server.database(), server.database());
}

#[test]
fn redis_speaks_tls() {
    let Some(server) = Options::new(Kind::Redis).tls().require_or_skip() else { return };
    let verified = Command::new("openssl")
        .args(["s_client", "-verify_return_error", "-verify_ip", "127.0.0.1", "-connect", &server.address(), "-CAfile"])
        .arg(server.ca_certificate())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&verified.stdout);
    assert!(said.contains("Verify return code: 0 (ok)"), "{said}{}", String::from_utf8_lossy(&verified.stderr));
}

#[test]
fn memcached_breaks_and_comes_back() {
    let Some(server) = Options::new(Kind::Memcached).args(["-I", "512k"]).require_or_skip() else { return };
    let port = server.port();
    assert_eq!(ask(port, "set a 0 0 1\r\nx").unwrap(), "STORED\r\n");
    assert!(ask(port, "stats settings").unwrap().contains("STAT"));
    server.freeze();
    assert_eq!(ask(port, "get a"), None);
    server.thaw();
    assert_eq!(ask(port, "get a").unwrap(), "VALUE a 0 1\r\nx\r\nEND\r\n");
    server.kill();
    server.restart();
    assert_eq!(ask(port, "get a").unwrap(), "END\r\n", "a new one is empty");
}

/// A database server keeps its data through all that happens to it.
fn database_breaks_and_comes_back(kind: Kind) {
    let Some(server) = Options::new(kind).tls().require_or_skip() else { return };
    let database = server.database();
    assert_ne!(database, server.database());
    server.sql(&database, "CREATE TABLE t (a integer)");
    for (n, break_it) in [
        (1, (|s| s.stop()) as fn(&cloakroom_test_servers::Server)),
        (2, |s| s.kill()),
        (3, |s| (s.freeze(), s.kill()).1),
        (4, |s| s.freeze()),
    ] {
        server.sql(&database, &format!("INSERT INTO t VALUES ({n})"));
        break_it(&server);
        server.restart();
        assert_eq!(server.sql(&database, "SELECT COUNT(*) FROM t").trim(), n.to_string());
    }
    assert!(server.log().contains("ready"));
}

#[test]
fn postgres_breaks_and_comes_back() {
    database_breaks_and_comes_back(Kind::Postgres);
}

#[test]
fn mariadb_breaks_and_comes_back() {
    database_breaks_and_comes_back(Kind::MariaDb);
}

#[test]
fn all_tests_of_a_program_share_one() {
    let servers: Vec<_> = std::thread::scope(|scope| {
        let tests: Vec<_> = (0..4).map(|_| scope.spawn(|| shared(Kind::Redis).map(|s| s.port()))).collect();
        tests.into_iter().map(|test| test.join().unwrap()).collect()
    });
    assert!(servers.iter().all(|port| *port == servers[0]));
}

/// Not a test by itself: what [`nothing_is_left_of_a_killed_program`] runs and kills.
#[test]
#[ignore = "run by another test"]
fn start_and_wait() {
    let server = shared(Kind::Redis).unwrap();
    println!("\n{} {}", server.port(), server.directory().display());
    std::thread::sleep(Duration::from_secs(600));
}

#[test]
fn nothing_is_left_of_a_killed_program() {
    let Some(probe) = require_or_skip(Kind::Redis) else { return };
    drop(probe);
    let mut program = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "start_and_wait", "--nocapture"])
        .env_remove("CLOAKROOM_TEST_REDIS") // a server of its own, whatever runs this test
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut printed = String::new();
    let mut out = program.stdout.take().unwrap();
    let (port, directory) = loop {
        let mut byte = [0];
        out.read_exact(&mut byte).unwrap();
        printed.push(byte[0] as char);
        if printed.ends_with('\n')
            && let Some((port, directory)) = printed.lines().last().and_then(|line| line.split_once(" /"))
            && let Ok(port) = port.parse::<u16>()
        {
            break (port, format!("/{directory}"));
        }
    };
    assert_eq!(ask(port, "PING").unwrap(), "+PONG\r\n");
    program.kill().unwrap();
    program.wait().unwrap();
    let gone = || !Path::new(&directory).exists() && TcpStream::connect(("127.0.0.1", port)).is_err();
    for _ in 0..1000 {
        if gone() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("the server of a killed program is still there");
}

/// What `test-servers` starts, all programs of its command share, and then it is gone.
#[test]
fn programs_of_one_run_share_a_server() {
    let Some(probe) = require_or_skip(Kind::Redis) else { return };
    drop(probe);
    let run = |script: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_test-servers")).args(["sh", "-c", script]).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, printed) = run(r#"echo "$CLOAKROOM_TEST_REDIS"; exit 7"#);
    assert_eq!(code, Some(7), "the command's own code");
    let (port, directory) = printed.trim().split_once(' ').unwrap();
    assert!(ask(port.parse().unwrap(), "PING").is_none(), "with the command the server is gone");
    assert!(!std::path::Path::new(directory).exists());

    let test = std::env::current_exe().unwrap();
    let start = format!("'{}' --ignored --exact tell_the_shared_one --nocapture", test.display());
    let (code, printed) = run(&format!("{start} && {start}"));
    assert_eq!(code, Some(0), "{printed}");
    let urls: Vec<&str> = printed.lines().filter(|line| line.contains("redis://")).collect();
    let [first, second] = urls[..] else { panic!("{printed}") };
    assert_eq!(first.rsplit_once('/').unwrap().0, second.rsplit_once('/').unwrap().0, "one server");
    assert_ne!(first, second, "and a database for each");
}

/// Not a test by itself: what [`programs_of_one_run_share_a_server`] runs.
#[test]
#[ignore = "run by another test"]
fn tell_the_shared_one() {
    println!("\n{}", shared(Kind::Redis).unwrap().database());
}
