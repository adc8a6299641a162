//! Removes a stack's containers when its process has gone, however it went.
//!
//! A child holds the read end of a pipe whose write end only the stack's process has. When that ends,
//! by whatever signal, the kernel closes the pipe, and the child removes what carries the stack's
//! labels. A stack that has removed its containers says so before it closes the pipe. If the child is
//! killed too, the next `up` or `down` on the folder removes what is left.

use std::{
    io::{Read as _, Write as _},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    time::Duration,
};

use super::{
    docker::{self, Engine},
    images,
    trouble::Trouble,
};
use crate::stack::StackError;

/// The verb that runs [`reap`].
pub const VERB: &str = "__reap";
/// What a stack writes that has left nothing behind.
const DONE: u8 = b'd';
/// A container that was being made when the process died may appear later (a busy engine took 15 s), so
/// it is looked until nothing is found this many times in a row.
const EMPTY_LOOKS: u32 = 15;
/// The pause between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// The most looks; an engine that is so slow leaves the rest to the next start.
const LOOKS_MAX: u32 = 60;

/// The child, from its parent's side.
#[derive(Debug)]
pub(super) struct Reaper {
    child: Child,
    pipe: ChildStdin,
}

impl Reaper {
    /// Starts `program` as the child.
    pub(super) fn start(program: &Path, stack: &str, pid: &str) -> Result<Self, StackError> {
        let failed = |error| StackError::other("start what removes the containers", error);
        let mut child = Command::new(program)
            .args([VERB, stack, pid])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // So that Ctrl-C, which goes to everybody in the terminal, does not end it.
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let pipe = child.stdin.take().ok_or_else(|| failed(std::io::Error::other("no pipe")))?;
        Ok(Self { child, pipe })
    }

    /// Tells it that nothing is left to remove, and waits for its end.
    pub(super) fn done(mut self) {
        // If it is dead already, so be it.
        drop(self.pipe.write_all(&[DONE]));
        drop(self.pipe);
        drop(self.child.wait());
    }
}

/// The child's work: waits for the end of its parent, then removes the containers that the process
/// `pid` made for `stack`. Gives how many.
///
/// # Errors
/// If the engine does not answer, however often it is asked.
pub async fn reap(stack: &str, pid: &str) -> Result<usize, StackError> {
    let told = tokio::task::spawn_blocking(|| {
        let mut said = Vec::new();
        drop(std::io::stdin().read_to_end(&mut said));
        said
    });
    if told.await.is_ok_and(|said| said == [DONE]) {
        return Ok(0);
    }
    let (mut removed, mut empty, mut trouble) = (0, 0, None);
    for _ in 0..LOOKS_MAX {
        match look(stack, pid).await {
            Ok(0) => empty += 1,
            Ok(count) => (removed, empty) = (removed + count, 0),
            Err(error) => (empty, trouble) = (0, Some(error)),
        }
        if empty == EMPTY_LOOKS || removed == images::SERVERS.len() {
            return Ok(removed);
        }
        tokio::time::sleep(LOOK).await;
    }
    trouble.map_or(Ok(removed), |trouble| Err(trouble.into()))
}

/// Removes what is there now. Gives how many.
async fn look(stack: &str, pid: &str) -> Result<usize, Trouble> {
    let engine = Engine::ask().await?;
    let left = engine.find(&[(docker::STACK, stack), (docker::PID, pid)]).await?;
    engine.remove(&left).await
}
