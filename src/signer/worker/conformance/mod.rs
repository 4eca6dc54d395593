//! `keys conformance`: the whole contract between Chancery and a token, tried on a customer's own.
//!
//! It runs in the command's process, on a thread of its own: what was found is kept where a module hangs. The PIN is
//! tried once, and again only where the token took it before.

mod facts;
mod report;
mod trials;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alloy_primitives::Address;
use cryptoki::context::Pkcs11;
use cryptoki::mechanism::MechanismType;
use cryptoki::object::ObjectHandle;
use cryptoki::session::{Session, SessionState};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;

use crate::signer::worker::destroy::destroy_pair;
use crate::signer::worker::errors::said;
use crate::signer::worker::keys::{
    KeyError, TokenAccess, born_here, log_in, make, not_latched, source, status, token,
};
use crate::signer::worker::prove::{fit_to_sign, private_key, public_address};
use crate::signer::worker::token::{find, load, read_pin};

use report::{KeyFacts, Percentiles};

pub use report::{Report, Rule, Verdict};

/// How many sessions are opened at most to find the limit.
const MOST_SESSIONS: usize = 128;

/// What is tried.
#[derive(Clone, Debug)]
pub struct Trial {
    /// A key of the token; without one a key is made, and destroyed at the end.
    pub key: Option<String>,
    pub signatures: usize,
    /// How many sign at once.
    pub sessions: usize,
    /// Also initialise the module anew under an open session.
    pub lose_sessions: bool,
    /// How long one rule may take before the module counts as hung.
    pub patience: Duration,
}

/// An open token: what the rules work with.
struct Desk {
    access: TokenAccess,
    trial: Trial,
    module: Pkcs11,
    slot: Slot,
    pin: AuthPin,
    session: Session,
}

/// The key that is signed with.
struct TrialKey {
    label: String,
    handle: ObjectHandle,
    address: Address,
    /// It was made for this, and what is done to it harms nobody.
    is_ours: bool,
}

/// Where what is found is written, as it is found.
#[derive(Clone)]
struct Sink {
    report: Arc<Mutex<Report>>,
    rules: Sender<Rule>,
}

/// Why the rest of the rules cannot be asked.
struct Ended;

/// Tries a token. `tell` hears of each rule as it is asked.
pub fn conformance(access: &TokenAccess, trial: &Trial, mut tell: impl FnMut(&Rule)) -> Report {
    let report = Report {
        chancery: env!("CARGO_PKG_VERSION"),
        profile: access.profile.name.clone(),
        ..Report::default()
    };
    let report = Arc::new(Mutex::new(report));
    let (rules, heard) = channel();
    let sink = Sink { report: Arc::clone(&report), rules };
    let (access, trial, patience) = (access.clone(), trial.clone(), trial.patience);
    std::thread::spawn(move || {
        let ended = try_all(access, trial, &sink).is_err();
        sink.fill(|report| {
            report.passed = !ended && report.rules.iter().all(|rule| rule.verdict != Verdict::Fail);
        });
    });
    loop {
        match heard.recv_timeout(patience) {
            Ok(rule) => tell(&rule),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                let rule = Rule::fail(
                    "answers",
                    format_args!("a call did not come back within {} s", patience.as_secs()),
                    "look at the library's own time-outs, and whether the device can be reached",
                );
                tell(&rule);
                lock(&report).rules.push(rule);
                break;
            }
        }
    }
    lock(&report).clone()
}

fn try_all(access: TokenAccess, trial: Trial, sink: &Sink) -> Result<(), Ended> {
    let desk = Desk::open(access, trial, sink)?;
    desk.mechanisms(sink);
    let key = desk.key(sink)?;
    let tried = desk.trials(&key, sink);
    // Whatever was found, the token is left as it was.
    desk.clean_up(&key, sink);
    tried?;
    if desk.trial.lose_sessions {
        desk.lose_sessions(&key, sink);
    }
    Ok(())
}

impl Desk {
    fn open(access: TokenAccess, trial: Trial, sink: &Sink) -> Result<Self, Ended> {
        let module = load(&access.module).map_err(status);
        let module = sink.need(
            "module",
            module,
            "is it the right file, and does the library find its own configuration?",
        )?;
        let facts =
            sink.need("module", facts::of_module(&module).map_err(token), "the library answers nothing")?;
        sink.rule(Rule::pass(
            "module",
            format_args!("{}, {}", said_of(&facts, "description"), said_of(&facts, "version")),
        ));
        sink.fill(|report| report.module = facts);

        let slot = find(&module, &access.label, access.serial.as_deref()).map_err(status);
        let slot =
            sink.need("token", slot, "`label` is the token's own; where two have the same, give `serial`")?;
        let info = sink.need("token", module.get_token_info(slot).map_err(token), "is the device there?")?;
        let facts = facts::of_token(&info);
        sink.rule(Rule::pass(
            "token",
            format_args!(
                "{} {}, firmware {}",
                said_of(&facts, "manufacturer"),
                said_of(&facts, "model"),
                said_of(&facts, "firmware")
            ),
        ));
        sink.fill(|report| report.token = facts);

        let read = not_latched(&access).and_then(|()| {
            if info.user_pin_locked() || info.user_pin_final_try() {
                let why = "the token says that its PIN is locked or has one try left; it was not tried";
                return Err(KeyError::Token(why.to_owned()));
            }
            read_pin(&source(&access), access.profile.pin_form).map_err(status)
        });
        let pin = sink.need("login", read, "set the PIN right first; nothing was tried")?;
        let session =
            sink.need("login", module.open_rw_session(slot).map_err(token), "no session can be opened")?;
        let logged = log_in(&access, &session, &pin);
        sink.need("login", logged, "it is not tried again: correct the PIN, then `chancery keys unlatch`")?;
        let desk = Self { access, trial, module, slot, pin, session };
        let second = sink.need(
            "login",
            desk.module.open_rw_session(slot).map_err(token),
            "only one session can be opened; two are needed",
        )?;
        let kind = if is_in(&second) {
            "the application's: one holds for all sessions"
        } else {
            "each session's own"
        };
        sink.rule(Rule::pass("login", format_args!("the PIN was taken; a login is {kind}")));
        Ok(desk)
    }

    /// Another session, logged in. The PIN is given again only to a token that took it and wants it for each session.
    fn another(&self) -> Result<Session, KeyError> {
        let session = self.module.open_rw_session(self.slot).map_err(token)?;
        if !is_in(&session) {
            log_in(&self.access, &session, &self.pin)?;
        }
        Ok(session)
    }

    fn mechanisms(&self, sink: &Sink) {
        let list = self.module.get_mechanism_list(self.slot).unwrap_or_default();
        let names = list.iter().map(ToString::to_string).collect();
        sink.fill(|report| report.mechanisms = names);
        let info = |mechanism| self.module.get_mechanism_info(self.slot, mechanism);
        sink.rule(match info(MechanismType::ECDSA) {
            Ok(info) if info.sign() => Rule::pass("mechanism", "CKM_ECDSA signs"),
            Ok(_) => {
                Rule::fail("mechanism", "CKM_ECDSA is there and may not sign", "look at the token's policies")
            }
            Err(error) => Rule::fail(
                "mechanism",
                said(&error),
                "CKM_ECDSA is what Chancery signs with; look at the token's policies",
            ),
        });
        sink.rule(match info(MechanismType::ECC_KEY_PAIR_GEN) {
            Ok(info) if info.generate_key_pair() => Rule::pass("mechanism", "CKM_EC_KEY_PAIR_GEN makes keys"),
            _ => Rule::note("mechanism", "no CKM_EC_KEY_PAIR_GEN", "make keys with the vendor's tools"),
        });
    }

    fn key(&self, sink: &Sink) -> Result<TrialKey, Ended> {
        let curve = &self.access.profile.curve;
        let label = if let Some(label) = &self.trial.key {
            label.clone()
        } else {
            let label = format!("chancery-trial-{:08x}", getrandom::u32().unwrap_or_default());
            let made = make(&self.session, &label, crate::config::Backup::Vendor);
            // One that was made and is not fit would stay for ever.
            if matches!(made, Err(KeyError::Unfit(_))) {
                drop(private_key(&self.session, &label).map(|key| destroy_pair(&self.session, key)));
            }
            let advice = format_args!("secp256k1: {curve}. A key that is there already is tried with --key");
            sink.need("generate", made, advice)?;
            sink.rule(Rule::pass("generate", "a secp256k1 key was made, which never leaves the token"));
            label
        };
        let advice = "labels must be unique in a token; `chancery keys list` shows all";
        let handle = sink.need("find", private_key(&self.session, &label), advice)?;
        sink.rule(Rule::pass("find", "exactly one private key has its label"));
        let attributes = facts::of_key(&self.session, handle);
        let point = facts::point_of(&self.session, handle);
        let address = public_address(&self.session, handle).unwrap_or_default();
        sink.fill(|report| {
            report.key = KeyFacts { label: label.clone(), address, attributes, point: point.clone() }
        });
        sink.rule(match fit_to_sign(&self.session, handle, None) {
            Ok(()) => Rule::pass(
                "attributes",
                "it may sign, is sensitive, and leaves its token under a trusted key or not at all; its curve is secp256k1",
            ),
            Err(error) => Rule::fail("attributes", error, "`serve` refuses such a key: make it anew"),
        });
        sink.rule(match (born_here(&self.session, handle), self.trial.key.is_some()) {
            (true, _) => Rule::pass("birth", "made in this token, and never outside"),
            (false, true) => Rule::note(
                "birth",
                "it came into this token, or the token does not say",
                "right for a key that was restored here",
            ),
            (false, false) => Rule::fail(
                "birth",
                "the token does not say that it was made here",
                "`chancery keys generate` would refuse it",
            ),
        });
        let is_ours = self.trial.key.is_none();
        let Some(address) = address else {
            sink.rule(Rule::fail(
                "public key",
                "neither the public nor the private key shows a CKA_EC_POINT that is understood",
                "send us the report",
            ));
            self.clean_up(&TrialKey { label, handle, address: Address::ZERO, is_ours }, sink);
            return Err(Ended);
        };
        sink.rule(Rule::pass("public key", point.unwrap_or_default()));
        Ok(TrialKey { label, handle, address, is_ours })
    }

    fn clean_up(&self, key: &TrialKey, sink: &Sink) {
        if !key.is_ours {
            return;
        }
        let advice = format!("take the key `{}` out of the token with the vendor's tools", key.label);
        if let Err(error) = destroy_pair(&self.session, key.handle) {
            sink.rule(Rule::fail("destroy", said(&error), advice));
            return;
        }
        let left = private_key(&self.session, &key.label);
        sink.rule(match (left, trials::sign_once(&self.session, key)) {
            (Ok(_), _) => Rule::fail("destroy", "the key is still found after it was destroyed", advice),
            (Err(_), Ok(_)) => {
                Rule::fail("destroy", "a key that was destroyed still signs", "send us the report")
            }
            (Err(_), Err(why)) => {
                Rule::pass("destroy", format_args!("the trial key is gone; its handle gives {why}"))
            }
        });
    }
}

impl Sink {
    fn rule(&self, rule: Rule) {
        lock(&self.report).rules.push(rule.clone());
        // Nobody hears it where the module hung before.
        drop(self.rules.send(rule));
    }

    fn fill(&self, fill: impl FnOnce(&mut Report)) {
        fill(&mut lock(&self.report));
    }

    /// Without this nothing else can be asked.
    fn need<T, E: Display>(
        &self,
        rule: &'static str,
        got: Result<T, E>,
        advice: impl Display,
    ) -> Result<T, Ended> {
        got.map_err(|error| {
            self.rule(Rule::fail(rule, error, advice));
            Ended
        })
    }
}

fn said_of<'a>(facts: &'a BTreeMap<&'static str, String>, name: &str) -> &'a str {
    facts.get(name).map_or("", String::as_str)
}

/// Whether the session is logged in.
fn is_in(session: &Session) -> bool {
    session.get_session_info().is_ok_and(|info| matches!(info.session_state(), SessionState::RwUser))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn percentiles(times: &[Duration]) -> Percentiles {
    Percentiles::of(times.iter().map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX)).collect())
}
