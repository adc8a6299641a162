//! The contract of the bus, with topics and queues that the process made, and with another's.

use std::sync::Arc;

use chirp::{
    adapters::sns_sqs::SnsSqsBus,
    config::Aws,
    ports::contract::{Outage, bus},
};
use tokio::{runtime::Handle, task::block_in_place};

use super::Server;
use crate::support::{
    proxy::{Proxy, Rule},
    run::hold,
};

/// A bus that nobody used before, whose server is behind a proxy that can refuse.
fn fresh(server: &Server, ensure: bool) -> bus::Context {
    let proxy = Proxy::before(server.port);
    let config = Aws { ensure, ..server.config_behind(proxy.port) };
    let bus = block_in_place(|| {
        Handle::current().block_on(async {
            if !ensure {
                server.open(&Aws { ensure: true, ..config.clone() }).await;
            }
            SnsSqsBus::open(&config, server.rt.clone()).await.unwrap()
        })
    });
    let outage = Outage::new(move |down| proxy.set(if down { Rule::Refuse } else { Rule::Pass }));
    bus::Context { bus: Arc::new(bus), rt: server.rt.clone(), outage: Some(outage) }
}

pub async fn topics_and_queues_that_are_made_keep_the_contract(server: Server) {
    hold(&server.rt, bus::BEHAVIOURS, || fresh(&server, true)).await;
}

pub async fn topics_and_queues_that_are_found_keep_the_contract(server: Server) {
    // The behaviours that have to do with names; the others would be the same again.
    let names = ["topics_and_queues_reach_their_own_lane", "parked_messages_wait_until"];
    for behaviour in bus::BEHAVIOURS {
        if names.iter().any(|name| behaviour.name.starts_with(name)) {
            hold(&server.rt, std::slice::from_ref(behaviour), || fresh(&server, false)).await;
        }
    }
}
