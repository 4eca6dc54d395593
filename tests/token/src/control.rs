//! The control file: which faults there are now. It is read again whenever it changes.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use crate::codes;
use crate::counts::Counts;
use crate::places;

/// What stands in `control.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Control {
    /// Another one for each content.
    #[serde(default)]
    pub number: u64,
    #[serde(default, rename = "fault")]
    pub faults: Vec<Fault>,
}

/// Something that goes wrong, in one function or in all.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// `C_Sign`, or `*`.
    on: String,
    /// How many calls go well first.
    #[serde(default)]
    skip: u64,
    /// How many do not, after those; all of them by default.
    times: Option<u64>,
    /// How probable it is for each of them.
    chance: Option<f64>,
    #[serde(default, deserialize_with = "micros", rename = "delay_us")]
    pub delay: Option<Duration>,
    pub hang: Option<Hang>,
    pub lose: Option<Lose>,
    /// The process dies.
    #[serde(default)]
    pub abort: bool,
    /// What a module that was taken over would try: `read FILE`, `write FILE`, `connect ADDRESS`, `run PROGRAM`. What came
    /// of each is a line of the file `tried`.
    #[serde(default)]
    pub attempts: Vec<String>,
    /// The work is done first.
    #[serde(default)]
    pub after: bool,
    #[serde(default, deserialize_with = "named")]
    pub code: Option<u64>,
    pub signature: Option<Bad>,
    /// It is over when the process that met it first ends.
    #[serde(default)]
    until_restart: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hang {
    ForEver,
    UntilLifted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lose {
    Sessions,
    Login,
}

/// What is wrong with a signature that `C_Sign` gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bad {
    /// Not wrong at all, and not what Ethereum takes.
    HighS,
    WrongKey,
    FlippedBit,
    Zero,
    /// One byte is missing.
    Short,
}

/// The control file as it was read last.
pub struct Watched {
    path: PathBuf,
    read: Mutex<(Option<Seen>, Arc<Control>)>,
}

type Seen = (u64, i64, i64, u64);

impl Watched {
    pub fn new(folder: &Path) -> Self {
        Self { path: folder.join("control.toml"), read: Mutex::default() }
    }

    pub fn now(&self) -> Arc<Control> {
        let of = |file: Metadata| (file.ino(), file.mtime(), file.mtime_nsec(), file.len());
        let seen = std::fs::metadata(&self.path).ok().map(of);
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.is_some() && read.0 != seen {
            let text = std::fs::read_to_string(&self.path).expect("the control file is read");
            let control = toml::from_str(&text);
            *read = (seen, Arc::new(control.unwrap_or_else(|e| panic!("control.toml: {e}"))));
        }
        Arc::clone(&read.1)
    }
}

impl Control {
    /// The faults that this call of `function` meets.
    pub fn faults(&self, function: &str, counts: &Counts) -> Vec<&Fault> {
        let on = |fault: &Fault| fault.on == "*" || fault.on == function;
        let numbered = self.faults.iter().zip(0..).filter(|(fault, _)| on(fault));
        numbered.filter(|(fault, index)| fault.strikes(self.number, *index, counts)).map(|(f, _)| f).collect()
    }
}

impl Fault {
    fn strikes(&self, control: u64, index: u64, counts: &Counts) -> bool {
        if self.skip > 0 || self.times.is_some() {
            let seen = counts.add(places::fault(control, index));
            let last = self.times.map_or(u64::MAX, |times| self.skip + times);
            if !(self.skip..last).contains(&seen) {
                return false;
            }
        }
        if self.until_restart {
            let process = u64::from(std::process::id());
            let first = counts
                .change(places::process(control, index), |first| if first == 0 { process } else { first });
            if first != 0 && first != process {
                return false;
            }
        }
        self.chance.is_none_or(|chance| random() < chance)
    }
}

/// From 0 up to 1.
fn random() -> f64 {
    let bits = getrandom::u32().expect("randomness");
    f64::from(bits) / (f64::from(u32::MAX) + 1.0)
}

fn micros<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    Ok(Some(Duration::from_micros(u64::deserialize(from)?)))
}

fn named<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    let name = String::deserialize(from)?;
    let known = codes::code(&name);
    known.map(Some).ok_or_else(|| serde::de::Error::custom(format!("there is no code `{name}`")))
}
