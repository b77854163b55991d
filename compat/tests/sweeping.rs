//! Sweeps of the command and of the site itself: interrupted, watched on a terminal, several at once, in the background.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use cloakroom_compat::live::http::Visitor;
use cloakroom_compat::live::process::{Finished, Process};
use cloakroom_compat::live::site::{Deployment, Engine, SERVE};
use cloakroom_test_servers::shared;
use rustix::process::{Pid, Signal, kill_process};

const TABLES: [Engine; 3] = [Engine::Db, Engine::DbPostgres, Engine::DbMariaDb];
const LIVE: usize = 20;

/// A table with so many expired sessions, and some live ones; nothing if there is no such server.
fn full(engine: Engine, expired: usize) -> Option<Deployment> {
    if let Some((kind, _)) = engine.database() {
        shared(kind)?;
    }
    let deployment = Deployment::migrated(engine);
    let insert = |count: usize, name: &str, seconds: &str| {
        let sql = match engine {
            Engine::DbPostgres => format!(
                "INSERT INTO django_session SELECT '{name}' || i, 'x', now() + interval '{seconds} seconds'
                 FROM generate_series(1, {count}) AS i"
            ),
            Engine::DbMariaDb => format!(
                "INSERT INTO django_session SELECT CONCAT('{name}', seq), 'x', UTC_TIMESTAMP() + INTERVAL {seconds} SECOND
                 FROM seq_1_to_{count}"
            ),
            _ => format!(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})
                 INSERT INTO django_session SELECT '{name}' || i, 'x', datetime('now', '{seconds} seconds') FROM n"
            ),
        };
        deployment.database().rows(&sql);
    };
    insert(expired, "expired", "-100");
    insert(LIVE, "live", "3600");
    Some(deployment)
}

fn count(deployment: &Deployment) -> usize {
    deployment.database().sessions().len()
}

/// What a sweep with `--json` said.
fn removed(finished: &Finished) -> usize {
    let json = cloakroom_compat::live::json::Json::parse(finished.stdout.trim()).expect("JSON");
    usize::try_from(json.get("removed").and_then(|n| n.as_i64()).expect("a number")).expect("a number")
}

#[test]
fn sweeping_is_interrupted_and_gone_on_with() {
    for engine in TABLES {
        let Some(deployment) = full(engine, 20_000) else { continue };
        // Small batches, so that there is time to interrupt.
        let command = deployment.cloakroom_command(&["clearsessions", "--batch", "5"]);
        let mut sweep = Process::start("clearsessions", command);
        let begin = Instant::now();
        while count(&deployment) == 20_000 + LIVE {
            assert!(begin.elapsed() < Duration::from_secs(60), "nothing is removed: {}", sweep.log());
        }
        let pid = Pid::from_raw(sweep.id().try_into().expect("a number of a process")).expect("a process");
        kill_process(pid, Signal::INT).expect("a process of ours");
        assert_eq!(sweep.wait().code(), Some(130), "{}", sweep.log());
        let log = sweep.wait_for("its last word", |log| log.contains("Interrupted").then(|| log.to_owned()));
        let left = count(&deployment) - LIVE;
        assert!(left > 0 && left < 20_000, "{left} of 20000 are left");
        assert!(log.contains(&format!("{} expired sessions removed", 20_000 - left)), "{left} are left: {log}");

        let finished = deployment.command(&["clearsessions", "--json"]).ok();
        assert_eq!((removed(&finished), count(&deployment)), (left, LIVE), "{engine:?}");
    }
}

/// Killed in the middle, too: what was removed is removed, and nothing else.
#[test]
fn sweeping_is_killed_and_gone_on_with() {
    for engine in TABLES {
        let Some(deployment) = full(engine, 20_000) else { continue };
        let command = deployment.cloakroom_command(&["clearsessions", "--batch", "5"]);
        let mut sweep = Process::start("clearsessions", command);
        while count(&deployment) == 20_000 + LIVE && sweep.is_running() {}
        sweep.kill();
        deployment.command(&["clearsessions"]).ok();
        assert_eq!(count(&deployment), LIVE, "{engine:?}");
    }
}

#[test]
fn sweeping_by_several_at_once_does_no_harm() {
    for engine in TABLES {
        let Some(deployment) = full(engine, 20_000) else { continue };
        let sweeps: Vec<Finished> = thread::scope(|scope| {
            let sweep = || deployment.command(&["clearsessions", "--json", "--batch", "50"]);
            let sweeps: Vec<_> = (0..3).map(|_| scope.spawn(sweep)).collect();
            sweeps.into_iter().map(|sweep| sweep.join().expect("a sweep").ok()).collect()
        });
        // What one of them had in its hands when the others looked may be left to a next sweep.
        let rest = deployment.command(&["clearsessions", "--json"]).ok();
        let all: usize = sweeps.iter().chain([&rest]).map(removed).sum();
        assert_eq!((all, count(&deployment)), (20_000, LIVE), "{engine:?}");
    }
}

/// Standard error on a terminal, which is a pair of files: what one end is told, the other one shows.
fn on_a_terminal(mut command: Command) -> (Finished, String) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    let master: OwnedFd = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&master).expect("a terminal of ours");
    unlockpt(&master).expect("a terminal of ours");
    let name = ptsname(&master, Vec::new()).expect("a name").into_string().expect("a name in UTF-8");
    let terminal = File::options().read(true).write(true).open(name).expect("its other end");
    rustix::termios::tcsetwinsize(
        &terminal,
        rustix::termios::Winsize { ws_row: 24, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 },
    )
    .expect("a size");
    let reader = thread::spawn(move || {
        let (mut master, mut shown, mut bytes) = (File::from(master), Vec::new(), [0; 4096]);
        // At the end of the program, reading fails.
        while let Ok(length @ 1..) = master.read(&mut bytes) {
            shown.extend_from_slice(&bytes[..length]);
        }
        String::from_utf8_lossy(&shown).into_owned()
    });
    command.env("TERM", "xterm").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(terminal);
    let output = command.spawn().expect("the command").wait_with_output().expect("its end");
    // The command holds the terminal open as well as its process did.
    drop(command);
    let finished = Finished {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::new(),
    };
    (finished, reader.join().expect("what was shown"))
}

#[test]
fn sweeping_shows_rate_and_remaining_time_on_a_terminal() {
    let deployment = full(Engine::Db, 30_000).expect("SQLite is built in");
    let (finished, shown) = on_a_terminal(deployment.cloakroom_command(&["clearsessions", "--batch", "100"]));
    assert!(finished.ok().stdout.contains("30000 expired sessions removed from the db engine"));
    let line = shown.split('\r').find(|line| line.contains("of 30000 expired sessions removed")).unwrap_or(&shown);
    assert!(line.contains("/s") && line.contains(" left"), "{line:?}");
}

/// Waits until nothing but live sessions is left.
fn swept(deployment: &Deployment, live: usize) {
    let begin = Instant::now();
    while deployment.stored().len() > live {
        assert!(begin.elapsed() < Duration::from_secs(60), "{} are left", deployment.stored().len());
        thread::sleep(Duration::from_millis(20));
    }
}

/// Sites that sweep by themselves, two on one store: what has expired goes, what lives stays, and they stop when they
/// are told to.
#[test]
fn sweeping_goes_on_in_the_background() {
    for engine in [Engine::Db, Engine::DbPostgres, Engine::DbMariaDb, Engine::CachedDb, Engine::File] {
        let servers = [engine.database().map(|(kind, _)| kind), engine.cache_server()];
        if servers.into_iter().flatten().any(|kind| shared(kind).is_none()) {
            continue;
        }
        let deployment = Deployment::migrated(engine).with("SESSION_SWEEP_INTERVAL", "1");
        let sites = [deployment.cloakroom(), deployment.cloakroom()];
        let mut keeper = Visitor::new();
        keeper.get(&sites[0], "set", &[("k", "coat"), ("v", "1")]).ok();
        for round in 0..2 {
            for site in &sites {
                let mut visitor = Visitor::new();
                visitor.get(site, "set", &[("k", "coat"), ("v", "1")]).ok();
                visitor.get(site, "expiry", &[("s", "1")]).ok();
            }
            swept(&deployment, 1);
            assert_eq!(keeper.get(&sites[1], "get", &[("k", "coat")]).ok().member("value").to_string(), "1", "{round}");
        }
        for site in &sites {
            assert_eq!(site.stop().code(), Some(0), "{engine:?}: {}", site.log());
            assert!(!site.log().contains("WARN"), "{engine:?}: {}", site.log());
        }
    }
}

/// Without the setting nothing sweeps, and what the command does is its own sweep alone.
#[test]
fn sweeping_is_off_unless_it_is_asked_for() {
    let deployment = full(Engine::Db, 10).expect("SQLite is built in");
    let shown = deployment.command(&["settings"]).ok().stdout;
    assert!(shown.lines().any(|line| line.contains("SESSION_SWEEP_INTERVAL") && line.contains("None")), "{shown}");
    let site = Process::start("cloakroom serve", deployment.cloakroom_command(SERVE));
    thread::sleep(Duration::from_millis(300));
    assert_eq!(count(&deployment), 10 + LIVE);
    drop(site);
    let deployment = deployment.with("SESSION_SWEEP_INTERVAL", "3600");
    assert_eq!(removed(&deployment.command(&["clearsessions", "--json"]).ok()), 10);
    let wrong = deployment.with("SESSION_SWEEP_INTERVAL", "often").command(&["clearsessions"]);
    assert!(wrong.code != Some(0) && wrong.stderr.contains("SESSION_SWEEP_INTERVAL"), "{wrong:#?}");
}
