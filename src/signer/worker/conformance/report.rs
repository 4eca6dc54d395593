//! What `keys conformance` found: facts about the token, and a verdict for each rule.

use std::collections::BTreeMap;
use std::fmt::{self, Display};

use alloy_primitives::Address;
use serde::Serialize;

/// Everything that was found, to be sent to us. No PIN is in it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// This program's version.
    pub chancery: &'static str,
    pub profile: String,
    pub module: BTreeMap<&'static str, String>,
    pub token: BTreeMap<&'static str, String>,
    pub mechanisms: Vec<String>,
    pub key: KeyFacts,
    pub signatures: Option<Signatures>,
    pub together: Option<Together>,
    /// As many as could be opened, up to 128.
    pub sessions: Option<usize>,
    pub rules: Vec<Rule>,
    /// No rule failed, and all were asked.
    pub passed: bool,
}

/// The key that was signed with.
#[derive(Clone, Debug, Default, Serialize)]
pub struct KeyFacts {
    pub label: String,
    pub address: Option<Address>,
    /// By their names in PKCS#11; those that the token does not show are `absent`.
    pub attributes: BTreeMap<String, String>,
    /// In which form the public key is shown, and on which object.
    pub point: Option<String>,
}

/// One session, one signature after another.
#[derive(Clone, Debug, Serialize)]
pub struct Signatures {
    pub count: usize,
    pub high_s: usize,
    /// Those whose r or s begins with a zero byte, where a sloppy encoding would be shorter.
    pub short_numbers: usize,
    /// The same digest twice gives the same signature.
    pub deterministic: bool,
    pub microseconds: Percentiles,
}

/// Several sessions at once.
#[derive(Clone, Debug, Serialize)]
pub struct Together {
    pub sessions: usize,
    pub count: usize,
    pub per_second: u64,
    pub alone_per_second: u64,
    pub microseconds: Percentiles,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Percentiles {
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub max: u64,
}

/// What is asked of a token, and how this one does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rule {
    pub rule: &'static str,
    pub verdict: Verdict,
    pub found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Pass,
    Fail,
    /// Neither: it was not asked, or Chancery can live with it.
    Note,
}

impl Rule {
    pub(super) fn pass(rule: &'static str, found: impl Display) -> Self {
        Self { rule, verdict: Verdict::Pass, found: found.to_string(), advice: None }
    }

    pub(super) fn note(rule: &'static str, found: impl Display, advice: &str) -> Self {
        let advice = Some(advice.to_owned()).filter(|advice| !advice.is_empty());
        Self { rule, verdict: Verdict::Note, found: found.to_string(), advice }
    }

    pub(super) fn fail(rule: &'static str, found: impl Display, advice: impl Display) -> Self {
        Self { rule, verdict: Verdict::Fail, found: found.to_string(), advice: Some(advice.to_string()) }
    }
}

impl Percentiles {
    pub(super) fn of(mut microseconds: Vec<u64>) -> Self {
        microseconds.sort_unstable();
        let last = microseconds.len().saturating_sub(1);
        let at = |per_cent: usize| {
            let place = last.saturating_mul(per_cent).div_ceil(100);
            microseconds.get(place).copied().unwrap_or_default()
        };
        Self { p50: at(50), p90: at(90), p99: at(99), max: at(100) }
    }
}

impl Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Pass => "pass",
            Verdict::Note => "note",
            Verdict::Fail => "FAIL",
        };
        write!(f, "{verdict:<5} {:<12} {}", self.rule, self.found)?;
        if let Some(advice) = &self.advice {
            write!(f, "\n{:<18} {advice}", "")?;
        }
        Ok(())
    }
}

impl Display for Percentiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { p50, p90, p99, max } = self;
        write!(f, "p50 {p50} \u{b5}s, p90 {p90} \u{b5}s, p99 {p99} \u{b5}s, max {max} \u{b5}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_what_was_measured() {
        assert_eq!(Percentiles::of(vec![]), Percentiles::default());
        assert_eq!(Percentiles::of(vec![7]), Percentiles { p50: 7, p90: 7, p99: 7, max: 7 });
        let all = (1..=101).rev().collect();
        assert_eq!(Percentiles::of(all), Percentiles { p50: 51, p90: 91, p99: 100, max: 101 });
    }
}
