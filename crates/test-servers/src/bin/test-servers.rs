//! `test-servers COMMAND [ARGUMENT]...` runs a command, for which every kind of server that this machine has is started
//! once: the tests that it runs share them instead of starting their own. Ends with the command's exit code.

use std::process::{Command, ExitCode};

use cloakroom_test_servers::{Kind, Server};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let Some(program) = arguments.next() else {
        eprintln!("usage: test-servers COMMAND [ARGUMENT]...");
        return ExitCode::from(2);
    };
    // One that is missing is for the tests to report: they know whether they may do without.
    let servers: Vec<Server> = std::thread::scope(|scope| {
        let starts: Vec<_> = Kind::ALL.map(|kind| scope.spawn(move || Server::start(kind).ok())).into();
        starts.into_iter().filter_map(|start| start.join().expect("an installed server starts")).collect()
    });
    let mut command = Command::new(&program);
    match command.args(arguments).envs(servers.iter().map(Server::for_others)).status() {
        Ok(status) => status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from),
        Err(problem) => {
            eprintln!("test-servers: {}: {problem}", program.display());
            ExitCode::from(127)
        }
    }
}
