//! kill -9 in the middle of saves: what was acknowledged is there, and the database is whole.
#![cfg(unix)]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use cloakroom_core::store::{Created, Replaced, Store};
use common::*;

const CHILD: &str = "CLOAKROOM_TEST_SAVE_INTO";
const WRITERS: u32 = 4;

#[test]
fn acknowledged_saves_outlive_a_kill() {
    if let Some(path) = std::env::var_os(CHILD) {
        return save_until_killed(path.as_ref());
    }
    for enough in [20, 137] {
        let (_directory, path) = place();
        let mut child = Command::new("/proc/self/exe")
            .args(["--exact", "acknowledged_saves_outlive_a_kill", "--nocapture"])
            .env(CHILD, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut acknowledged = vec![None; WRITERS as usize];
        let mut seen = 0;
        // Lines that were on their way when the child died are acknowledgements as well.
        for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
            let Some((writer, round)) = line.strip_prefix("saved ").and_then(|rest| rest.split_once(' ')) else {
                continue;
            };
            let (writer, round): (usize, u32) = (writer.parse().unwrap(), round.parse().unwrap());
            acknowledged[writer] = Some(round);
            seen += 1;
            if seen == enough {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(seen >= enough, "the child died by itself");
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let store = store(&path).await;
            for (writer, round) in acknowledged.into_iter().enumerate() {
                let Some(round) = round else { continue };
                // Each round adds a record and moves the writer's own; the save after the last word may be in or out.
                for n in 0..=round {
                    assert!(store.load(&key(10_000 * (writer as u32 + 1) + n)).await.unwrap().is_some());
                }
                let stored = store.load(&key(writer as u32)).await.unwrap().unwrap().payload;
                let stored: u32 = std::str::from_utf8(&stored).unwrap().parse().unwrap();
                assert!((round..=round + 1).contains(&stored), "acknowledged {round}, stored {stored}");
            }
            assert_eq!(column(&mut stranger(&path).await, "PRAGMA integrity_check").await, ["ok"]);
        });
    }
}

fn save_until_killed(path: &std::path::Path) {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let store = std::sync::Arc::new(store(path).await);
        let mut tasks = Vec::new();
        for writer in 0..WRITERS {
            let store = std::sync::Arc::clone(&store);
            tasks.push(tokio::spawn(async move {
                let made = store.create(&key(writer), bytes("0"), LATER).await.unwrap();
                let Created::Created(mut version) = made else { panic!() };
                for round in 0.. {
                    store.create(&key(10_000 * (writer + 1) + round), bytes("x"), LATER).await.unwrap();
                    match store.replace(&key(writer), &version, bytes(&round.to_string()), LATER).await.unwrap() {
                        Replaced::Replaced(new) => version = new,
                        other => panic!("{other:?}"),
                    }
                    let mut out = std::io::stdout().lock();
                    writeln!(out, "saved {writer} {round}").and_then(|()| out.flush()).unwrap();
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
    });
}
