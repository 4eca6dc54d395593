//! From policy files as written to a policy as meant: every mistake is found, and named with its line.

mod argument;
mod contract;
mod matcher;
mod names;
mod rule;
mod value;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::Range;
use std::path::Path;

use alloy_primitives::B256;

use crate::clock::Clock;
use crate::config::{ConfigError, position};
use crate::policy::caps::Caps;
use crate::policy::decide::Policy;
use crate::policy::error::PolicyError;
use crate::policy::index::Index;
use crate::policy::load::Source;
use crate::policy::rate::Rates;
use crate::policy::rule::Place;
use crate::policy::world::World;
use crate::policy::wrapper::Wrappers;
use crate::policy::written;

use names::Names;

/// A policy, but for the text of its archive.
pub(in crate::policy) struct Read {
    pub policy: Policy,
    /// The ABIs that were used, by name.
    pub abis: BTreeMap<String, String>,
}

pub(in crate::policy) fn policy(
    sources: &[Source],
    world: &World,
    abi_text: impl Fn(&str) -> Result<String, String>,
) -> Result<Read, PolicyError> {
    let mut mistakes = Vec::new();
    let mut files = Vec::new();
    for source in sources {
        match toml::from_str::<written::File>(&source.text) {
            Ok(written) => files.push((File::of(source), written)),
            Err(e) => mistakes.push(ConfigError::of_toml(&source.path, &source.text, &e)),
        }
    }
    let mut names = Names::new(world);
    for (file, written) in &mut files {
        contract::read(file, &written.contracts, &mut names, &abi_text);
    }
    let mut rules = Vec::new();
    let mut rates = Vec::new();
    let mut caps = None;
    for (file, written) in &mut files {
        rules.extend(written.rule.iter().filter_map(|written| rule::read(file, written, &mut names)));
        rates.extend(written.rate.iter().filter_map(|written| rule::read_rate(file, written, &mut names)));
        if let Some(written) = &written.caps {
            if caps.is_some() {
                file.wrong(&written.span(), "there are [caps] already; they stand once for all files");
            }
            caps = Some(rule::read_caps(file, written.get_ref()));
        }
        if let Some(budget) = &written.budget {
            file.wrong(&budget.span(), "`budget` is not read by this version; bound each call by its arguments, `value` and `execution_fee`, and its number by [[rate]]");
        }
    }
    mistakes.extend(files.into_iter().flat_map(|(file, _)| file.mistakes));
    if !mistakes.is_empty() {
        mistakes.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
        return Err(PolicyError { mistakes });
    }
    rules.sort_by(|a, b| a.id.cmp(&b.id));
    rates.sort_by(|a, b| a.id.cmp(&b.id));
    let abis = names.take_abis();
    let policy = Policy {
        index: Index::new(&rules),
        rules,
        caps: caps.unwrap_or_default(),
        rates: Rates::new(rates),
        book: names.into_book(),
        wrappers: Wrappers::known(),
        hash: B256::ZERO,
        text: String::new(),
        clock: Clock::system(),
    };
    Ok(Read { policy, abis })
}

/// The file that is being read, and the mistakes found in it.
struct File<'a> {
    path: &'a Path,
    text: &'a str,
    mistakes: Vec<ConfigError>,
}

impl<'a> File<'a> {
    fn of(source: &'a Source) -> Self {
        Self { path: &source.path, text: &source.text, mistakes: Vec::new() }
    }

    fn wrong(&mut self, span: &Range<usize>, what: impl Display) {
        self.mistakes.push(ConfigError::at(self.path, self.text, span, what));
    }

    /// The value, or its mistake.
    fn right<T, E: Display>(&mut self, span: &Range<usize>, read: Result<T, E>) -> Option<T> {
        read.map_err(|e| self.wrong(span, e)).ok()
    }

    fn place(&self, span: &Range<usize>) -> Place {
        Place { file: self.path.to_owned(), line: position(self.text, span.start) }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            rules: Vec::new(),
            index: Index::default(),
            caps: Caps::default(),
            rates: Rates::new(Vec::new()),
            book: crate::policy::facts::Book::default(),
            wrappers: Wrappers::known(),
            hash: B256::ZERO,
            text: String::new(),
            clock: Clock::system(),
        }
    }
}
