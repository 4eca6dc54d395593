//! Signing with the trial key: every signature is over a value that can be no transaction and no message, and is
//! held against the key's address.

use std::time::Duration;

use alloy_primitives::B256;
use cryptoki::context::{CInitializeArgs, CInitializeFlags};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::session::Session;
use tokio::time::Instant;

use crate::signer::probe_digest;
use crate::signer::protocol::Class;
use crate::signer::worker::conformance::report::{Rule, Signatures, Together};
use crate::signer::worker::conformance::{Desk, Ended, MOST_SESSIONS, Sink, TrialKey, percentiles};
use crate::signer::worker::errors::{class_of, said};
use crate::signer::worker::keys::{KeyError, token};
use crate::signer::worker::prove::private_key;
use crate::signer::worker::token::sign;
use crate::transaction::recover;

/// Signatures of one session, all of them right.
#[derive(Default)]
struct Made {
    times: Vec<Duration>,
    high_s: usize,
    short_numbers: usize,
}

impl Desk {
    pub(super) fn trials(&self, key: &TrialKey, sink: &Sink) -> Result<(), Ended> {
        let advice = "a token that answers so cannot be used: send us the report";
        let (alone, took) = sink.need("signs", made(&self.session, key, self.trial.signatures), advice)?;
        let deterministic = sink.need("signs", is_deterministic(&self.session, key), advice)?;
        let count = alone.times.len();
        let signatures = Signatures {
            count,
            high_s: alone.high_s,
            short_numbers: alone.short_numbers,
            deterministic,
            microseconds: percentiles(&alone.times),
        };
        let text =
            format!("{count} signatures, each of 64 bytes and by this key; {}", signatures.microseconds);
        sink.rule(Rule::pass("signs", text));
        let text = format!(
            "{} of {count} are high-s, which Chancery normalises; the same value twice is {}",
            alone.high_s,
            if deterministic { "the same signature" } else { "another signature" },
        );
        sink.rule(Rule::pass("high-s", text));
        sink.fill(|report| report.signatures = Some(signatures));

        self.together(key, per_second(count, took), sink)?;
        self.session_limit(sink);
        self.open_operation(key, sink);
        if key.is_ours {
            self.other_lengths(key, sink);
        }
        Ok(())
    }

    fn together(&self, key: &TrialKey, alone: u64, sink: &Sink) -> Result<(), Ended> {
        let mut sessions = Vec::new();
        let trouble = loop {
            if sessions.len() >= self.trial.sessions {
                break None;
            }
            match self.another() {
                Ok(session) => sessions.push(session),
                Err(error) => break Some(error),
            }
        };
        let wanted = self.trial.sessions;
        if sessions.is_empty() {
            let why = trouble.map_or_else(String::new, |error| error.to_string());
            sink.rule(Rule::fail("together", why, "a second session is needed: the first keeps the login"));
            return Err(Ended);
        }
        let each = self.trial.signatures.div_ceil(sessions.len()).max(2);
        let many = sessions.len();
        let began = Instant::now();
        let all = std::thread::scope(|scope| {
            let running: Vec<_> =
                sessions.into_iter().map(|session| scope.spawn(move || found(&session, key, each))).collect();
            let ended = running
                .into_iter()
                .map(|one| one.join().unwrap_or_else(|_| Err("a thread ended".to_owned())));
            ended.collect::<Result<Vec<_>, String>>()
        });
        let took = began.elapsed();
        let all = sink.need(
            "together",
            all,
            "sessions disturb each other: set `sessions = 1`, and send us the report",
        )?;
        let times: Vec<Duration> = all.into_iter().flat_map(|made| made.times).collect();
        let together = Together {
            sessions: many,
            count: times.len(),
            per_second: per_second(times.len(), took),
            alone_per_second: alone,
            microseconds: percentiles(&times),
        };
        let text = format!(
            "{} signatures by {many} sessions at once, {} a second ({alone} by one alone); {}",
            together.count, together.per_second, together.microseconds
        );
        sink.rule(match trouble {
            None => Rule::pass("together", text),
            Some(error) => Rule::note(
                "together",
                format_args!("{text}; of {wanted} sessions no more could be opened: {error}"),
                "set `sessions` to what there is",
            ),
        });
        sink.fill(|report| report.together = Some(together));
        Ok(())
    }

    fn session_limit(&self, sink: &Sink) {
        let mut open = Vec::new();
        let limit = loop {
            if open.len() >= MOST_SESSIONS {
                break None;
            }
            match self.module.open_rw_session(self.slot) {
                Ok(session) => open.push(session),
                Err(error) => break Some(error),
            }
        };
        // The first is the anchor, beside these.
        let count = open.len();
        drop(open);
        sink.fill(|report| report.sessions = Some(count));
        sink.rule(match limit {
            None => Rule::pass(
                "sessions",
                format_args!("{count} more than the first can be opened; no more were tried"),
            ),
            Some(error) if class_of(&error) == Class::Busy => Rule::pass(
                "sessions",
                format_args!("{count} more than the first can be opened; then {}", said(&error)),
            ),
            Some(error) => Rule::note(
                "sessions",
                format_args!("{count} more than the first can be opened; then {}", said(&error)),
                "this code does not say that there are too many: keep `sessions` at or below this number",
            ),
        });
    }

    /// What an operation that was begun and not ended does to the session.
    fn open_operation(&self, key: &TrialKey, sink: &Sink) {
        let tried = || -> Result<Option<Error>, KeyError> {
            let session = self.another()?;
            let handle = private_key(&session, &key.label).map_err(|e| KeyError::Token(e.to_string()))?;
            session.sign_init(&Mechanism::Ecdsa, handle).map_err(token)?;
            Ok(session.sign_init(&Mechanism::Ecdsa, handle).err())
        };
        sink.rule(match tried() {
            Ok(Some(error)) if class_of(&error) == Class::Session => Rule::pass(
                "open call",
                format_args!("a second C_SignInit gives {}; a fresh session helps", said(&error)),
            ),
            Ok(Some(error)) => Rule::note(
                "open call",
                format_args!("a second C_SignInit gives {}", said(&error)),
                "Chancery takes that for more than a lost session; send us the report",
            ),
            Ok(None) => Rule::note("open call", "a second C_SignInit is taken, against the standard", ""),
            Err(error) => Rule::note("open call", error, "it could not be tried"),
        });
    }

    /// `CKM_ECDSA` over something else than 32 bytes; only with a key that is nobody's.
    fn other_lengths(&self, key: &TrialKey, sink: &Sink) {
        let taken = [0_usize, 31, 33, 64].into_iter().filter(|length| {
            let Ok(session) = self.another() else { return false };
            let Ok(handle) = private_key(&session, &key.label) else { return false };
            session.sign(&Mechanism::Ecdsa, handle, &vec![0x5a; *length]).is_ok()
        });
        let taken: Vec<String> = taken.map(|length| length.to_string()).collect();
        sink.rule(if taken.is_empty() {
            Rule::pass("length", "nothing but 32 bytes is signed")
        } else {
            let found = format!("the token also signs {} bytes", taken.join(", "));
            Rule::note("length", found, "Chancery gives it exactly 32 bytes, always")
        });
    }

    /// A module that is initialised anew under an open session, as after a device's restart. The last thing that is
    /// done: no session of before is used or closed after it.
    pub(super) fn lose_sessions(self, key: &TrialKey, sink: &Sink) {
        let Self { module, session, .. } = self;
        let again = module.clone();
        let started = module
            .finalize()
            .and_then(|()| again.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)));
        let rule = match (started, session.sign_init(&Mechanism::Ecdsa, key.handle)) {
            (Err(error), _) => Rule::note(
                "lost",
                said(&error),
                "the module cannot be initialised anew in one process; Chancery starts a new one",
            ),
            (Ok(()), Err(error)) if matches!(class_of(&error), Class::Session | Class::Gone) => Rule::pass(
                "lost",
                format_args!("C_SignInit in a session that is gone gives {}", said(&error)),
            ),
            (Ok(()), Err(error)) => Rule::note(
                "lost",
                format_args!("C_SignInit in a session that is gone gives {}", said(&error)),
                "Chancery takes that for a token in trouble, and starts a new worker",
            ),
            (Ok(()), Ok(())) => Rule::fail(
                "lost",
                "a session of before the start is still taken",
                "its number may be another's: send us the report",
            ),
        };
        std::mem::forget(session);
        sink.rule(rule);
    }
}

/// One signature, or the code that came instead.
pub(super) fn sign_once(session: &Session, key: &TrialKey) -> Result<[u8; 64], String> {
    sign(session, key.handle, &probe_digest()).map_err(|error| said(&error))
}

/// So many signatures, and how long they took together.
fn made(session: &Session, key: &TrialKey, count: usize) -> Result<(Made, Duration), String> {
    let began = Instant::now();
    let mut made = Made::default();
    for _ in 0..count {
        one(session, key, &mut made)?;
    }
    Ok((made, began.elapsed()))
}

/// The same by a session that finds the key for itself: handles are a session's own on some tokens.
fn found(session: &Session, key: &TrialKey, count: usize) -> Result<Made, String> {
    let handle = private_key(session, &key.label).map_err(|error| error.to_string())?;
    let key = TrialKey { label: key.label.clone(), handle, address: key.address, is_ours: key.is_ours };
    made(session, &key, count).map(|(made, _)| made)
}

fn one(session: &Session, key: &TrialKey, made: &mut Made) -> Result<(), String> {
    let digest = probe_digest();
    let began = Instant::now();
    let raw = session.sign(&Mechanism::Ecdsa, key.handle, digest.as_slice());
    let took = began.elapsed();
    let raw = raw.map_err(|error| match error {
        Error::Pkcs11(RvError::UserNotLoggedIn, _) => format!("{} (CKA_ALWAYS_AUTHENTICATE?)", said(&error)),
        error => said(&error),
    })?;
    let raw: [u8; 64] = raw.as_slice().try_into().map_err(|_| {
        let form = if raw.first() == Some(&0x30) { ", it seems to be DER" } else { "" };
        format!("a signature has {} bytes instead of 64{form}", raw.len())
    })?;
    let signature = recover(digest, &raw, key.address).map_err(|error| error.to_string())?;
    let (r, s) = raw.split_at(32);
    made.times.push(took);
    made.high_s = made.high_s.saturating_add(usize::from(s != signature.s()));
    let is_short = r.first() == Some(&0) || s.first() == Some(&0);
    made.short_numbers = made.short_numbers.saturating_add(usize::from(is_short));
    Ok(())
}

fn is_deterministic(session: &Session, key: &TrialKey) -> Result<bool, String> {
    let digest: B256 = probe_digest();
    let again = || sign(session, key.handle, &digest).map_err(|error| said(&error));
    Ok(again()? == again()?)
}

fn per_second(count: usize, took: Duration) -> u64 {
    let count = u64::try_from(count).unwrap_or(u64::MAX);
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    count.saturating_mul(1_000_000).checked_div(micros).unwrap_or_default()
}
