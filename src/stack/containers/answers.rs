//! Whether a server answers its protocol: an open port alone is only the engine's.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{adapters::postgres, config::Config, stack::client};

/// How long one question may take, also to a server that is still starting.
const ASK_MAX: Duration = Duration::from_secs(5);
/// A part of an answer is read up to this size.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// What is asked of `server`, in words for people.
#[must_use]
pub(super) fn question(server: &str) -> &'static str {
    match server {
        "postgres" => "SELECT 1",
        "redis" => "PING",
        "cassandra" => "a query",
        _ => "its health",
    }
}

/// Whether `server`, where `config` has it, answers.
pub(super) async fn answers(server: &str, config: &Config, port: u16) -> bool {
    let asked = async {
        match server {
            "postgres" => postgres::server::answers(&config.postgres).await.is_ok(),
            "redis" => redis(port).await.unwrap_or(false),
            "cassandra" => cassandra(port).await.unwrap_or(false),
            _ => ministack(port).await,
        }
    };
    tokio::time::timeout(ASK_MAX, asked).await.unwrap_or(false)
}

async fn redis(port: u16) -> io::Result<bool> {
    let mut server = TcpStream::connect(("127.0.0.1", port)).await?;
    server.write_all(b"PING\r\n").await?;
    let mut answer = [0; 7];
    server.read_exact(&mut answer).await?;
    Ok(&answer == b"+PONG\r\n")
}

async fn ministack(port: u16) -> bool {
    let at = ([127, 0, 0, 1], port).into();
    client::get(at, "/_ministack/health").await.is_ok_and(|answer| answer.status == 200)
}

/// Begins a session and reads a row, in frames of version 4 of the protocol.
async fn cassandra(port: u16) -> io::Result<bool> {
    const STARTUP: u8 = 0x01;
    const READY: u8 = 0x02;
    const QUERY: u8 = 0x07;
    const RESULT: u8 = 0x08;
    let mut server = TcpStream::connect(("127.0.0.1", port)).await?;
    // A map of one text to another.
    let mut hello = vec![0, 1];
    for text in ["CQL_VERSION", "3.0.0"] {
        hello.extend((text.len() as u16).to_be_bytes());
        hello.extend(text.as_bytes());
    }
    if exchange(&mut server, STARTUP, &hello).await? != READY {
        return Ok(false);
    }
    let text = "SELECT release_version FROM system.local";
    let mut query = (text.len() as u32).to_be_bytes().to_vec();
    query.extend(text.as_bytes());
    // At consistency ONE, without further parameters.
    query.extend([0, 1, 0]);
    Ok(exchange(&mut server, QUERY, &query).await? == RESULT)
}

/// Sends a frame and gives the kind of the one that comes back.
async fn exchange(server: &mut TcpStream, kind: u8, body: &[u8]) -> io::Result<u8> {
    let mut frame = vec![0x04, 0, 0, 0, kind];
    frame.extend((body.len() as u32).to_be_bytes());
    frame.extend(body);
    server.write_all(&frame).await?;
    let mut head = [0; 9];
    server.read_exact(&mut head).await?;
    let length = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) as usize;
    if length > ANSWER_BYTES_MAX {
        return Err(io::Error::other("this is not Cassandra"));
    }
    server.read_exact(&mut vec![0; length]).await?;
    Ok(head[4])
}
