//! Servers with certificates, which are made in their containers.

use std::io::Write as _;

use tempfile::NamedTempFile;

use super::server::{Container, docker_does};

/// The name that the servers' certificates carry; not their address.
pub const NAME: &str = "localhost";

/// Makes `ca.pem`, an authority, and `server.pem` with `server.key`, signed by it, in `/tmp`.
pub const MAKE: &str = "
set -eu; cd /tmp
new='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'
openssl req -x509 $new -days 2 -subj /CN=authority -keyout ca.key -out ca.pem
openssl req $new -subj /CN=localhost -keyout server.key -out server.csr
printf 'subjectAltName=DNS:localhost\\nbasicConstraints=CA:FALSE\\n' >server.ext
openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
    -extfile server.ext -out server.pem
";

/// The authority of a server that has run [`MAKE`].
pub fn authority(container: &Container) -> NamedTempFile {
    let pem = docker_does(&["exec", container.id(), "cat", "/tmp/ca.pem"]);
    let mut file = NamedTempFile::new().unwrap();
    writeln!(file, "{pem}").unwrap();
    file
}
