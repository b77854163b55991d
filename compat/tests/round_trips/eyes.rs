//! What a server was asked, as the server itself reports it.

use cloakroom_compat::live::memcached::Recorder;
use cloakroom_compat::live::redis::{Monitor, Redis};
use cloakroom_test_servers::{Kind, Options, Server, shared, statements};

/// An eye on one server, and what to tell a site so that it uses that server.
pub(crate) struct Eye {
    what: What,
    /// `DATABASE_URL`, or the lines of a cache.
    pub(crate) setting: String,
}

enum What {
    /// Which no server counts: one site of the whole program is on it.
    Sqlite {
        _directory: tempfile::TempDir,
    },
    Sql {
        server: Box<Server>,
        question: String,
        asking: u64,
        asked: u64,
    },
    Redis {
        monitor: Monitor,
        url: String,
    },
    Memcached(Recorder),
}

impl Eye {
    pub(crate) fn on_sqlite() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let setting = format!("sqlite://{}?mode=rwc", directory.path().join("sessions.sqlite3").display());
        statements().clear();
        Self { what: What::Sqlite { _directory: directory }, setting }
    }

    pub(crate) fn on_postgres() -> Option<Self> {
        let options = Options::new(Kind::Postgres).args(["-c", "shared_preload_libraries=pg_stat_statements"]);
        let server = options.require_or_skip()?;
        server.sql("postgres", "CREATE EXTENSION pg_stat_statements");
        let setting = server.database();
        let name = setting.rsplit('/').next().expect("a name");
        let question = format!(
            "SELECT COALESCE(SUM(calls), 0) FROM pg_stat_statements
             WHERE dbid = (SELECT oid FROM pg_database WHERE datname = '{name}')"
        );
        Some(Self::on_sql(server, question, setting))
    }

    pub(crate) fn on_mariadb() -> Option<Self> {
        let server = Options::new(Kind::MariaDb).require_or_skip()?;
        let setting = server.database();
        // The last of them counts the questions whether a connection is well.
        let question = "SELECT SUM(variable_value) FROM information_schema.global_status
             WHERE variable_name IN ('COM_SELECT', 'COM_INSERT', 'COM_UPDATE', 'COM_DELETE', 'COM_BEGIN', 'COM_COMMIT',
                                     'COM_ROLLBACK', 'COM_SET_OPTION', 'COM_ADMIN_COMMANDS')";
        Some(Self::on_sql(server, question.to_owned(), setting))
    }

    fn on_sql(server: Server, question: String, setting: String) -> Self {
        Self { what: What::Sql { server: Box::new(server), question, asking: 0, asked: 0 }, setting }
    }

    pub(crate) fn on_redis() -> Option<Self> {
        let url = shared(Kind::Redis)?.database();
        let setting = format!("BACKEND = 'django.core.cache.backends.redis.RedisCache'\nLOCATION = '{url}'");
        Some(Self { what: What::Redis { monitor: Redis::at(&url).monitor(), url }, setting })
    }

    pub(crate) fn on_memcached() -> Option<Self> {
        let recorder = Recorder::before(&shared(Kind::Memcached)?.address());
        let backend = "django.core.cache.backends.memcached.PyMemcacheCache";
        let setting = format!("BACKEND = '{backend}'\nLOCATION = '{}'", recorder.address());
        Some(Self { what: What::Memcached(recorder), setting })
    }

    /// Gets used to the site, whose connections are open by now: from here on, each look counts its own cost.
    pub(crate) fn settle(&mut self) {
        self.asked();
        if let What::Sql { asking, .. } = &mut self.what {
            *asking = 0;
            self.asked();
            let cost = self.sql_total();
            if let What::Sql { asking, asked, .. } = &mut self.what {
                *asking = cost - *asked;
                *asked = cost;
            }
        }
    }

    /// What was asked since the last look: the names of the commands, or where a server only counts, how many.
    pub(crate) fn asked(&mut self) -> String {
        match &mut self.what {
            What::Sqlite { .. } => {
                let statements = std::mem::take(&mut *statements()).into_iter();
                // Connections begin with it.
                statements.filter(|verb| verb != "PRAGMA").collect::<Vec<_>>().join(" ")
            }
            What::Sql { .. } => {
                let total = self.sql_total();
                let What::Sql { asking, asked, .. } = &mut self.what else { unreachable!() };
                let since = total - std::mem::replace(asked, total);
                (since - *asking).to_string()
            }
            What::Redis { monitor, .. } => {
                let sent = monitor.carried().into_iter().filter(|carried| !carried.by_script);
                let names = sent.map(|carried| String::from_utf8_lossy(&carried.words[0]).to_uppercase());
                let names = names.filter(|name| !matches!(name.as_str(), "SELECT" | "CLIENT"));
                names.collect::<Vec<_>>().join(" ")
            }
            What::Memcached(recorder) => {
                recorder.sent().into_iter().map(|sent| sent.words[0].clone()).collect::<Vec<_>>().join(" ")
            }
        }
    }

    /// Everything that a server was asked so far. In a database that counts its own statements too, with the question.
    fn sql_total(&self) -> u64 {
        let What::Sql { server, question, .. } = &self.what else { return 0 };
        server
            .sql(if server.kind() == Kind::Postgres { "postgres" } else { "mysql" }, question)
            .trim()
            .parse()
            .expect("a number")
    }

    /// Lets a cache lose an entry.
    pub(crate) fn forget(&self, key: &str) {
        let What::Redis { url, .. } = &self.what else { panic!("only of Redis so far") };
        Redis::at(url).ask(&["DEL", key]);
    }
}
