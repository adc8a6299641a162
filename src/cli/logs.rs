//! `chirp logs`: the end of the log file, and what is added to it.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::Path,
    time::Duration,
};

use super::{
    context::Context,
    exit::{Exit, Failure},
};
use crate::stack::{StackError, data_dir::Seat};

/// How often the file is looked at for more.
const LOOK: Duration = Duration::from_millis(200);
/// The most of the file's end that is searched for lines, in bytes.
const TAIL_BYTES_MAX: u64 = 8 << 20;

/// Flags of `logs`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A process of `up --processes`, such as `timeline-1`
    #[arg(value_name = "PROCESS", value_parser = process)]
    process: Option<Seat>,
    /// Go on printing what is added
    #[arg(long, short)]
    follow: bool,
    /// How many lines of the end
    #[arg(long, short = 'n', value_name = "N", default_value_t = 100)]
    lines: usize,
}

fn process(name: &str) -> Result<Seat, String> {
    Seat::parse(name).ok_or_else(|| "it must be a role, or look like `timeline-1`".to_owned())
}

/// Runs the verb.
pub(crate) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let dir = context.data_dir()?;
    let path = args.process.map_or_else(|| dir.log_file(), |of| dir.log_file_of(&of.to_string()));
    let failed = |error| Failure::from(StackError::other("read the log file", error));
    let Ok(mut file) = File::open(&path) else {
        let sentence = format!("there is no log file `{}`", path.display());
        let hint = "`chirp up` writes it; `chirp serve` logs to stderr";
        return Err(Failure::new(Exit::NotRunning, sentence, hint));
    };
    context.printer.raw(&tail(&mut file, args.lines).map_err(failed)?)?;
    if !args.follow {
        return Ok(Exit::Ok);
    }
    loop {
        let mut more = Vec::new();
        file.read_to_end(&mut more).map_err(failed)?;
        context.printer.raw(&more)?;
        if more.is_empty()
            && put_aside(&file, &path)
            && let Ok(fresh) = File::open(&path)
        {
            file = fresh;
            continue;
        }
        std::thread::sleep(LOOK);
    }
}

/// Whether the path names another file by now.
fn put_aside(file: &File, path: &Path) -> bool {
    match (file.metadata(), path.metadata()) {
        (Ok(open), Ok(named)) => open.ino() != named.ino(),
        _ => false,
    }
}

/// The last `lines` lines; the file is left at its end.
fn tail(file: &mut File, lines: usize) -> std::io::Result<Vec<u8>> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES_MAX)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let ends = bytes.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
    // The newline before the first wanted line is the one after `lines` others.
    let start = ends.map(|(at, _)| at + 1).nth(lines).unwrap_or(0);
    Ok(bytes.split_off(start))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn the_tail_is_whole_lines() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"one\ntwo\nthree\n").unwrap();
        for (lines, wanted) in
            [(0, ""), (1, "three\n"), (2, "two\nthree\n"), (9, "one\ntwo\nthree\n")]
        {
            assert_eq!(String::from_utf8(tail(&mut file, lines).unwrap()).unwrap(), wanted);
        }
    }
}
