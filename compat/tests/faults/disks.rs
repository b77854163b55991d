//! Disks that are full, under SQLite and under the file engine.

use std::process::Command;

use cloakroom_compat::live::http::Visitor;
use cloakroom_compat::live::site::{Deployment, Engine, Running, SERVE};
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::*;

/// A site whose disk can be filled at will. No file of the process may grow then: what the system says to it is what it
/// says when a disk is full, but for the name of the error.
struct Filling(Running);

impl Filling {
    fn start(deployment: Deployment) -> Self {
        let given = deployment.cloakroom_command(SERVE);
        // The system kills who writes too much, unless it is told not to.
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(given.get_program()).args(given.get_args());
        command.current_dir(given.get_current_dir().expect("a directory"));
        for (name, value) in given.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        Self(deployment.running_as(command))
    }

    fn set_full(&self, full: bool) {
        let pid = Pid::from_raw(self.0.id().try_into().expect("a number of a process"));
        let limit = Rlimit { current: full.then_some(0), maximum: None };
        prlimit(pid, Resource::Fsize, limit).expect("the limits of a process of ours");
    }
}

fn a_full_disk_refuses_and_keeps(engine: Engine) {
    let filling = Filling::start(Deployment::migrated(engine));
    let site: &Site = &filling.0;
    let mut owner = visitor_with_a_coat(site);
    let before = filling.0.deployment.stored();
    filling.set_full(true);
    for page in [SET, ("incr", &[("k", "n")]), ("cycle", &[]), ("bulk", &[("n", "10"), ("size", "1000")])] {
        all_say_unavailable(site, &owner, &[page]);
    }
    says_unavailable(&get(&mut Visitor::new(), site, SET), site);
    others_are_not_affected(site, &owner);
    assert_eq!(data(&mut owner, site), r#"{"coat":"red"}"#, "what stands there can be read");
    assert_eq!(filling.0.deployment.stored(), before, "the former data stays as it was");

    filling.set_full(false);
    works(&mut owner, site, SET);
    assert_eq!(data(&mut owner, site), r#"{"coat":"green"}"#, "the next request works");
    assert_eq!(filling.0.deployment.stored().len(), 1, "nothing was left behind");
}

#[test]
fn faults_of_a_full_disk_under_sqlite() {
    a_full_disk_refuses_and_keeps(Engine::Db);
}

#[test]
fn faults_of_a_full_disk_under_files() {
    a_full_disk_refuses_and_keeps(Engine::File);
}
