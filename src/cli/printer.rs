//! What the user sees: data on stdout, talk on stderr, colours only where a person looks.

use std::io::{self, IsTerminal, Write};

use super::exit::{Exit, Failure};

/// Writes to the terminal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Printer {
    colour: bool,
}

#[expect(clippy::unused_self, reason = "whoever prints must have been given the printer")]
impl Printer {
    /// Colours if stderr is a terminal and nobody objects.
    #[must_use]
    pub(crate) fn new(no_color: bool) -> Self {
        Self { colour: !no_color && io::stderr().is_terminal() }
    }

    /// A line of data.
    ///
    /// # Errors
    /// If standard output cannot be written: whoever reads it would take a part for the whole.
    pub(crate) fn data(self, line: &str) -> Result<(), Failure> {
        written(writeln!(io::stdout().lock(), "{line}"))
    }

    /// Data as it is.
    ///
    /// # Errors
    /// As [`Printer::data`].
    pub(crate) fn raw(self, bytes: &[u8]) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        written(out.write_all(bytes).and_then(|()| out.flush()))
    }

    /// A line of talk.
    pub(crate) fn talk(self, line: &str) {
        drop(writeln!(io::stderr().lock(), "{line}"));
    }

    /// A failure: sentence, then hint.
    pub(crate) fn fail(self, failure: &Failure) {
        self.talk(&format!("{} {}", self.red("error:"), failure.sentence));
        self.talk(&format!("{} {}", self.dim("hint:"), failure.hint));
    }

    /// `text`, faint.
    #[must_use]
    pub(crate) fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    /// `text`, strong.
    #[must_use]
    pub(crate) fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// `text`, as good news.
    #[must_use]
    pub(crate) fn green(self, text: &str) -> String {
        self.paint("32", text)
    }

    /// `text`, as a warning.
    #[must_use]
    pub(crate) fn yellow(self, text: &str) -> String {
        self.paint("33", text)
    }

    /// `text`, as bad news.
    #[must_use]
    pub(crate) fn red(self, text: &str) -> String {
        self.paint("31", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// What came of writing to standard output.
///
/// # Errors
/// All but that the reader has gone: one such as `head` has seen enough.
pub(super) fn written(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let sentence = format!("cannot write to standard output: {error}");
            Err(Failure::new(Exit::Failure, sentence, "make room, or send the output elsewhere"))
        }
        _ => Ok(()),
    }
}
