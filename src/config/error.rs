//! A mistake in a file that we read, with the line it stands in.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// What is wrong, where, and what to do.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError {
    pub file: PathBuf,
    /// From 1; `None` where the file itself is the trouble.
    pub line: Option<usize>,
    pub what: String,
}

impl ConfigError {
    pub fn new(file: &Path, what: impl fmt::Display) -> Self {
        Self { file: file.to_owned(), line: None, what: what.to_string() }
    }

    /// A mistake at a span of the file's text.
    pub fn at(file: &Path, text: &str, span: &Range<usize>, what: impl fmt::Display) -> Self {
        Self { line: Some(position(text, span.start)), ..Self::new(file, what) }
    }

    /// A mistake that the TOML parser found; its own sentence, with our line.
    pub fn of_toml(file: &Path, text: &str, error: &toml::de::Error) -> Self {
        let what = error.message().trim().replace('\n', "; ");
        match error.span() {
            Some(span) => Self::at(file, text, &span, what),
            None => Self::new(file, what),
        }
    }
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.what)
    }
}

/// The line, from 1, in which a byte offset of `text` lies.
pub fn position(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count().saturating_add(1)
}
