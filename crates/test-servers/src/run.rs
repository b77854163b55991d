//! Servers for a whole run of tests, which is many programs: the program `test-servers` starts them and tells where they
//! are through the environment.

use std::path::PathBuf;

use crate::{Kind, Server};

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 5] = [Kind::Postgres, Kind::MariaDb, Kind::Redis, Kind::Valkey, Kind::Memcached];

    /// The variable that tells where the run's server of this kind is.
    fn variable(self) -> String {
        format!("CLOAKROOM_TEST_{}", self.name().to_uppercase())
    }
}

/// Where the run's server of a kind is, if the run has one: its port and its directory.
pub(crate) fn given(kind: Kind) -> Option<(u16, PathBuf)> {
    let variable = kind.variable();
    let value = std::env::var(&variable).ok()?;
    let place = value.split_once(' ').and_then(|(port, directory)| Some((port.parse().ok()?, directory.into())));
    Some(place.unwrap_or_else(|| panic!("{variable}={value:?} is no port with a directory")))
}

impl Server {
    /// The variable of the environment, and its value, that make [`shared`](crate::shared) of another program give out
    /// this server. It has to outlive that program.
    pub fn for_others(&self) -> (String, String) {
        (self.kind().variable(), format!("{} {}", self.port(), self.directory().display()))
    }
}
