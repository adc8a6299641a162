//! Calls against a server that says what it is told to.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::AtomicUsize, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::{SnsSqsBus, seconds};
use crate::{
    config::{Aws, Secret},
    ports::{Bus as _, Outcome, Queue, Receipt, Target},
    rt::tokio_rt::TokioRuntime,
};

const TO: Target = Target::Queue(Queue::Ingest);
const GONE: Say = Say::This(400, r#"{"__type":"com.amazonaws.sqs#QueueDoesNotExist"}"#);
const THROTTLED: Say = Say::This(400, r#"{"__type":"ThrottlingException","message":"slower"}"#);
const BROKEN: Say = Say::This(500, r#"{"__type":"InternalError"}"#);
const SENT: Say = Say::This(
    200,
    r#"{"Successful":[{"Id":"0","MessageId":"m","MD5OfMessageBody":"d"}],"Failed":[]}"#,
);

/// What the server says to a call.
#[derive(Clone, Copy)]
enum Say {
    /// A status and a body.
    This(u16, &'static str),
    /// Nothing: it closes the connection.
    Nothing,
}

/// A server that knows where every queue is, and has a script for the rest.
#[derive(Default)]
struct Script {
    says: Mutex<VecDeque<Say>>,
    /// What was asked, apart from where queues are.
    asked: Mutex<Vec<String>>,
    looked: AtomicUsize,
}

impl Script {
    /// A server and a bus that looks for its queues there. Beyond the script queues are gone.
    async fn of(says: &[Say], attempts_max: u64) -> (Arc<Self>, SnsSqsBus) {
        let script = Arc::new(Self { says: Mutex::new(says.to_vec().into()), ..Self::default() });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let serving = Arc::clone(&script);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(Arc::clone(&serving).serve(stream));
            }
        });
        let config = Aws {
            endpoint,
            access_key_id: "id".to_owned(),
            access_key_secret: Secret("secret".to_owned()),
            ensure: false,
            attempts_max,
            attempt_ms: 20_000,
            ..Aws::default()
        };
        (script, SnsSqsBus::new(&config, TokioRuntime::handle()).await)
    }

    async fn serve(self: Arc<Self>, mut stream: TcpStream) {
        while let Some((head, body)) = request(&mut stream).await {
            let Say::This(status, said) = self.say(&head, body) else { return };
            let answer = format!(
                "HTTP/1.1 {status} x\r\ncontent-type: application/x-amz-json-1.0\r\n\
                 content-length: {}\r\n\r\n{said}",
                said.len()
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    }

    fn say(&self, head: &str, body: String) -> Say {
        if head.contains("GetQueueUrl") {
            self.looked.fetch_add(1, Ordering::SeqCst);
            return Say::This(200, r#"{"QueueUrl":"http://x/1/q"}"#);
        }
        if head.contains("GetQueueAttributes") {
            return Say::This(200, r#"{"Attributes":{"QueueArn":"arn:aws:sqs:r:1:q"}}"#);
        }
        self.asked.lock().push(body);
        self.says.lock().pop_front().unwrap_or(GONE)
    }
}

/// Head and body of the next request.
async fn request(stream: &mut TcpStream) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    loop {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = |line: &str| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
        };
        let length: usize = head.lines().find_map(length).unwrap_or(0);
        if body.len() >= length {
            return Some((head.to_owned(), body.to_owned()));
        }
    }
}

fn kinds(outcomes: &[Outcome<()>]) -> Vec<&'static str> {
    let kind = |outcome: &Outcome<()>| match outcome {
        Outcome::Done(()) => "done",
        Outcome::Failed(_) => "failed",
        Outcome::Unknown(_) => "unknown",
    };
    outcomes.iter().map(kind).collect()
}

async fn publish(bus: &SnsSqsBus, count: usize) -> Vec<&'static str> {
    let messages: Vec<Bytes> = (0..count).map(|n| n.to_string().into()).collect();
    kinds(&bus.publish(TO, &messages).await)
}

#[tokio::test]
async fn each_entry_ends_as_the_answer_says_and_what_may_succeed_is_sent_again() {
    let first = Say::This(
        200,
        r#"{"Successful":[{"Id":"0","MessageId":"m","MD5OfMessageBody":"d"}],"Failed":[
            {"Id":"1","Code":"InvalidMessageContents","SenderFault":true},
            {"Id":"2","Code":"InternalError","SenderFault":false},
            {"Id":"3","Code":"ThrottlingException","SenderFault":true}]}"#,
    );
    let (_, bus) = Script::of(&[first], 1).await;
    // Of the last the answer says nothing.
    assert_eq!(publish(&bus, 5).await, ["done", "failed", "unknown", "failed", "unknown"]);
    let second = Say::This(
        200,
        r#"{"Successful":[{"Id":"2","MessageId":"m","MD5OfMessageBody":"d"}],"Failed":[
            {"Id":"3","Code":"ThrottlingException","SenderFault":true},
            {"Id":"4","Code":"ThrottlingException","SenderFault":true}]}"#,
    );
    let (script, bus) = Script::of(&[first, second], 2).await;
    assert_eq!(publish(&bus, 5).await, ["done", "failed", "done", "failed", "unknown"]);
    let asked = script.asked.lock();
    let again = |id: usize| asked[1].contains(&format!("\"Id\":\"{id}\""));
    assert_eq!([0, 1, 2, 3, 4].map(again), [false, false, true, true, true], "{}", asked[1]);
}

#[tokio::test]
async fn what_may_have_happened_once_is_unknown_until_it_is_done() {
    for (says, end) in [
        ([Say::Nothing, THROTTLED], "unknown"),
        ([BROKEN, THROTTLED], "unknown"),
        ([Say::Nothing, GONE], "unknown"),
        ([Say::Nothing, SENT], "done"),
        ([THROTTLED, Say::Nothing], "unknown"),
        ([THROTTLED, THROTTLED], "failed"),
        ([THROTTLED, SENT], "done"),
        ([GONE, SENT], "done"),
    ] {
        let (_, bus) = Script::of(&says, 2).await;
        assert_eq!(publish(&bus, 1).await, [end]);
    }
    let (script, bus) =
        Script::of(&[Say::This(403, r#"{"__type":"AccessDenied"}"#), SENT], 2).await;
    assert_eq!(publish(&bus, 1).await, ["failed"], "the same would come of it");
    assert_eq!(script.asked.lock().len(), 1);
}

#[tokio::test]
async fn what_is_gone_is_looked_for_by_one_caller_and_not_again_and_again() {
    let (script, bus) = Script::of(&[], 2).await;
    for ends in join_all((0..20).map(|_| publish(&bus, 1))).await {
        assert_eq!(ends, ["failed"]);
    }
    // Four queues each time: once to begin with, once when they were gone; a slow machine may come to
    // do so again. Each on its own would have asked 160 times.
    let looked = || script.looked.load(Ordering::SeqCst);
    assert!((8..40).contains(&looked()), "{}", looked());
    // Nor does one caller after another: 160 times again.
    for _ in 0..20 {
        assert_eq!(publish(&bus, 1).await, ["failed"]);
    }
    assert!(looked() < 100, "{}", looked());
}

#[tokio::test]
async fn too_many_entries_are_refused_before_anything_is_asked() {
    let (script, bus) = Script::of(&[], 2).await;
    assert_eq!(publish(&bus, 11).await, ["failed"; 11]);
    let receipts = vec![Receipt("r".to_owned()); 11];
    assert_eq!(kinds(&bus.acknowledge(Queue::Bulk, &receipts).await), ["failed"; 11]);
    assert_eq!(kinds(&bus.extend(Queue::Bulk, &receipts, Duration::ZERO).await), ["failed"; 11]);
    assert!(script.asked.lock().is_empty());
}

#[tokio::test]
async fn waits_and_visibilities_are_whole_seconds_and_none_too_short() {
    let seconds = |millis| seconds(Duration::from_millis(millis));
    assert_eq!([0, 1, 1_000, 1_001].map(seconds), [0, 1, 1, 2]);
    let found = Say::This(
        200,
        r#"{"Messages":[{"MessageId":"m","ReceiptHandle":"r","Body":"b","Attributes":
            {"ApproximateReceiveCount":"3","SentTimestamp":"1000"}}]}"#,
    );
    let (script, bus) = Script::of(&[found], 1).await;
    let (wait, visibility) = (Duration::from_mins(1), Duration::from_hours(100));
    let found = bus.receive(Queue::Ingest, 100, wait, visibility).await.unwrap();
    assert_eq!((found[0].receives, &found[0].body[..]), (3, &b"b"[..]));
    let asked = script.asked.lock()[0].clone();
    for part in ["Seconds\":20", "Timeout\":43200", "MaxNumberOfMessages\":10"] {
        assert!(asked.contains(part), "{part} {asked}");
    }
}
