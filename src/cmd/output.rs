//! What every verb shares: where data and talk go, and how a failure ends the program.

use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;

/// The options that all verbs have.
#[derive(Clone, Debug)]
pub struct Context {
    config: PathBuf,
    json: bool,
}

/// How a verb ends: well, denied (exit code 3), or failed (exit code 1, where the failure has none of its own).
pub type Done = anyhow::Result<Success>;

/// A verb that ran to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Success {
    Done,
    /// The answer is no: a policy that denies, a chain that does not verify, a check that found something.
    Denied,
    /// The exit code of a program that was run (`connect … run`).
    Code(u8),
}

/// A failure with what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    message: String,
    hint: Option<String>,
    code: Option<u8>,
}

/// Adds a hint to an error.
pub trait HintExt<T> {
    /// `what` was being done; `hint` says what to do about its failure.
    fn hint(self, what: impl Display, hint: impl Display) -> anyhow::Result<T>;
}

impl Context {
    pub const fn new(config: PathBuf, json: bool) -> Self {
        Self { config, json }
    }

    /// Where the configuration is to be found.
    pub fn config(&self) -> &Path {
        &self.config
    }

    pub const fn json(&self) -> bool {
        self.json
    }

    /// Prints a result: as one line of JSON with `--json`, else as the text.
    pub fn print(&self, data: &impl Serialize, text: impl Display) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        if self.json {
            serde_json::to_writer(&mut out, data)?;
            writeln!(out)?;
        } else {
            writeln!(out, "{text}")?;
        }
        Ok(())
    }

    /// Says something to the person at the terminal.
    pub fn say(&self, text: impl Display) {
        // Nobody listening is no reason to fail.
        drop(writeln!(std::io::stderr().lock(), "{text}"));
    }

    /// Whether a person is looking, so that progress may be shown.
    pub fn interactive(&self) -> bool {
        !self.json && std::io::stderr().is_terminal()
    }

    pub fn finish(&self, done: Done) -> ExitCode {
        match done {
            Ok(Success::Done) => ExitCode::SUCCESS,
            Ok(Success::Denied) => ExitCode::from(3),
            Ok(Success::Code(code)) => ExitCode::from(code),
            Err(error) => {
                self.say(format_args!("error: {error:#}"));
                let failure = error.downcast_ref::<Failure>();
                if let Some(hint) = failure.and_then(|failure| failure.hint.as_ref()) {
                    self.say(format_args!("hint: {hint}"));
                }
                failure.and_then(|failure| failure.code).map_or(ExitCode::FAILURE, ExitCode::from)
            }
        }
    }
}

impl Failure {
    pub fn new(message: impl Display) -> Self {
        Self { message: message.to_string(), hint: None, code: None }
    }

    #[must_use]
    pub fn with_hint(mut self, hint: impl Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// For supervisors, which can tell by it what need not be tried again.
    #[must_use]
    pub const fn with_code(mut self, code: u8) -> Self {
        self.code = Some(code);
        self
    }
}

impl<T, E: Display> HintExt<T> for Result<T, E> {
    fn hint(self, what: impl Display, hint: impl Display) -> anyhow::Result<T> {
        self.map_err(|error| Failure::new(format_args!("{what}: {error}")).with_hint(hint).into())
    }
}
