//! One server in one container: which image, on which port, under which label.
//!
//! The container carries the label `chirp.stack=backends-PID-START`. It is removed at the end and on
//! a panic; what a killed run left is removed by the next one.

use std::{collections::BTreeMap, fs, net::TcpListener};

use serde::Deserialize;
use testcontainers::{
    ContainerAsync, GenericImage, ImageExt as _,
    bollard::{
        Docker,
        models::PortBinding,
        query_parameters::{ListContainersOptionsBuilder, RemoveContainerOptionsBuilder},
    },
    core::{IntoContainerPort as _, client::docker_client_instance},
    runners::AsyncRunner as _,
};

const LABEL: &str = "chirp.stack";
const KIND: &str = "backends";

/// A section of `infra/images.toml`.
#[derive(Clone, Debug, Deserialize)]
pub struct Image {
    public: String,
    local: String,
    #[serde(rename = "override")]
    chosen_by: String,
    port: u16,
    pub environment: BTreeMap<String, String>,
    command: Vec<String>,
}

/// A running server. Dropped, it is removed.
pub struct Container {
    running: ContainerAsync<GenericImage>,
    /// The port on 127.0.0.1.
    pub port: u16,
    /// What it was made of.
    pub image: Image,
}

impl Container {
    /// Removes it; an error is only told, as the scenarios have ended.
    pub async fn remove(self) {
        if let Err(error) = self.running.rm().await {
            println!("a container could not be removed: {error}");
        }
    }
}

/// Starts the server that `images.toml` calls `name`.
pub async fn start(name: &str) -> Result<Container, String> {
    let docker = engine().await?;
    sweep(&docker).await;
    let images: BTreeMap<String, Image> =
        toml::from_str(include_str!("../../../infra/images.toml")).unwrap();
    let image = images[name].clone();
    let chosen = choose(&docker, &image).await;
    let (repository, tag) = chosen.rsplit_once(':').unwrap_or((&chosen, "latest"));
    let (inside, outside) = (format!("{}/tcp", image.port), free_port());
    let binding =
        PortBinding { host_ip: Some("127.0.0.1".to_owned()), host_port: Some(outside.to_string()) };
    let mut request = GenericImage::new(repository, tag)
        .with_exposed_port(image.port.tcp())
        .with_label(LABEL, format!("{KIND}-{}-{}", std::process::id(), born("self").unwrap()))
        .with_host_config_modifier(move |host| {
            let ports = [(inside.clone(), Some(vec![binding.clone()]))];
            host.port_bindings = Some(ports.into());
            host.publish_all_ports = Some(false);
        });
    for (key, value) in &image.environment {
        request = request.with_env_var(key, value);
    }
    if !image.command.is_empty() {
        request = request.with_cmd(image.command.clone());
    }
    let running = request.start().await;
    let running = running.map_err(|error| format!("{chosen} does not start: {error}"))?;
    Ok(Container { running, port: outside, image })
}

async fn engine() -> Result<Docker, String> {
    const ABSENT: &str = "Docker does not answer: run scripts/docker-start";
    let docker = docker_client_instance().await.map_err(|_| ABSENT)?;
    docker.ping().await.map_err(|_| ABSENT)?;
    Ok(docker)
}

/// The image that the environment names; else the public one if it is here; else the local one.
async fn choose(docker: &Docker, image: &Image) -> String {
    if let Ok(chosen) = std::env::var(&image.chosen_by) {
        return chosen;
    }
    if docker.inspect_image(&image.public).await.is_ok() {
        return image.public.clone();
    }
    image.local.clone()
}

/// A port that is free now. Another process may take it until the engine does: then the start fails.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// When a process started, in clock ticks: tells it from a later one with the same id.
fn born(process: &str) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name, in parentheses, may hold anything. The start is the 20th field behind it.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19).map(str::to_owned)
}

/// Removes the containers of runs that were killed.
async fn sweep(docker: &Docker) {
    let filters = [("label", vec![LABEL])].into();
    let all = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
    for container in docker.list_containers(Some(all)).await.unwrap() {
        let stack = container.labels.as_ref().and_then(|labels| labels.get(LABEL));
        let Some(["backends", process, began]) = stack.map(|stack| parts(stack)) else { continue };
        if born(process).as_deref() != Some(began)
            && let Some(id) = &container.id
        {
            println!("removing what a killed run left: {}", stack.unwrap());
            let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
            // Another run may be removing it too.
            drop(docker.remove_container(id, Some(options)).await);
        }
    }
}

fn parts(stack: &str) -> [&str; 3] {
    let mut parts = stack.splitn(3, '-');
    std::array::from_fn(|_| parts.next().unwrap_or_default())
}
