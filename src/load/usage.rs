//! What the parts of a target use: the processes of chirp, as their admin listeners tell, and the containers
//! of its servers, as the engine tells.

use std::{collections::BTreeMap, net::SocketAddr};

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};

use crate::stack::{
    client,
    containers::{Container, Engine},
};

/// What the processes of chirp are called together.
pub const CHIRP: &str = "chirp";

/// What a part has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time, in seconds.
    pub cpu_s: f64,
    /// Memory of its processes, in bytes.
    pub memory_bytes: u64,
}

/// By part.
pub type Parts = BTreeMap<String, Usage>;

/// What all parts have used until now; a part that does not tell is left out.
pub async fn usage(admins: &[SocketAddr], containers: &[Container]) -> Parts {
    let mut parts = Parts::new();
    for admin in admins {
        if let Ok(metrics) = client::get(*admin, "/metrics").await
            && let Some(usage) = of_process(&String::from_utf8_lossy(&metrics.body))
        {
            let sum = parts.entry(CHIRP.to_owned()).or_default();
            sum.cpu_s += usage.cpu_s;
            sum.memory_bytes += usage.memory_bytes;
        }
    }
    if containers.is_empty() {
        return parts;
    }
    let Ok(engine) = &Engine::ask().await else { return parts };
    let asked = containers.iter().map(|container| async move {
        let (cpu_s, memory_bytes) = engine.usage(container).await.ok()?;
        Some((container.server.clone(), Usage { cpu_s, memory_bytes }))
    });
    parts.extend(join_all(asked).await.into_iter().flatten());
    parts
}

#[expect(clippy::cast_sign_loss, reason = "a gauge of bytes")]
fn of_process(metrics: &str) -> Option<Usage> {
    let value = |name: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse::<f64>().ok())
    };
    Some(Usage {
        cpu_s: value("chirp_process_cpu_seconds_total")?,
        memory_bytes: value("chirp_process_resident_memory_bytes")? as u64,
    })
}

/// What was used since `before`: processor time as a difference, memory as it is now.
#[must_use]
pub fn since(before: &Parts, now: &Parts) -> Parts {
    now.iter()
        .map(|(name, now)| {
            let then = before.get(name).map_or(0.0, |before| before.cpu_s);
            // A part that was started again counts from its start.
            let cpu_s = if now.cpu_s >= then { now.cpu_s - then } else { now.cpu_s };
            (name.clone(), Usage { cpu_s, memory_bytes: now.memory_bytes })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_tells_what_it_uses() {
        let text = "# HELP x y\nchirp_process_cpu_seconds_total 1.5\n\
            chirp_process_resident_memory_bytes 4096\n";
        assert_eq!(of_process(text), Some(Usage { cpu_s: 1.5, memory_bytes: 4_096 }));
        assert_eq!(of_process("chirp_process_cpu_seconds_total_other 1\n"), None);
        let text = crate::telemetry::Metrics::new().render();
        assert!(of_process(&text).unwrap().memory_bytes > 1_000_000, "{text}");
    }

    #[test]
    fn a_part_that_was_started_again_counts_from_its_start() {
        let parts = |cpu_s| Parts::from([("redis".to_owned(), Usage { cpu_s, memory_bytes: 1 })]);
        assert_eq!(since(&parts(2.0), &parts(5.0)), parts(3.0));
        assert_eq!(since(&parts(5.0), &parts(1.0)), parts(1.0));
        assert_eq!(since(&Parts::new(), &parts(1.0)), parts(1.0));
    }
}
