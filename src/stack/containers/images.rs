//! Which images there are, which one is taken, and how a container is made of it.
//!
//! In this order: the image that the configuration names; the public one, pinned in
//! `infra/images.toml`, if it is here or can be pulled; the local one, which
//! `infra/local-images/build` makes, if it is here.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use testcontainers::{
    ContainerRequest, GenericImage, ImageExt as _,
    bollard::{Docker, models::PortBinding},
    core::IntoContainerPort as _,
    runners::AsyncRunner as _,
};

use super::Trouble;
use crate::config;

/// The servers, as `infra/images.toml` names them.
pub const SERVERS: [&str; 4] = ["postgres", "redis", "cassandra", "ministack"];

/// Runs Redis in either image; see there.
const REDIS_ENTRY: &str = include_str!("../../../infra/local-images/redis/entry.sh");
/// The engine gets this long to make and start one container; it took 1 s, 15 s on a busy machine.
const START_MAX: Duration = Duration::from_mins(2);

/// A section of `infra/images.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// The public image, pinned to a version.
    pub public: String,
    /// The image that a source checkout can build.
    pub local: String,
    /// The variable that names another.
    #[serde(rename = "override")]
    pub chosen_by: String,
    /// Where the server listens in its container.
    pub port: u16,
    /// Variables for both images.
    pub environment: BTreeMap<String, String>,
    /// Arguments for both images.
    pub command: Vec<String>,
}

/// The image of `server`, which is one of [`SERVERS`].
#[must_use]
pub fn pinned(server: &str) -> Image {
    let list =
        toml::from_str::<BTreeMap<String, Image>>(include_str!("../../../infra/images.toml"));
    list.expect("the list of images is read by a test").remove(server).expect("a known server")
}

/// What the configuration names for `server`; empty: nothing.
#[must_use]
pub fn named<'a>(config: &'a config::Image, server: &str) -> &'a str {
    match server {
        "postgres" => &config.postgres,
        "redis" => &config.redis,
        "cassandra" => &config.cassandra,
        _ => &config.ministack,
    }
}

impl Image {
    /// The name of the image to take; `chosen`, unless it is empty, is taken before all. What has to
    /// be pulled is told to `pulling` first, and takes as long as it takes.
    ///
    /// # Errors
    /// [`Trouble::NoImage`], [`Trouble::NoSpace`].
    pub async fn choose(
        &self,
        docker: &Docker,
        server: &'static str,
        chosen: &str,
        pulling: impl Fn(&str),
    ) -> Result<String, Trouble> {
        let wanted = if chosen.is_empty() { &self.public } else { chosen };
        if is_here(docker, wanted).await {
            return Ok(wanted.to_owned());
        }
        pulling(wanted);
        let (name, tag) = split(wanted);
        let error = match GenericImage::new(name, tag).pull_image().await {
            Ok(_) => return Ok(wanted.to_owned()),
            Err(error) => Trouble::of_pull(server, wanted, &error),
        };
        let instead = chosen.is_empty() && !matches!(error, Trouble::NoSpace { .. });
        if instead && is_here(docker, &self.local).await {
            return Ok(self.local.clone());
        }
        Err(error)
    }

    /// The image that would be taken without a pull, if any.
    pub async fn present(&self, docker: &Docker, chosen: &str) -> Option<String> {
        for name in [chosen, &self.public, &self.local] {
            if !name.is_empty() && is_here(docker, name).await {
                return Some(name.to_owned());
            }
            if name == chosen && !chosen.is_empty() {
                return None;
            }
        }
        None
    }

    /// A container of the image `chosen` for `server`, on the port `port` of 127.0.0.1.
    pub fn request(&self, server: &str, chosen: &str, port: u16) -> ContainerRequest<GenericImage> {
        let (name, tag) = split(chosen);
        // Queue addresses that clients get carry the port on the host, so it is the same inside.
        let own_port = if server == "ministack" { port } else { self.port };
        let inside = format!("{own_port}/tcp");
        let binding = PortBinding {
            host_ip: Some("127.0.0.1".to_owned()),
            host_port: Some(port.to_string()),
        };
        let image = GenericImage::new(name, tag).with_exposed_port(own_port.tcp());
        let image = if server == "redis" { image.with_entrypoint("sh") } else { image };
        let mut request =
            image.with_startup_timeout(START_MAX).with_host_config_modifier(move |host| {
                let ports = [(inside.clone(), Some(vec![binding.clone()]))];
                host.port_bindings = Some(ports.into());
                host.publish_all_ports = Some(false);
            });
        for (key, value) in &self.environment {
            request = request.with_env_var(key, value);
        }
        let command = self.command(server);
        if !command.is_empty() {
            request = request.with_cmd(command);
        }
        if server == "ministack" {
            request = request.with_env_var("GATEWAY_PORT", port.to_string());
        }
        request
    }

    fn command(&self, server: &str) -> Vec<String> {
        let entry = ["-c", REDIS_ENTRY, "entry.sh"].map(str::to_owned).to_vec();
        let entry = if server == "redis" { entry } else { Vec::new() };
        [entry, self.command.clone()].concat()
    }

    /// A short hash of how a container of `server` is made, whatever its image and port.
    #[must_use]
    pub fn recipe(&self, server: &str) -> String {
        let text = format!("{:?} {:?} {}", self.environment, self.command(server), self.port);
        let hash = Sha256::digest(text.as_bytes());
        hash.iter().take(6).fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
    }

    /// Whether `image` is one that would be taken, given what the configuration names.
    #[must_use]
    pub fn is_one(&self, image: &str, chosen: &str) -> bool {
        let pinned = image == self.public || image == self.local;
        if chosen.is_empty() { pinned } else { image == chosen }
    }
}

async fn is_here(docker: &Docker, image: &str) -> bool {
    docker.inspect_image(image).await.is_ok()
}

/// Name and tag. Without a tag the engine would pull all there are.
fn split(image: &str) -> (&str, &str) {
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (image, "latest"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_server_has_an_image_and_the_variable_that_the_configuration_gives_it() {
        for server in SERVERS {
            let image = pinned(server);
            assert!(image.public.contains(':') && image.local.contains(':'), "{image:?}");
            let variable = config::env::name_of(&format!("image.{server}"));
            assert_eq!(image.chosen_by, variable);
        }
    }

    #[test]
    fn a_tag_is_not_taken_for_a_port_nor_a_port_for_a_tag() {
        for (image, parts) in [
            ("redis", ("redis", "latest")),
            ("redis:7", ("redis", "7")),
            ("host:5000/redis", ("host:5000/redis", "latest")),
            ("host:5000/redis:7", ("host:5000/redis", "7")),
        ] {
            assert_eq!(split(image), parts);
        }
    }

    #[test]
    fn a_recipe_changes_with_what_is_in_it() {
        let image = pinned("redis");
        let other = Image { command: vec!["single".into(), "--x".into()], ..image.clone() };
        assert_ne!(image.recipe("redis"), other.recipe("redis"));
        assert_eq!(
            image.recipe("redis"),
            Image { public: "x".into(), ..image.clone() }.recipe("redis")
        );
    }
}
