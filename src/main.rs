//! The chirp program: parse, dispatch, exit code. Everything else is in the library.

use std::process::ExitCode;

/// Fan-out allocates and frees in bursts, after which the system's allocator keeps what it got.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    chirp::cli::main()
}
