//! A certificate authority for one server, made with the `openssl` command.

use std::path::{Path, PathBuf};

use crate::{english, process, programs};

pub(crate) fn ca(directory: &Path) -> PathBuf {
    directory.join("ca.crt")
}

pub(crate) fn certificate(directory: &Path) -> PathBuf {
    directory.join("server.crt")
}

pub(crate) fn private_key(directory: &Path) -> PathBuf {
    directory.join("server.key")
}

/// Makes an authority, and a server's certificate from it: some clients refuse a certificate that is both.
pub(crate) fn make(openssl: &Path, directory: &Path) {
    let extensions =
        "subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n";
    std::fs::write(directory.join("server.ext"), extensions).expect("a file in the server's directory");
    let commands = [
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=cloakroom-tests \
         -keyout ca.key -out ca.crt",
        "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost -keyout server.key \
         -out server.csr",
        "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -set_serial 1 -days 30 -extfile server.ext -out server.crt",
    ];
    for arguments in commands {
        let mut command = english(openssl);
        programs::demote(&mut command, directory);
        process::run(command.args(arguments.split_whitespace()));
    }
}
