//! What gateway and worker say to each other over their socketpair: length, version, kind, body.
//!
//! The first frame is the worker's settings; after it, requests one way and answers the other, many in flight.

use std::collections::BTreeMap;
use std::path::PathBuf;

use alloy_primitives::{Address, B256};
use serde::{Deserialize, Serialize};

use crate::config::{Backup, PinForm};

const VERSION: u8 = 1;

/// Larger than any frame but the settings, which are ours.
pub(super) const MAX_FRAME: usize = 1 << 20;

/// What a worker is to hold. No secret: it reads the PIN itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    pub name: String,
    pub keys: Vec<KeySetting>,
    pub source: SourceSetting,
    /// Set for the worker's process before it starts.
    pub environment: BTreeMap<String, String>,
    /// What it may use; `None` where nothing is kept from it.
    pub sandbox: Option<SandboxSetting>,
    /// How long a call into the module may take.
    pub hang_limit_ms: u64,
    pub max_stuck: usize,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeySetting {
    pub number: u16,
    pub label: String,
    /// Pinned: another address is another key.
    pub address: Address,
    /// What must be true of whether it can leave its token; any of it where nobody says.
    pub backup: Option<Backup>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub(super) enum SourceSetting {
    Token {
        module: PathBuf,
        label: String,
        serial: Option<String>,
        /// `None` where it comes over the socketpair, open.
        pin_file: Option<PathBuf>,
        /// A PIN that does not look so is not tried.
        pin_form: PinForm,
        latch: PathBuf,
        sessions: usize,
    },
    Keystores {
        files: Vec<(PathBuf, PathBuf)>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SandboxSetting {
    pub network: bool,
    /// Beside what every program needs, and what the environment names.
    pub read: Vec<PathBuf>,
    pub write: Vec<PathBuf>,
}

/// What the kernel keeps from a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Confinement {
    /// Nothing: the configuration says so.
    Off,
    /// All that it was asked for; with or without the network.
    Whole { network: bool },
    /// Less than it was asked for.
    Part(String),
}

/// A frame, in either direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// To the worker, first: [`Settings`] as JSON.
    Settings(Vec<u8>),
    /// To the worker.
    Sign {
        id: u64,
        within_ms: u32,
        key: u16,
        digest: B256,
    },
    /// From the worker: how it stands.
    Status(Status),
    /// From the worker.
    Signed {
        id: u64,
        raw: [u8; 64],
        /// In the worker's queue, and in the token.
        waited_us: u32,
        took_us: u32,
    },
    Failed {
        id: u64,
        class: Class,
        why: String,
    },
    /// From the worker, now and then: what it counted.
    Report(Report),
}

/// What a worker counts. No secret, and no number of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Report {
    /// Open, the anchor not counted.
    pub sessions: usize,
    /// In a call into the module.
    pub busy: usize,
    pub waiting: usize,
    /// Threads that were given up on and have not come back.
    pub stuck: usize,
    /// Since the last report: threads given up on, logins, and each function's error codes.
    pub replaced: u64,
    pub logins: u64,
    pub errors: BTreeMap<String, u64>,
    /// Since this worker started: signatures begun and made for the gateway, and those that proved keys.
    pub calls: u64,
    pub made: u64,
    pub proofs: u64,
}

/// How a worker stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    Ready {
        sessions: usize,
        confinement: Confinement,
    },
    /// The token is there and is not what the configuration says: no use in trying again.
    Mismatch(String),
    /// A PIN was refused before; nothing was tried.
    Latched(String),
    Down(String),
}

/// Error classes of a signing call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Class {
    /// The request or the key's configuration; no retry helps.
    Request = 1,
    /// The session is of no use any more; a fresh one is.
    Session = 2,
    /// Throttled or full.
    Busy = 3,
    /// The token is in trouble; where it happens again and again, the worker ends.
    Down = 4,
    /// PIN trouble; never retried by itself.
    Credentials = 5,
    /// The deadline passed before the token was asked, or while it was.
    Late = 6,
    /// The token is not there any more: only a new worker finds it again.
    Gone = 7,
}

/// The other side does not keep to the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed frame between gateway and signer worker")]
pub(super) struct Malformed;

impl Frame {
    /// Appends the frame, its length first.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        out.push(VERSION);
        match self {
            Self::Settings(json) => {
                out.push(0);
                out.extend_from_slice(json);
            }
            Self::Sign { id, within_ms, key, digest } => {
                out.push(1);
                out.extend_from_slice(&id.to_be_bytes());
                out.extend_from_slice(&within_ms.to_be_bytes());
                out.extend_from_slice(&key.to_be_bytes());
                out.extend_from_slice(digest.as_slice());
            }
            Self::Status(status) => {
                out.push(2);
                // A status is made of strings and a number; it always serializes.
                out.extend_from_slice(&serde_json::to_vec(status).unwrap_or_default());
            }
            Self::Signed { id, raw, waited_us, took_us } => {
                out.push(3);
                out.extend_from_slice(&id.to_be_bytes());
                out.extend_from_slice(&waited_us.to_be_bytes());
                out.extend_from_slice(&took_us.to_be_bytes());
                out.extend_from_slice(raw);
            }
            Self::Failed { id, class, why } => {
                out.push(4);
                out.extend_from_slice(&id.to_be_bytes());
                out.push(class.byte());
                out.extend_from_slice(why.as_bytes());
            }
            Self::Report(report) => {
                out.push(5);
                // Made of strings and numbers as well.
                out.extend_from_slice(&serde_json::to_vec(report).unwrap_or_default());
            }
        }
        let length = u32::try_from(out.len().saturating_sub(start).saturating_sub(4)).unwrap_or(u32::MAX);
        if let Some(place) = out.get_mut(start..start.saturating_add(4)) {
            place.copy_from_slice(&length.to_be_bytes());
        }
    }

    /// The length in a frame's first four bytes, if it can be true.
    pub(super) fn length(first: [u8; 4]) -> Result<usize, Malformed> {
        let length = usize::try_from(u32::from_be_bytes(first)).map_err(|_| Malformed)?;
        (2..=MAX_FRAME).contains(&length).then_some(length).ok_or(Malformed)
    }

    /// Reads what stands after the length.
    pub(super) fn read(body: &[u8]) -> Result<Self, Malformed> {
        let (&[version, kind], rest) = body.split_first_chunk::<2>().ok_or(Malformed)?;
        if version != VERSION {
            return Err(Malformed);
        }
        let id = || {
            rest.split_first_chunk::<8>().map(|(id, rest)| (u64::from_be_bytes(*id), rest)).ok_or(Malformed)
        };
        Ok(match kind {
            0 => Self::Settings(rest.to_vec()),
            1 => {
                let (id, rest) = id()?;
                let (within, rest) = rest.split_first_chunk::<4>().ok_or(Malformed)?;
                let (key, digest) = rest.split_first_chunk::<2>().ok_or(Malformed)?;
                Self::Sign {
                    id,
                    within_ms: u32::from_be_bytes(*within),
                    key: u16::from_be_bytes(*key),
                    digest: B256::try_from(digest).map_err(|_| Malformed)?,
                }
            }
            2 => Self::Status(serde_json::from_slice(rest).map_err(|_| Malformed)?),
            3 => {
                let (id, rest) = id()?;
                let (waited, rest) = rest.split_first_chunk::<4>().ok_or(Malformed)?;
                let (took, raw) = rest.split_first_chunk::<4>().ok_or(Malformed)?;
                Self::Signed {
                    id,
                    raw: raw.try_into().map_err(|_| Malformed)?,
                    waited_us: u32::from_be_bytes(*waited),
                    took_us: u32::from_be_bytes(*took),
                }
            }
            4 => {
                let (id, rest) = id()?;
                let (class, why) = rest.split_first().ok_or(Malformed)?;
                let class = Class::of(*class).ok_or(Malformed)?;
                Self::Failed { id, class, why: String::from_utf8_lossy(why).into_owned() }
            }
            5 => Self::Report(serde_json::from_slice(rest).map_err(|_| Malformed)?),
            _ => return Err(Malformed),
        })
    }
}

impl Class {
    const ALL: [Self; 7] =
        [Self::Request, Self::Session, Self::Busy, Self::Down, Self::Credentials, Self::Late, Self::Gone];

    const fn byte(self) -> u8 {
        match self {
            Self::Request => 1,
            Self::Session => 2,
            Self::Busy => 3,
            Self::Down => 4,
            Self::Credentials => 5,
            Self::Late => 6,
            Self::Gone => 7,
        }
    }

    fn of(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.byte() == byte)
    }

    /// For metrics: a fixed set.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Session => "session",
            Self::Busy => "busy",
            Self::Down => "down",
            Self::Credentials => "credentials",
            Self::Late => "late",
            Self::Gone => "gone",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_frame_is_read_as_it_was_written() {
        let frames = [
            Frame::Settings(b"{}".to_vec()),
            Frame::Sign { id: 7, within_ms: 6000, key: 3, digest: B256::repeat_byte(9) },
            Frame::Status(Status::Ready { sessions: 4, confinement: Confinement::Whole { network: false } }),
            Frame::Status(Status::Mismatch("another key".to_owned())),
            Frame::Signed { id: u64::MAX, raw: [5; 64], waited_us: 3, took_us: u32::MAX },
            Frame::Report(Report {
                stuck: 2,
                errors: [("C_Sign".to_owned(), 4)].into(),
                ..Report::default()
            }),
            Frame::Failed { id: 1, class: Class::Busy, why: "CKR_SESSION_COUNT".to_owned() },
        ];
        let mut bytes = Vec::new();
        for frame in &frames {
            frame.write(&mut bytes);
        }
        let mut rest = bytes.as_slice();
        for frame in frames {
            let (length, body) = rest.split_first_chunk::<4>().unwrap();
            let (body, after) = body.split_at(Frame::length(*length).unwrap());
            assert_eq!(Frame::read(body), Ok(frame));
            rest = after;
        }
        assert!(rest.is_empty());
    }

    #[test]
    fn inv_12_a_malformed_frame_is_refused() {
        for body in [
            &[][..],
            &[1],
            &[2, 0],
            &[1, 9],
            &[1, 1, 0],
            &[1, 3, 0, 0, 0, 0, 0, 0, 0, 1, 5],
            &[1, 4, 0, 0, 0, 0, 0, 0, 0, 1, 77],
        ] {
            assert_eq!(Frame::read(body), Err(Malformed), "{body:?}");
        }
        let mut long = Vec::new();
        Frame::Sign { id: 7, within_ms: 1, key: 3, digest: B256::ZERO }.write(&mut long);
        long.push(0);
        assert_eq!(Frame::read(&long[4..]), Err(Malformed));
        for length in [0_u32, 1, 1 << 21, u32::MAX] {
            assert!(Frame::length(length.to_be_bytes()).is_err());
        }
    }
}
