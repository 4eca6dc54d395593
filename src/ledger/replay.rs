//! The audit chain lived through again: what each row may follow, and what the tables must hold at its end. Pure.

use std::collections::{BTreeSet, HashMap};

use alloy_primitives::{Address, B256, keccak256};

use crate::ledger::audit::{Entry, Head};
use crate::ledger::life::{State, Word, heard, heir};
use crate::ledger::note::{Note, SealedRow};
use crate::ledger::places::least_over;
use crate::ledger::reader::Reservation;
use crate::ledger::said::{
    About, Administration, Agrees, External, Final, Intent, Outcome, Policy, Signature, Started, read,
};
use crate::ledger::{Pause, PauseScope};
use crate::transaction::{Checkpoint, Kind as _, checkpoint_digest};

/// Everything that the chain has said so far.
#[derive(Debug)]
pub(in crate::ledger) struct Replay {
    pub head: Head,
    pub intents: usize,
    pub signatures: usize,
    pub disagreements: usize,
    policy: Option<B256>,
    /// In boxes: a table that grows copies what stands in it, and has room for twice as many.
    rows: HashMap<i64, Box<Lived>>,
    at_nonce: HashMap<(u64, Address, u64), Vec<i64>>,
    pauses: BTreeSet<PauseScope>,
    /// The number and the digest of the last checkpoint.
    sealed: Option<(u64, B256)>,
}

/// A reservation, as the chain tells it.
#[derive(Debug)]
struct Lived {
    /// The row of its intent.
    seq: i64,
    intent: Intent,
    state: State,
    /// What a node said of it last.
    word: Option<Word>,
    /// The hash of what was signed, and of the bytes that could leave.
    signed: Option<(B256, B256)>,
}

type Step = Result<(), String>;

impl Replay {
    pub(in crate::ledger) fn new() -> Self {
        Self {
            head: Head::START,
            intents: 0,
            signatures: 0,
            policy: None,
            rows: HashMap::new(),
            at_nonce: HashMap::new(),
            pauses: BTreeSet::new(),
            sealed: None,
            disagreements: 0,
        }
    }

    /// The next row: that it stands where it was written, and that it could have been written then.
    /// `is_whole` says whether its content is what its hash was made over.
    pub(in crate::ledger) fn step(&mut self, entry: &Entry, is_whole: bool) -> Step {
        entry.stands_after(&self.head, is_whole)?;
        self.head = Head::from(entry);
        match entry.kind.as_str() {
            "started" if read::<Started>(entry)?.shared => Ok(()),
            "started" => self.start(),
            "policy" => {
                self.policy = Some(read::<Policy>(entry)?.policy);
                Ok(())
            }
            "intent" => self.intent(entry.seq, read(entry)?),
            "signature" => self.sign(&read(entry)?),
            "void" => {
                let id = read::<About>(entry)?.reservation;
                self.turn(id, State::Void)?;
                self.restore(id, State::Void)
            }
            "outcome" => self.outcome(&read(entry)?),
            "final" => {
                let Final { reservation, block } = read(entry)?;
                self.turn(reservation, if block.is_some() { State::Final } else { State::Replaced })
            }
            "external" => self.external(&read(entry)?),
            "repeat" => self.row(read::<About>(entry)?.reservation).map(drop),
            "administration" => self.administration(&read(entry)?),
            "refusal" | "stopped" | "clock" => Ok(()),
            "checkpoint" => self.seal(&read(entry)?),
            "reconciliation" => {
                let agrees = read::<Agrees>(entry)?.agrees;
                self.disagreements = self.disagreements.saturating_add(usize::from(!agrees));
                Ok(())
            }
            plain if Note::PLAIN.contains(&plain) => Ok(()),
            other => Err(format!("it is of an unknown kind, {other}")),
        }
    }

    /// What a table's row says is what the chain says; else the chain's row to look at, and what is wrong.
    pub(in crate::ledger) fn compare(&mut self, row: &Reservation) -> Result<(), (i64, String)> {
        let id = row.id;
        let Some(Lived { seq, intent, state, word, signed }) = self.rows.remove(&id).map(|lived| *lived)
        else {
            return Err((self.head.seq, format!("the table has a reservation {id} that the chain has not")));
        };
        let wrong = |what: &str| Err((seq, format!("the table has another {what} for reservation {id}")));
        if (&row.kind, &row.client, row.account) != (&intent.kind, &intent.client, intent.account) {
            return wrong("kind, client or account");
        }
        if row.rule != intent.rule {
            return wrong("rule");
        }
        if (row.chain, row.nonce) != (intent.chain, intent.nonce) {
            return wrong("nonce");
        }
        if row.fees != [intent.max_fee, intent.max_tip, intent.max_blob_fee] {
            return wrong("fee");
        }
        if row.state != state.name() {
            return Err((
                seq,
                format!("the table has reservation {id} as {}, the chain as {}", row.state, state.name()),
            ));
        }
        if row.word.as_deref() != word.map(Word::name) {
            return wrong("word of a node");
        }
        if row.signed != signed {
            return wrong("signature");
        }
        Ok(())
    }

    /// What the table of pauses says is what the chain says.
    pub(in crate::ledger) fn compare_pauses(&self, pauses: &[Pause]) -> Result<(), (i64, String)> {
        let table: BTreeSet<_> = pauses.iter().map(|pause| &pause.scope).collect();
        let chain: BTreeSet<_> = self.pauses.iter().collect();
        table.symmetric_difference(&chain).next().map_or(Ok(()), |scope| {
            Err((self.head.seq, format!("the table and the chain differ on whether {scope} is paused")))
        })
    }

    /// After all rows of the table were compared: whether the chain knows of more.
    pub(in crate::ledger) fn left(&self) -> Result<(), (i64, String)> {
        let first = self.rows.values().min_by_key(|row| row.seq);
        first.map_or(Ok(()), |row| {
            Err((row.seq, format!("the table has lost reservation {}", row.intent.reservation)))
        })
    }

    fn start(&mut self) -> Step {
        self.policy = None;
        match self.rows.values().find(|row| row.state == State::Reserved) {
            Some(row) => Err(format!("it does not void reservation {}", row.intent.reservation)),
            None => Ok(()),
        }
    }

    fn administration(&mut self, done: &Administration) -> Step {
        let scope = || {
            let (kind, name) = (done.scope.as_deref(), done.name.as_deref());
            let scope = kind.zip(name).and_then(|(kind, name)| PauseScope::read(kind, name));
            scope.ok_or_else(|| "it does not say what was paused or resumed".to_owned())
        };
        match done.action.as_str() {
            "pause" if !self.pauses.insert(scope()?) => {
                return Err("it pauses what was paused".to_owned());
            }
            "resume" if !self.pauses.remove(&scope()?) => {
                return Err("it resumes what was not paused".to_owned());
            }
            _ => {}
        }
        Ok(())
    }

    fn paused(&self, intent: &Intent) -> Step {
        match self.pauses.iter().find(|scope| scope.covers(&intent.client, intent.account)) {
            Some(scope) => {
                Err(format!("reservation {} went on while {scope} was paused", intent.reservation))
            }
            None => Ok(()),
        }
    }

    fn intent(&mut self, seq: i64, intent: Intent) -> Step {
        self.intents = self.intents.saturating_add(1);
        let id = intent.reservation;
        self.paused(&intent)?;
        if self.policy != Some(intent.policy) {
            return Err(format!("reservation {id} was judged by a policy that was not in force"));
        }
        if self.rows.contains_key(&id) {
            return Err(format!("reservation {id} has two intents"));
        }
        if let (Some(chain), Some(nonce)) = (intent.chain, intent.nonce) {
            let place = (chain, intent.account, nonce);
            if let Some(replaced) = intent.replaces {
                let is_there = self.at_nonce.get(&place).is_some_and(|at| at.contains(&replaced));
                if !is_there {
                    return Err(format!("reservation {id} replaces {replaced}, which is not at its nonce"));
                }
                self.turn(replaced, State::Outbid)?;
            }
            for other in self.at_nonce.get(&place).into_iter().flatten() {
                let Some(other) = self.rows.get(other) else { continue };
                if other.state.is_live() || other.state == State::Final {
                    return Err(format!("nonce {nonce} was given away twice, also to reservation {id}"));
                }
                let least = least_over(&other.intent.fees(), other.state, other.word);
                let least = least.filter(|_| other.signed.is_some());
                if least.is_some_and(|least| intent.fees().at_least(&least) != intent.fees()) {
                    return Err(format!(
                        "reservation {id} does not outbid what was recorded at nonce {nonce}"
                    ));
                }
            }
            self.at_nonce.entry(place).or_default().push(id);
        }
        let (state, word, signed) = (State::Reserved, None, None);
        self.rows.insert(id, Box::new(Lived { seq, intent, state, word, signed }));
        Ok(())
    }

    fn sign(&mut self, signature: &Signature) -> Step {
        self.signatures = self.signatures.saturating_add(1);
        let id = signature.reservation;
        let state = self.row(id)?.state;
        if state != State::Reserved {
            return Err(format!("reservation {id} was {}, and cannot be signed", state.name()));
        }
        self.turn(id, State::Recorded)?;
        self.row(id)?.signed = Some((signature.hash, keccak256(&signature.raw)));
        self.rows.get(&id).map_or(Ok(()), |row| self.paused(&row.intent))
    }

    /// That it is signed, follows the checkpoint before it, and was signed under a reservation of its own. What it
    /// says of the chain is held against the chain by `verify`, which knows the hashes of all rows.
    fn seal(&mut self, row: &SealedRow) -> Step {
        let statement = row.read()?;
        let digest = checkpoint_digest(&row.statement);
        let signed = self.row(row.reservation)?;
        if signed.intent.kind != Checkpoint::NAME || signed.signed.map(|(hash, _)| hash) != Some(digest) {
            return Err(format!("reservation {} is not the one it was signed under", row.reservation));
        }
        let (number, previous) = self.sealed.unwrap_or_default();
        if statement.previous != previous || statement.checkpoint != number.saturating_add(1) {
            return Err(format!("checkpoint {} does not follow checkpoint {number}", statement.checkpoint));
        }
        self.sealed = Some((statement.checkpoint, digest));
        Ok(())
    }

    fn outcome(&mut self, said: &Outcome) -> Step {
        let word = Word::named(&said.outcome).ok_or_else(|| format!("no node says {}", said.outcome))?;
        let (id, row) = (said.reservation, self.row(said.reservation)?);
        let state = row.state;
        if !state.is_signed() {
            return Err(format!("reservation {id} was never sent"));
        }
        if word.after(row.word) != word {
            return Err(format!("it is refused as if no node had taken reservation {id} before"));
        }
        row.word = Some(word);
        let others: Vec<State> = self.others(id).into_iter().map(|(_, state)| state).collect();
        let Some(to) = heard(state, word, &others) else { return Ok(()) };
        self.turn(id, to)?;
        self.restore(id, to)
    }

    /// What was outbid is live again where nothing else is.
    fn restore(&mut self, id: i64, turned: State) -> Step {
        heir(turned, &self.others(id)).map_or(Ok(()), |heir| self.turn(heir, State::Recorded))
    }

    /// What somebody else used has no payload of ours in a block.
    fn external(&self, by: &External) -> Step {
        let ours = self.at_nonce.iter().filter(|((chain, account, nonce), _)| {
            (*chain, *account) == (by.chain, by.account) && (by.first..=by.last).contains(nonce)
        });
        let mut ours = ours.flat_map(|(_, ids)| ids).filter_map(|id| self.rows.get(id));
        match ours
            .find(|row| matches!(row.state, State::Recorded | State::Outbid | State::Vacant | State::Final))
        {
            Some(row) => Err(format!(
                "it says that somebody else used the nonce of reservation {}",
                row.intent.reservation
            )),
            None => Ok(()),
        }
    }

    /// The other payloads at this one's nonce, with their states.
    fn others(&self, id: i64) -> Vec<(i64, State)> {
        let place = self
            .rows
            .get(&id)
            .and_then(|row| Some((row.intent.chain?, row.intent.account, row.intent.nonce?)));
        let others = place.and_then(|place| self.at_nonce.get(&place)).into_iter().flatten();
        others
            .filter(|other| **other != id)
            .filter_map(|other| Some((*other, self.rows.get(other)?.state)))
            .collect()
    }

    fn turn(&mut self, id: i64, to: State) -> Step {
        let row = self.row(id)?;
        if !row.state.may_become(to) {
            return Err(format!(
                "reservation {id} was {}, and cannot become {}",
                row.state.name(),
                to.name()
            ));
        }
        row.state = to;
        Ok(())
    }

    fn row(&mut self, id: i64) -> Result<&mut Lived, String> {
        self.rows
            .get_mut(&id)
            .map(Box::as_mut)
            .ok_or_else(|| format!("reservation {id} has no intent before it"))
    }
}
