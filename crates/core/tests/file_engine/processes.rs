//! Several processes on one directory, one of which is killed. The others are this test's own program, run again.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::*;

/// Says to a test that it runs in a process of its own, on this directory.
const CHILD: &str = "CLOAKROOM_TEST_FILES";
const KEYS: usize = 6;

/// Runs one of the tests below, which does its work only for us.
fn child(test: &str, directory: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("processes::{test}"), "--nocapture"])
        .env(CHILD, directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn store_of_child() -> Option<FileStore> {
    let directory = std::env::var_os(CHILD)?;
    Some(open(Path::new(&directory), &Clock::system()).unwrap())
}

fn soon() -> Timestamp {
    Clock::system().now().checked_add_micros(AGE * 1_000_000).unwrap()
}

/// What the number says, up to some 30 kB of it, so that a file that was half written shows.
fn numbered(number: u64) -> Bytes {
    bytes(&format!("{number}:{}:end", format!("{number} ").repeat(number as usize % 5_000)))
}

/// Work for a process that will be killed: saves as fast as it can, and says what was acknowledged.
#[tokio::test]
async fn child_saves() {
    let Some(store) = store_of_child() else { return };
    let mut versions: HashMap<String, Version> = HashMap::new();
    for number in 0.. {
        let name = format!("savedkey{}", number as usize % KEYS);
        let payload = numbered(number);
        let version = match versions.get(&name) {
            None => match store.create(&key(&name), payload, soon()).await.unwrap() {
                Created::Created(version) => version,
                Created::Taken => panic!("taken"),
            },
            Some(version) => match store.replace(&key(&name), version, payload, soon()).await.unwrap() {
                Replaced::Replaced(version) => version,
                other => panic!("{other:?}"),
            },
        };
        versions.insert(name.clone(), version);
        let mut out = std::io::stdout().lock();
        writeln!(out, "saved {name} {number}").unwrap();
        out.flush().unwrap();
    }
}

#[tokio::test]
async fn a_process_that_is_killed_loses_nothing_it_acknowledged() {
    if std::env::var_os(CHILD).is_some() {
        return;
    }
    for round in 0..8 {
        let directory = tempfile::tempdir_in(&places()[round as usize % 2]).unwrap();
        let mut saver = child("child_saves", directory.path());
        let mut lines = BufReader::new(saver.stdout.take().unwrap()).lines();
        let mut acknowledged: HashMap<String, u64> = HashMap::new();
        let mut killed_at = None;
        // After the kill, what the pipe still holds was acknowledged too.
        while let Some(Ok(line)) = lines.next() {
            if let ["saved", name, number] = line.split(' ').collect::<Vec<_>>()[..] {
                acknowledged.insert(name.to_owned(), number.parse().unwrap());
                let started = *killed_at.get_or_insert_with(|| Instant::now() + Duration::from_millis(40 + 37 * round));
                if Instant::now() > started {
                    saver.kill().unwrap();
                }
            }
        }
        assert!(!saver.wait().unwrap().success());
        assert!(acknowledged.len() == KEYS, "{acknowledged:?}");

        let now = Clock::system().now().checked_add_micros(900_000_000).unwrap();
        let clock = Clock::manual(now);
        let store = open(directory.path(), &clock).unwrap();
        for (name, &number) in &acknowledged {
            let stored = store.load(&key(name)).await.unwrap().expect("an acknowledged session");
            let text = String::from_utf8(stored.payload.to_vec()).unwrap();
            let found: u64 = text.split(':').next().unwrap().parse().unwrap();
            // The next save may have been carried out and not yet told.
            assert!(found == number || found == number + KEYS as u64, "{name}: {found} stands, {number} was told");
            assert!(stored.payload == numbered(found), "{name}: the file is half written");
            let replaced = store.replace(&key(name), &stored.version, bytes("on"), now).await.unwrap();
            assert!(matches!(replaced, Replaced::Replaced(_)), "the dead process has left a lock");
        }
        // What it was about to write is cleared away with the sessions.
        clock.advance(Duration::from_secs(7_200));
        while store.clear_expired(100).await.unwrap().more {}
        assert_eq!(names(directory.path()), Vec::<String>::new());
    }
}

/// Work for one of two processes: counts to a hundred in a file that the other counts in too.
#[tokio::test]
async fn child_counts() {
    let Some(store) = store_of_child() else { return };
    for _ in 0..100 {
        let mut stored = store.load(&key(KEY)).await.unwrap().expect("the counter");
        loop {
            let count: u64 = std::str::from_utf8(&stored.payload).unwrap().parse().unwrap();
            let next = bytes(&(count + 1).to_string());
            match store.replace(&key(KEY), &stored.version, next, soon()).await.unwrap() {
                Replaced::Replaced(_) => break,
                Replaced::Conflict(standing) => stored = standing,
                Replaced::Gone => panic!("the counter is gone"),
            }
        }
    }
}

#[tokio::test]
async fn processes_do_not_lose_each_others_changes() {
    if std::env::var_os(CHILD).is_some() {
        return;
    }
    for place in places() {
        let directory = tempfile::tempdir_in(place).unwrap();
        let store = open(directory.path(), &Clock::system()).unwrap();
        store.create(&key(KEY), bytes("0"), soon()).await.unwrap();
        let counters: Vec<Child> = (0..3).map(|_| child("child_counts", directory.path())).collect();
        for counter in counters {
            assert!(counter.wait_with_output().unwrap().status.success());
        }
        let stored = store.load(&key(KEY)).await.unwrap().unwrap();
        assert_eq!(stored.payload, "300");
        assert_eq!(names(directory.path()).len(), 1);
    }
}
