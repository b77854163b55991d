//! A process that is killed while it writes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use cloakroom_compat::live::http::Visitor;
use cloakroom_compat::live::site::{Deployment, Engine};

fn every_acknowledged_save_is_there(engine: Engine) {
    let deployment = Deployment::migrated(engine);
    let mut visitors: Vec<(Visitor, usize)> = (0..4).map(|_| (Visitor::new(), 0)).collect();
    for round in 0..3 {
        let site = deployment.cloakroom();
        let acknowledged = AtomicUsize::new(0);
        thread::scope(|scope| {
            for (visitor, saved) in &mut visitors {
                let (site, acknowledged) = (&site, &acknowledged);
                scope.spawn(move || {
                    // Numbered in order, so that the count says which keys have to be there.
                    while let Ok(reply) = {
                        let (key, value) = (format!("k{saved}"), saved.to_string());
                        visitor.try_get(site, "set", &[("k", &key), ("v", &value)])
                    } {
                        reply.ok();
                        *saved += 1;
                        acknowledged.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            while acknowledged.load(Ordering::Relaxed) < 150 && site.is_running() {
                thread::sleep(std::time::Duration::from_millis(1));
            }
            site.kill();
        });

        let site = deployment.cloakroom();
        for (visitor, saved) in &mut visitors {
            let data = visitor.get(&site, "all", &[]).ok().member("data");
            for number in 0..*saved {
                let found = data.get(&format!("k{number}")).and_then(|value| value.as_i64());
                assert_eq!(found, Some(number as i64), "{engine:?}, round {round}: {saved} saved, {data}");
            }
            // The save under way when the process died may have reached the store; it counts from now on.
            *saved = data.keys().len();
        }
    }
}

#[test]
fn bad_end_of_the_process_loses_nothing_on_db() {
    every_acknowledged_save_is_there(Engine::Db);
}

#[test]
fn bad_end_of_the_process_loses_nothing_on_file() {
    every_acknowledged_save_is_there(Engine::File);
}
