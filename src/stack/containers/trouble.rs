//! What stands in the way of containers: one variant per thing that a person can do about it.

use std::{error::Error, io, time::Duration};

use testcontainers::{
    TestcontainersError,
    bollard::errors::Error as DockerError,
    core::{client::ClientError, error::WaitContainerError},
};

/// What stands in the way of containers. One sentence each; the command line adds the hint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// There is no engine where one is expected.
    #[error("there is no Docker at `{0}`")]
    Absent(String),
    /// Whoever should be the engine does not answer.
    #[error("Docker does not answer: {0}")]
    Silent(String),
    /// The engine is not for this user.
    #[error("Docker may not be used by this user: permission denied")]
    Denied,
    /// The engine's interface lacks what is needed.
    #[error("Docker is too old: it speaks version {found} of its interface, chirp needs {needed}")]
    Old {
        /// What it speaks.
        found: String,
        /// The least that is needed.
        needed: String,
    },
    /// An image is neither here nor to be had.
    #[error("there is no image for {server}: `{image}` cannot be pulled: {why}")]
    NoImage {
        /// Which server.
        server: &'static str,
        /// The image that was asked for.
        image: String,
        /// What the engine says.
        why: String,
    },
    /// The disk of the engine is full.
    #[error("Docker has no room on its disk for {server}")]
    NoSpace {
        /// Which server.
        server: &'static str,
    },
    /// The container was made and does not start.
    #[error("the container of {server} does not start: {why}")]
    Start {
        /// Which server.
        server: &'static str,
        /// What the engine says.
        why: String,
    },
    /// The container has ended by itself.
    #[error("the container of {server} has ended before it answered: {why}")]
    Ended {
        /// Which server.
        server: &'static str,
        /// The last that it said.
        why: String,
    },
    /// A container that was kept is not what would be made now.
    #[error(
        "the container of {server} that was kept was made by another chirp or of another image"
    )]
    Changed {
        /// Which server.
        server: &'static str,
    },
    /// A container that was kept, and whose data nothing else has, is not there.
    #[error("the container of {server} that was kept is gone, and with it the accounts and tweets")]
    Gone {
        /// Which server.
        server: &'static str,
    },
    /// The containers are those of another folder, of which this one is a copy.
    #[error("this data folder is a copy of `{original}`, which still has the containers of both")]
    Copy {
        /// The other folder.
        original: String,
    },
    /// Not all of them answer in time.
    #[error("no answer from {} after {} s", servers.join(", "), after.as_secs())]
    Late {
        /// Which servers do not.
        servers: Vec<&'static str>,
        /// The time that was allowed.
        after: Duration,
    },
}

impl Trouble {
    /// What came of asking the engine.
    pub(super) fn of_docker(error: &(dyn Error + 'static)) -> Self {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if let Some(DockerError::SocketNotFoundError(path)) = error.downcast_ref() {
                return Self::Absent(path.clone());
            }
            // This one hides the error that it is made of from whoever asks for its source.
            let hidden = match error.downcast_ref() {
                Some(DockerError::IOError { err }) => Some(err),
                _ => None,
            };
            if let Some(io) = hidden.or_else(|| error.downcast_ref::<io::Error>()) {
                match io.kind() {
                    io::ErrorKind::PermissionDenied => return Self::Denied,
                    io::ErrorKind::ConnectionRefused => {
                        return Self::Silent("nobody listens there".to_owned());
                    }
                    _ => {}
                }
            }
            cause = error.source();
        }
        Self::Silent(plain(error))
    }

    /// What came of connecting to the engine.
    pub(super) fn of_client(error: &ClientError) -> Self {
        match error {
            ClientError::Init(error) => Self::of_docker(error),
            other => Self::Silent(plain(other)),
        }
    }

    /// What came of making and starting the container of `server`.
    pub(super) fn of_start(server: &'static str, error: &TestcontainersError) -> Self {
        let why = match error {
            TestcontainersError::WaitContainer(WaitContainerError::StartupTimeout) => {
                "Docker took too long".to_owned()
            }
            TestcontainersError::Client(
                ClientError::CreateContainer(error) | ClientError::StartContainer(error),
            ) => plain(error),
            other => plain(other),
        };
        if no_space(&why) { Self::NoSpace { server } } else { Self::Start { server, why } }
    }

    /// What came of pulling `image`.
    pub(super) fn of_pull(server: &'static str, image: &str, error: &TestcontainersError) -> Self {
        let why = match error {
            TestcontainersError::Client(ClientError::PullImage { err, .. }) => plain(err),
            other => plain(other),
        };
        if no_space(&why) {
            return Self::NoSpace { server };
        }
        Self::NoImage { server, image: image.to_owned(), why }
    }

    /// Whether another program has taken the port in the meantime.
    pub(super) fn is_port_taken(&self) -> bool {
        let taken = |why: &str| {
            why.contains("port is already allocated") || why.contains("address already in use")
        };
        matches!(self, Self::Start { why, .. } if taken(why))
    }
}

fn no_space(why: &str) -> bool {
    why.contains("no space left on device")
}

/// What the engine says, in one line and without its own name for the error.
fn plain(error: &dyn Error) -> String {
    let text = match error.source() {
        // Clients of HTTP say the least in their own text.
        Some(cause) if error.to_string().contains("client error") => cause.to_string(),
        _ => error.to_string(),
    };
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let code = |text: &str| text.strip_prefix("Docker responded with status code ").map(str::len);
    match (code(&text), text.split_once(": ")) {
        (Some(_), Some((_, said))) => said.to_owned(),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(message: &str) -> DockerError {
        DockerError::DockerResponseServerError { status_code: 500, message: message.to_owned() }
    }

    fn start(message: &str) -> Trouble {
        let error = ClientError::StartContainer(said(message));
        Trouble::of_start("redis", &TestcontainersError::Client(error))
    }

    #[test]
    fn what_the_system_refuses_is_told_apart() {
        let refused = |kind: io::ErrorKind| {
            Trouble::of_docker(&DockerError::IOError { err: io::Error::from(kind) })
        };
        assert_eq!(refused(io::ErrorKind::PermissionDenied), Trouble::Denied);
        assert!(matches!(refused(io::ErrorKind::ConnectionRefused), Trouble::Silent(_)));
        let absent = DockerError::SocketNotFoundError("/x.sock".to_owned());
        assert_eq!(Trouble::of_docker(&absent), Trouble::Absent("/x.sock".to_owned()));
        assert_eq!(Trouble::of_docker(&said("ill")), Trouble::Silent("ill".to_owned()));
    }

    #[test]
    fn a_start_that_fails_says_why_and_what_can_be_tried_again_is_known() {
        let full = "write /var/lib/docker/x: no space left on device";
        assert_eq!(start(full), Trouble::NoSpace { server: "redis" });
        let taken = start("driver failed: Bind for 127.0.0.1:1 failed: port is already allocated");
        assert!(taken.is_port_taken(), "{taken}");
        let other = start("OCI runtime\ncreate failed");
        assert!(!other.is_port_taken());
        assert_eq!(
            other.to_string(),
            "the container of redis does not start: OCI runtime create failed"
        );
    }
}
