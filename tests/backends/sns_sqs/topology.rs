//! Topics, queues and subscriptions that are not there yet, or not there any more.

use chirp::{
    adapters::sns_sqs::SnsSqsBus,
    config::Aws,
    ports::{Bus as _, Outcome, Queue, Target, Topic},
};
use futures_util::future::join_all;

use super::{INGEST, LONG, PATIENCE, Process, SHORT, Server, once, text};

async fn url(server: &Server, name: &str) -> String {
    server.sqs().get_queue_url().queue_name(name).send().await.unwrap().queue_url.unwrap()
}

async fn delete_queue(server: &Server, name: &str) {
    server.sqs().delete_queue().queue_url(url(server, name).await).send().await.unwrap();
}

/// Publishes to both topics until it is done, as the relay does.
async fn publish(process: &Process, from: usize) {
    for (topic, n) in Topic::ALL.into_iter().zip(from..) {
        let done = async {
            while !process.publish(Target::Topic(topic), text(n)).await.is_done() {
                tokio::time::sleep(SHORT / 10).await;
            }
        };
        tokio::time::timeout(PATIENCE, done).await.expect("it can be published again");
    }
}

pub async fn processes_that_start_at_once_make_one_topology(server: Server) {
    let config = server.config();
    let processes = join_all((0..8).map(|_| server.open(&config))).await;
    for (at, process) in processes.iter().enumerate() {
        publish(process, 2 * at).await;
    }
    // Two subscriptions of a topic would double.
    assert_eq!(processes[0].drain(Queue::Ingest).await, once((0..16).map(text)));
    let queue = url(&server, &format!("{}-ingest", config.namespace)).await;
    let told = server.sqs().get_queue_attributes().queue_url(queue);
    let told = told.attribute_names(aws_sdk_sqs::types::QueueAttributeName::All).send().await;
    let told = format!("{:?}", told.unwrap().attributes);
    for part in ["1209600", "maxReceiveCount\\\":1000", "-ingest-dlq", "sns.amazonaws.com"] {
        assert!(told.contains(part), "{part} {told}");
    }
}

pub async fn a_process_that_may_only_use_what_is_there_says_what_is_missing(server: Server) {
    let config = Aws { ensure: false, ..server.config() };
    let missing = SnsSqsBus::open(&config, server.rt.clone()).await.unwrap_err();
    assert!(!missing.unreachable && missing.why.contains(&config.namespace), "{missing}");
    // A process that started too early finds them later.
    let early = SnsSqsBus::new(&config, server.rt.clone()).await;
    let early = Process { bus: std::sync::Arc::new(early), namespace: config.namespace.clone() };
    assert!(!early.publish(INGEST, text(9)).await.is_done());
    server.open(&Aws { ensure: true, ..config }).await;
    publish(&early, 0).await;
    assert_eq!(early.drain(Queue::Ingest).await, once((0..2).map(text)));
}

/// Receives until that is possible again, as a worker does.
async fn listen(process: &Process, queue: Queue) {
    let listening = async {
        while process.bus.receive(queue, 1, SHORT, SHORT).await.is_err() {
            tokio::time::sleep(SHORT / 10).await;
        }
    };
    tokio::time::timeout(PATIENCE, listening).await.expect("the queue is there again");
}

pub async fn a_queue_that_is_gone_is_made_anew_under_those_who_use_it(server: Server) {
    let process = server.open(&server.config()).await;
    assert!(process.publish(INGEST, text(0)).await.is_done());
    let found = process.bus.receive(Queue::Ingest, 1, SHORT, LONG).await.unwrap();
    delete_queue(&server, &format!("{}-ingest", process.namespace)).await;
    // A receipt of the old queue finds nothing, and does no harm.
    drop(process.bus.acknowledge(Queue::Ingest, &[found[0].receipt.clone()]).await);
    listen(&process, Queue::Ingest).await;
    publish(&process, 1).await;
    assert_eq!(process.drain(Queue::Ingest).await, once((1..3).map(text)));
    for name in ["bulk-dlq", "bulk"] {
        delete_queue(&server, &format!("{}-{name}", process.namespace)).await;
    }
    listen(&process, Queue::Bulk).await;
    let parked = process.publish(Target::Parked(Queue::Bulk), text(3)).await;
    assert_eq!(parked, Outcome::Done(()));
    assert_eq!(process.publish(Target::Queue(Queue::Bulk), text(4)).await, Outcome::Done(()));
    assert_eq!(process.bus.redrive(Queue::Bulk, 9).await, Outcome::Done(1));
    assert_eq!(process.drain(Queue::Bulk).await, once((3..5).map(text)));
}

pub async fn a_topic_that_is_gone_is_made_anew_and_its_messages_arrive(server: Server) {
    let process = server.open(&server.config()).await;
    publish(&process, 0).await;
    let topics = server.sns().list_topics().send().await.unwrap();
    for arn in topics.topics().iter().filter_map(|topic| topic.topic_arn()) {
        if arn.contains(&format!(":{}-", process.namespace)) {
            server.sns().delete_topic().topic_arn(arn).send().await.unwrap();
        }
    }
    publish(&process, 2).await;
    assert_eq!(process.drain(Queue::Ingest).await, once((0..4).map(text)));
}

pub async fn a_server_that_was_killed_gets_everything_again(_: Server) {
    let server = Server::single().await;
    let config = server.config();
    let (publisher, worker) = (server.open(&config).await, server.open(&config).await);
    publish(&publisher, 0).await;
    assert_eq!(worker.drain(Queue::Ingest).await, once((0..2).map(text)));
    server.docker(&["kill", "--signal", "KILL"]);
    assert!(!publisher.publish(INGEST, text(9)).await.is_done());
    server.docker(&["start"]);
    publish(&publisher, 2).await;
    let come = async {
        loop {
            // The worker still has the old addresses.
            if let Ok(found) = worker.bus.receive(Queue::Ingest, 10, SHORT, SHORT).await
                && !found.is_empty()
            {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, come).await.expect("the worker receives again");
}
