//! What differs between the kinds of servers: programs, first steps, command lines.

use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use crate::process::{Ready, run};
use crate::{Kind, Missing, Options, PASSWORD, USER, certificates, english, programs};

/// How to start a server; all of its programs are there.
pub(crate) struct Plan<'a> {
    options: &'a Options,
    program: PathBuf,
    /// What makes an empty data directory.
    installer: Option<PathBuf>,
    openssl: Option<PathBuf>,
}

/// The server's socket, if its path is short enough for one.
fn socket(directory: &Path) -> Option<PathBuf> {
    let path = directory.join("socket");
    (path.as_os_str().len() < 90).then_some(path)
}

fn data(directory: &Path) -> PathBuf {
    directory.join("data")
}

fn port_file(directory: &Path) -> PathBuf {
    directory.join("ports")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary directories have names in UTF-8")
}

impl<'a> Plan<'a> {
    pub(crate) fn new(options: &'a Options) -> Result<Self, Missing> {
        let find = |names| programs::find(options.kind, names);
        let (program, installer) = match options.kind {
            Kind::Postgres => {
                find(&["psql"])?;
                find(&["createdb"])?;
                (find(&["postgres"])?, Some(find(&["initdb"])?))
            }
            Kind::MariaDb => {
                find(&["mariadb"])?;
                (find(&["mariadbd"])?, Some(find(&["mariadb-install-db"])?))
            }
            Kind::Redis => (find(&["redis-server", "valkey-server"])?, None),
            Kind::Valkey => (find(&["valkey-server"])?, None),
            Kind::Memcached => (find(&["memcached"])?, None),
        };
        let openssl = options.tls.then(|| find(&["openssl"])).transpose()?;
        Ok(Self { options, program, installer, openssl })
    }

    /// Makes the data directory and what else the server wants to find.
    pub(crate) fn prepare(&self, directory: &Path) {
        let data = data(directory);
        std::fs::create_dir(&data).expect("a directory for data");
        programs::give_away(&data);
        if let Some(openssl) = &self.openssl {
            certificates::make(openssl, directory);
        }
        let Some(installer) = &self.installer else { return };
        let mut command = english(installer);
        // MariaDB, when it starts, removes what looks like its own from the directory for temporary files: that of
        // another server too, if they share one.
        command.env("TMPDIR", directory);
        programs::demote(&mut command, directory);
        match self.options.kind {
            Kind::Postgres => {
                let password = directory.join("password");
                std::fs::write(&password, PASSWORD).expect("a file for the password");
                programs::give_away(&password);
                command.args([
                    "--no-sync",
                    "--auth=scram-sha-256",
                    "--encoding=UTF8",
                    "--locale=C",
                    "--username",
                    USER,
                ]);
                command.arg(format!("--pwfile={}", text(&password))).arg("-D").arg(data);
            }
            _ => {
                let users = ["localhost", "%"].map(|host| {
                    format!(
                        "CREATE USER IF NOT EXISTS '{USER}'@'{host}' IDENTIFIED BY '{PASSWORD}';\n\
                         GRANT ALL ON *.* TO '{USER}'@'{host}' WITH GRANT OPTION;\n"
                    )
                });
                std::fs::write(directory.join("init.sql"), users.concat()).expect("a file for the first statements");
                command.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
                command.args([
                    "--skip-name-resolve",
                    "--innodb-log-file-size=8M",
                    "--innodb-flush-log-at-trx-commit=0",
                ]);
                command.arg(format!("--datadir={}", text(&data)));
            }
        }
        run(&mut command);
    }

    /// The server itself.
    pub(crate) fn command(&self, directory: &Path, port: u16) -> Command {
        let mut command = english(&self.program);
        command.env("TMPDIR", directory);
        programs::demote(&mut command, directory);
        let port = port.to_string();
        let data = data(directory);
        let (tls, durable) = (self.options.tls, self.options.durable);
        let certificate = certificates::certificate(directory);
        let (certificate, private_key) = (text(&certificate), certificates::private_key(directory));
        let (ca, private_key) = (certificates::ca(directory), text(&private_key));
        match self.options.kind {
            Kind::Postgres => {
                command.arg("-D").arg(data).args(["-p", &port, "-h", "127.0.0.1"]);
                command.args(["-c", "shared_buffers=16MB", "-c", "max_connections=200"]);
                // Sockets of PostgreSQL have a name of their own, in a directory.
                let sockets = socket(directory).map_or("", |_| text(directory));
                command.args(["-c", &format!("unix_socket_directories={sockets}")]);
                if !durable {
                    command.args(["-c", "fsync=off", "-c", "full_page_writes=off"]);
                }
                if tls {
                    command.args(["-c", "ssl=on", "-c", &format!("ssl_cert_file={certificate}")]);
                    command.args(["-c", &format!("ssl_key_file={private_key}")]);
                }
            }
            Kind::MariaDb => {
                command.args(["--no-defaults", "--bind-address=127.0.0.1", "--skip-name-resolve", "--skip-log-bin"]);
                command.args(["--innodb-buffer-pool-size=16M", "--innodb-log-file-size=8M", "--key-buffer-size=1M"]);
                command.args(["--character-set-server=utf8mb4", "--collation-server=utf8mb4_general_ci"]);
                command.arg(format!("--port={port}")).arg(format!("--datadir={}", text(&data)));
                command.arg(format!("--init-file={}", text(&directory.join("init.sql"))));
                command.arg(format!("--pid-file={}", text(&directory.join("pid"))));
                command.arg(format!("--socket={}", socket(directory).as_deref().map_or("socket", text)));
                if !durable {
                    command.args(["--innodb-flush-log-at-trx-commit=2", "--innodb-doublewrite=0"]);
                }
                if tls {
                    command.arg(format!("--ssl-ca={}", text(&ca))).arg(format!("--ssl-cert={certificate}"));
                    command.arg(format!("--ssl-key={private_key}"));
                }
            }
            Kind::Redis | Kind::Valkey => {
                command.args(["--bind", "127.0.0.1", "--dir", text(&data), "--daemonize", "no", "--databases", "1001"]);
                // The log of commands, in the kernel's hands after each: enough to survive a kill.
                let sync = if durable { "always" } else { "no" };
                command.args(["--save", "", "--appendonly", "yes", "--appendfsync", sync]);
                match tls {
                    false => command.args(["--port", &port]),
                    true => command.args(["--port", "0", "--tls-port", &port, "--tls-auth-clients", "no"]).args([
                        "--tls-cert-file",
                        certificate,
                        "--tls-key-file",
                        private_key,
                        "--tls-ca-cert-file",
                        text(&ca),
                    ]),
                };
                if let Some(socket) = socket(directory) {
                    command.args(["--unixsocket", text(&socket)]);
                }
                if let Some(password) = &self.options.password {
                    command.args(["--requirepass", password]);
                }
            }
            Kind::Memcached => {
                command.env("MEMCACHED_PORT_FILENAME", port_file(directory));
                command.args(["-l", "127.0.0.1", "-p", &port, "-U", "0"]);
                if tls {
                    command.args(["-Z", "-o", &format!("ssl_chain_cert={certificate},ssl_key={private_key}")]);
                }
            }
        }
        command.args(&self.options.args);
        command
    }

    /// How the server says that it is ready. By its own files, not by its port: another server may have that.
    pub(crate) fn ready(&self, directory: &Path) -> Ready {
        match self.options.kind {
            Kind::Postgres => Ready::Log("database system is ready to accept"),
            Kind::MariaDb => Ready::Log("ready for connections"),
            Kind::Redis | Kind::Valkey => Ready::Log("eady to accept connections"),
            Kind::Memcached => Ready::File(port_file(directory)),
        }
    }

    /// What asks the server to stop without waiting for its clients.
    pub(crate) fn stop(&self) -> Signal {
        match self.options.kind {
            Kind::Postgres => Signal::INT,
            _ => Signal::TERM,
        }
    }
}

/// A command of the server's own client; it is there, since the server started.
fn client_program(kind: Kind, name: &'static str, directory: &Path) -> Command {
    let program = programs::find(kind, &[name]).unwrap_or_else(|missing| panic!("{missing}"));
    let mut command = english(&program);
    programs::demote(&mut command, directory);
    command.env("PGPASSWORD", PASSWORD).env("MYSQL_PWD", PASSWORD);
    command
}

/// What makes a database, where one has to be made.
pub(crate) fn create_database(kind: Kind, directory: &Path, port: u16, name: &str) -> Option<Command> {
    match kind {
        Kind::Postgres => {
            let mut command = client_program(kind, "createdb", directory);
            command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-U", USER, "--maintenance-db=postgres", name]);
            Some(command)
        }
        Kind::MariaDb => Some(client(kind, directory, port, "mysql", &format!("CREATE DATABASE `{name}`"))),
        Kind::Redis | Kind::Valkey | Kind::Memcached => None,
    }
}

/// What runs SQL.
pub(crate) fn client(kind: Kind, directory: &Path, port: u16, database: &str, sql: &str) -> Command {
    let port = port.to_string();
    match kind {
        Kind::Postgres => {
            let mut command = client_program(kind, "psql", directory);
            command.args(["-X", "-q", "-A", "-t", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", &port]);
            command.args(["-U", USER, "-d", database, "-c", sql]);
            command
        }
        Kind::MariaDb => {
            let mut command = client_program(kind, "mariadb", directory);
            command.args(["--no-defaults", "--protocol=tcp", "-h", "127.0.0.1", "-P", &port, "-u", USER]);
            command.args(["--batch", "--skip-column-names", "--default-character-set=utf8mb4"]);
            command.args(["-D", database, "-e", sql]);
            command
        }
        Kind::Redis | Kind::Valkey | Kind::Memcached => panic!("{} has no SQL", kind.name()),
    }
}
