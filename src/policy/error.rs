//! Why a policy folder cannot be used: every mistake in it, with file and line.

use std::fmt;

use crate::config::ConfigError;

/// All mistakes that were found; a policy with any is not used at all.
#[derive(Debug, PartialEq, Eq)]
pub struct PolicyError {
    pub mistakes: Vec<ConfigError>,
}

impl From<ConfigError> for PolicyError {
    fn from(mistake: ConfigError) -> Self {
        Self { mistakes: vec![mistake] }
    }
}

impl std::error::Error for PolicyError {}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, mistake) in self.mistakes.iter().enumerate() {
            if at > 0 {
                writeln!(f)?;
            }
            write!(f, "{mistake}")?;
        }
        Ok(())
    }
}
