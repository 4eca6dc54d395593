//! The ledger as the other stages see it.

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use alloy_primitives::{Address, B256, Keccak256};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::clock::Clock;
use crate::config;
use crate::identity::RequestId;
use crate::ledger::claims::{Claimed, Reserve};
use crate::ledger::store::Stored;
use crate::ledger::writer::{Command, Reply, Writer};
use crate::ledger::{
    Claim, Final, LedgerError, Outcome, Purpose, RecordError, Recorded, RefusedRow, ReservationId,
    ReserveError, Reserved, Signed, Voided,
};
use crate::policy::Permitted;
use crate::transaction::{Kind, Sealed, Tx};

/// How many commands may wait for the writer.
const QUEUE: usize = 4096;

/// How long the writer may take over one command, a full disk's time-outs included.
const ANSWER: Duration = Duration::from_secs(10);

/// What a reservation may take on top of its own waiting: its commit.
const COMMIT: Duration = Duration::from_secs(2);

/// The ledger. Cheap to clone; the file is closed and free for another when [`Ledger::close`] returns.
#[derive(Clone, Debug)]
pub struct Ledger {
    commands: mpsc::Sender<Command>,
    deadline: Duration,
}

impl Ledger {
    /// Opens the ledger for writing, makes it where it is missing, and voids what an earlier process left
    /// reserved. `deadline` is the time from a reservation to its record.
    pub async fn open(
        config: &config::Ledger,
        deadline: Duration,
        clock: Clock,
    ) -> Result<Self, LedgerError> {
        let path = &config.path;
        let lock = prepare(path)?;
        let writer = Writer::start(config, lock, clock, deadline).await?;
        let (commands, queue) = mpsc::channel(QUEUE);
        tokio::spawn(writer.run(queue));
        Ok(Self { commands, deadline })
    }

    /// Archives the policy's text and makes it the one that reservations must have been judged by.
    pub async fn activate_policy(&self, hash: B256, text: &str) -> Result<(), LedgerError> {
        let text = text.to_owned();
        self.ask(|reply| Command::Policy { hash, text, reply }).await?
    }

    /// Gives a permitted payload its nonce and writes the audit intent, in one durable commit.
    pub async fn reserve<K: Kind>(
        &self,
        permitted: Permitted<K>,
        purpose: Purpose,
    ) -> Result<Claim<K>, ReserveError> {
        let request = permitted.request();
        let from = permitted.from();
        let claim = self.claim(&permitted, purpose);
        let (reply, answer) = oneshot::channel();
        // New work is refused at once where the queue is full; what is under way waits for its place.
        self.commands.try_send(Command::Reserve(Box::new(claim(reply)))).map_err(|error| match error {
            TrySendError::Full(_) => LedgerError::Busy,
            TrySendError::Closed(_) => closed(),
        })?;
        let claimed = answered(answer, self.deadline.saturating_add(COMMIT)).await??;
        Ok(match claimed {
            Claimed::Fresh { id, nonce } => {
                let unsigned = K::assign(permitted.into_asked(), nonce);
                Claim::Fresh(Reserved::new(ReservationId(id), request, from, nonce, purpose, unsigned))
            }
            Claimed::Known(stored) => Claim::Known(recorded(stored)),
        })
    }

    /// Makes a signature durable, so that it may leave. Fails for good where the reservation is void.
    pub async fn record<K: Kind>(&self, signed: Signed<K>) -> Result<Recorded<K>, RecordError> {
        let (id, sealed) = (signed.id(), signed.sealed().clone());
        let done =
            self.ask(|reply| Command::Record { id: id.0, raw: sealed.raw, hash: sealed.hash, reply }).await;
        match done {
            Ok(Ok(())) => {}
            Ok(Err(RecordError::Void)) => return Err(RecordError::Void),
            // Nobody knows how the commit ended. Whichever row exists wins: the record, or a void from now on.
            Ok(Err(RecordError::Ledger(error))) | Err(error) => {
                if self.void(id, "the record's commit was lost").await? == Voided::Void {
                    return Err(error.into());
                }
            }
        }
        Ok(signed.into_recorded())
    }

    /// Ends a reservation without a record; also settles a record whose commit nobody knows the end of.
    pub async fn void(&self, id: ReservationId, why: &str) -> Result<Voided, LedgerError> {
        let why = why.to_owned();
        self.ask(|reply| Command::Void { id: id.0, why, reply }).await?
    }

    /// Writes what a node said of a recorded transaction.
    pub async fn outcome(&self, id: ReservationId, outcome: Outcome) -> Result<(), LedgerError> {
        self.ask(|reply| Command::Outcome { id: id.0, outcome, reply }).await?
    }

    /// Writes what the chain has decided for good.
    pub async fn settled(&self, id: ReservationId, last: Final) -> Result<(), LedgerError> {
        self.ask(|reply| Command::Settled { id: id.0, last, reply }).await?
    }

    /// Records that a signature was asked for and refused.
    pub async fn refused(&self, row: RefusedRow) -> Result<(), LedgerError> {
        let row = Box::new(row);
        self.ask(|reply| Command::Refused { row, reply }).await?
    }

    /// What is recorded and neither refused nor final: to be sent again until the chain has decided.
    pub async fn open_transactions(&self) -> Result<Vec<Recorded<Tx>>, LedgerError> {
        let open = self.ask(|reply| Command::Open { reply }).await??;
        Ok(open.into_iter().map(recorded).collect())
    }

    /// The lowest nonce from `mined` that none of our own transactions has.
    pub async fn next_nonce(&self, chain: u64, account: Address, mined: u64) -> Result<u64, LedgerError> {
        self.ask(|reply| Command::Next { chain, account, mined, reply }).await?
    }

    /// Whether it can be written right now.
    pub async fn ready(&self) -> Result<(), LedgerError> {
        self.ask(|reply| Command::Ready { reply }).await?
    }

    /// Writes the last row and ends the writer.
    pub async fn close(&self) {
        if let Err(error) = self.ask(|reply| Command::Close { reply }).await {
            tracing::warn!(%error, "the ledger was not closed in order; nothing is lost");
        }
    }

    /// What the writer needs of a permission; the reply is put in last.
    fn claim<K: Kind>(
        &self,
        permitted: &Permitted<K>,
        purpose: Purpose,
    ) -> impl FnOnce(Reply<Result<Claimed, ReserveError>>) -> Reserve + use<K> {
        let asked = permitted.asked().clone();
        let slot = K::slot(&asked);
        let client = permitted.client().to_owned();
        let account = permitted.from();
        let intent = intent_hash(K::NAME, &client, slot.map(|slot| slot.chain), account, &K::intent(&asked));
        let person = permitted.caller().client().person.clone();
        let request = permitted.request().to_string();
        let (rule, policy, patience) = (permitted.rule().to_owned(), permitted.policy(), self.deadline);
        let assign = Box::new(move |nonce| {
            let unsigned = K::assign(asked.clone(), nonce);
            (K::unsigned_bytes(&unsigned), K::digest(&unsigned))
        });
        let kind = K::NAME;
        move |reply| Reserve {
            kind,
            client,
            person,
            request,
            account,
            slot,
            intent,
            rule,
            policy,
            purpose,
            assign,
            reply,
            patience,
        }
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, LedgerError> {
        let (reply, answer) = oneshot::channel();
        match timeout(ANSWER, self.commands.reserve()).await {
            Ok(Ok(place)) => place.send(command(reply)),
            Ok(Err(_)) => return Err(closed()),
            Err(_) => return Err(LedgerError::Busy),
        }
        answered(answer, ANSWER).await
    }
}

async fn answered<T>(answer: oneshot::Receiver<T>, within: Duration) -> Result<T, LedgerError> {
    match timeout(within, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => Err(LedgerError::Unavailable("its last write failed".to_owned())),
        Err(_) => Err(LedgerError::Unavailable("it does not answer".to_owned())),
    }
}

fn closed() -> LedgerError {
    LedgerError::Unavailable("it is closed".to_owned())
}

/// Names what a client wants: the same client, chain, account and fields are the same intent.
fn intent_hash(kind: &str, client: &str, chain: Option<u64>, account: Address, fields: &[u8]) -> B256 {
    let mut hasher = Keccak256::new();
    hasher.update(b"chancery intent 1");
    for part in [kind.as_bytes(), client.as_bytes()] {
        hasher.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hasher.update(part);
    }
    hasher.update(chain.map_or([0; 9], |chain| {
        let mut some = [1; 9];
        some.split_at_mut(1).1.copy_from_slice(&chain.to_be_bytes());
        some
    }));
    hasher.update(account);
    hasher.update(fields);
    hasher.finalize()
}

fn recorded<K: Kind>(stored: Stored) -> Recorded<K> {
    let request = RequestId::parse(&stored.request);
    let sealed = Sealed { raw: stored.raw, hash: stored.hash };
    let purpose = if stored.returned { Purpose::Return } else { Purpose::Send };
    Recorded::new(ReservationId(stored.id), request, stored.account, stored.nonce, purpose, sealed)
}

/// Whether a process has this ledger open, without opening it. Asking takes the lock for a moment, but only
/// where nobody has it.
pub fn in_use(path: &Path) -> std::io::Result<bool> {
    match File::open(path.with_added_extension("lock")) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        file => match file?.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(why)) => Err(why),
        },
    }
}

/// Makes the folder and the file, which only this user may read, and takes the lock: one writer at a time, also
/// across processes.
fn prepare(path: &Path) -> Result<File, LedgerError> {
    let failed = |why: std::io::Error| LedgerError::Open { path: path.to_owned(), why: why.to_string() };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    let lock = private(&path.with_added_extension("lock")).map_err(failed)?;
    lock.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => LedgerError::Locked(path.to_owned()),
        TryLockError::Error(why) => failed(why),
    })?;
    // SQLite gives its side files the mode of the main file.
    private(path).map_err(failed)?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    Ok(lock)
}

fn private(path: &Path) -> std::io::Result<File> {
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    // One that was there before, from a copy or a restored backup, may be open to others.
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;
    use std::sync::Arc;

    use alloy_primitives::address;
    use k256::ecdsa::SigningKey;

    use crate::clock::Timestamp;
    use crate::identity::Caller;
    use crate::ledger::{RefusalClass, store, verify};
    use crate::transaction::{Fees, Quote, QuotedFees, Request};

    const ACCOUNT: Address = address!("0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F");
    const POLICY: B256 = B256::repeat_byte(7);
    const DEADLINE: Duration = Duration::from_millis(2500);

    struct Desk {
        folder: tempfile::TempDir,
        ledger: Ledger,
        clock: Clock,
    }

    impl Desk {
        async fn open() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let clock = Clock::set_to(Timestamp::from_millis(1_700_000_000_000));
            let ledger = open(folder.path(), &clock).await.unwrap();
            Self { folder, ledger, clock }
        }

        fn file(&self) -> PathBuf {
            self.folder.path().join("ledger.sqlite")
        }

        /// Ends the process and starts the next.
        async fn restart(mut self) -> Self {
            self.ledger.close().await;
            drop(self.ledger);
            self.ledger = open(self.folder.path(), &self.clock).await.unwrap();
            self
        }

        async fn reserve(&self, permitted: Permitted<Tx>) -> Reserved<Tx> {
            match self.ledger.reserve(permitted, Purpose::Send).await.unwrap() {
                Claim::Fresh(reserved) => reserved,
                Claim::Known(known) => panic!("known: {known:?}"),
            }
        }

        async fn send(&self, permitted: Permitted<Tx>) -> Recorded<Tx> {
            let reserved = self.reserve(permitted).await;
            self.ledger.record(sign(reserved)).await.unwrap()
        }

        async fn refuse(&self, recorded: &Recorded<Tx>) {
            let text = "insufficient funds".to_owned();
            let outcome = Outcome::Refused { class: RefusalClass::InsufficientFunds, text };
            self.ledger.outcome(recorded.id(), outcome).await.unwrap();
        }

        async fn verify(&self) -> (i64, usize, usize) {
            let verified = verify(&self.file()).await.unwrap().unwrap();
            (verified.rows, verified.intents, verified.signatures)
        }
    }

    async fn open(folder: &Path, clock: &Clock) -> Result<Ledger, LedgerError> {
        let config = config::Ledger { path: folder.join("ledger.sqlite"), max_open: 200 };
        let ledger = Ledger::open(&config, DEADLINE, clock.clone()).await?;
        ledger.activate_policy(POLICY, "policy").await?;
        Ok(ledger)
    }

    /// A permitted transfer: of `value`, at `nonce` if given, with `max_fee` if given; the chain has mined `mined`.
    fn pay(value: u64, nonce: Option<u64>, max_fee: Option<u128>, mined: u64) -> Permitted<Tx> {
        let client = config::Client {
            name: "trader".to_owned(),
            identity: "spiffe://desk/trader".to_owned(),
            role: None,
            person: Some("Ada".to_owned()),
            accounts: vec![ACCOUNT],
            origins: Vec::new(),
        };
        let caller = Caller::new(Arc::new(client), RequestId::from_number(u128::from(value)));
        let nonce = nonce.map(|n| format!(r#","nonce":"{n:#x}""#)).unwrap_or_default();
        let fee = max_fee.map(|f| format!(r#","maxFeePerGas":"{f:#x}","maxPriorityFeePerGas":"{f:#x}""#));
        let fee = fee.unwrap_or_default();
        let params = format!(r#"[{{"from":"{ACCOUNT}","to":"{ACCOUNT}","value":"{value:#x}"{nonce}{fee}}}]"#);
        let fees = QuotedFees { base_fee: Some(100), max_priority_fee: 10, gas_price: 100 };
        let quote = Quote { chain_id: 1, mined, gas: Some(21_000), fees: Some(fees) };
        let filled = Request::parse(Some(&params)).unwrap().fill(&quote, None).unwrap();
        Permitted::for_test(filled, caller.for_account(ACCOUNT).unwrap(), POLICY)
    }

    fn sign(reserved: Reserved<Tx>) -> Signed<Tx> {
        let key = SigningKey::from_slice(&[0x46; 32]).unwrap();
        let (raw, _) = key.sign_prehash_recoverable(reserved.digest().as_slice()).unwrap();
        reserved.seal(&raw.to_bytes().into()).unwrap()
    }

    #[tokio::test]
    async fn inv_01_the_intent_is_durable_before_there_is_anything_to_sign() {
        let desk = Desk::open().await;
        let reserved = desk.reserve(pay(1, None, None, 5)).await;
        // Read by somebody else, from the file.
        assert_eq!(desk.verify().await, (3, 1, 0));
        let recorded = desk.ledger.record(sign(reserved)).await.unwrap();
        assert_eq!((recorded.nonce(), desk.verify().await), (Some(5), (4, 1, 1)));
    }

    #[tokio::test]
    async fn inv_02_senders_at_once_get_nonces_of_their_own() {
        let desk = Arc::new(Desk::open().await);
        let sends = (0..40).map(|value| {
            let desk = Arc::clone(&desk);
            tokio::spawn(async move { desk.send(pay(value, None, None, 5)).await.nonce().unwrap() })
        });
        let mut nonces = Vec::new();
        for send in sends.collect::<Vec<_>>() {
            nonces.push(send.await.unwrap());
        }
        nonces.sort_unstable();
        assert_eq!(nonces, (5..45).collect::<Vec<u64>>());
        assert_eq!(desk.ledger.next_nonce(1, ACCOUNT, 5).await.unwrap(), 45);
    }

    #[tokio::test]
    async fn inv_02_a_late_record_is_refused_and_its_nonce_is_free() {
        let desk = Desk::open().await;
        let late = desk.reserve(pay(1, None, None, 0)).await;
        tokio::time::sleep(DEADLINE).await;
        let next = desk.send(pay(2, None, None, 0)).await;
        assert_eq!(next.nonce(), Some(0));
        assert!(matches!(desk.ledger.record(sign(late)).await, Err(RecordError::Void)));
        assert_eq!(desk.verify().await.2, 1);
    }

    #[tokio::test]
    async fn an_abandoned_reservation_is_voided_without_anybody_asking() {
        let desk = Desk::open().await;
        let forgotten = desk.reserve(pay(1, None, None, 0)).await;
        // A clock that stands still, or runs backwards, changes nothing.
        tokio::time::sleep(DEADLINE.saturating_add(SWEEPS)).await;
        assert!(matches!(desk.ledger.record(sign(forgotten)).await, Err(RecordError::Void)));
    }

    const SWEEPS: Duration = Duration::from_millis(400);

    #[tokio::test]
    async fn voiding_what_is_recorded_changes_nothing() {
        let desk = Desk::open().await;
        let recorded = desk.send(pay(1, None, None, 0)).await;
        assert_eq!(desk.ledger.void(recorded.id(), "a doubt").await.unwrap(), Voided::Recorded);
        let open = desk.ledger.open_transactions().await.unwrap();
        assert_eq!(open.iter().map(Recorded::hash).collect::<Vec<_>>(), [recorded.hash()]);
    }

    #[tokio::test]
    async fn inv_10_a_repeat_at_an_explicit_nonce_gets_the_same_bytes() {
        let desk = Desk::open().await;
        let first = desk.send(pay(1, Some(0), None, 0)).await;
        for mined in [0, 1, 9] {
            match desk.ledger.reserve(pay(1, Some(0), None, mined), Purpose::Send).await.unwrap() {
                Claim::Known(known) => assert_eq!((known.raw(), known.hash()), (first.raw(), first.hash())),
                Claim::Fresh(_) => panic!("signed twice"),
            }
        }
        let other = desk.ledger.reserve(pay(2, Some(0), None, 0), Purpose::Send).await.unwrap_err();
        assert!(matches!(other, ReserveError::NonceTaken { nonce: 0 }), "{other}");
        assert_eq!(desk.verify().await.2, 1);
    }

    #[tokio::test]
    async fn a_repeat_while_the_first_is_at_the_token_waits_for_its_hash() {
        let desk = Arc::new(Desk::open().await);
        let first = desk.reserve(pay(1, Some(0), None, 0)).await;
        let again = {
            let desk = Arc::clone(&desk);
            tokio::spawn(async move { desk.ledger.reserve(pay(1, Some(0), None, 0), Purpose::Send).await })
        };
        tokio::time::sleep(SWEEPS).await;
        assert!(!again.is_finished());
        let recorded = desk.ledger.record(sign(first)).await.unwrap();
        match again.await.unwrap().unwrap() {
            Claim::Known(known) => assert_eq!(known.hash(), recorded.hash()),
            Claim::Fresh(_) => panic!("signed twice"),
        }
    }

    #[tokio::test]
    async fn a_burst_of_explicit_nonces_may_come_in_any_order() {
        let desk = Arc::new(Desk::open().await);
        let sends: Vec<_> = [7, 6, 5]
            .into_iter()
            .map(|nonce| {
                let desk = Arc::clone(&desk);
                tokio::spawn(async move { desk.send(pay(nonce, Some(nonce), None, 5)).await.nonce() })
            })
            .collect();
        for (send, nonce) in sends.into_iter().zip([7, 6, 5]) {
            assert_eq!(send.await.unwrap(), Some(nonce));
        }
        let begun = tokio::time::Instant::now();
        let gap = desk.ledger.reserve(pay(9, Some(9), None, 5), Purpose::Send).await.unwrap_err();
        assert!(matches!(gap, ReserveError::Gap { nonce: 9, expected: 8 }), "{gap}");
        assert!(begun.elapsed() >= Duration::from_secs(2), "the one before it may still have come");
    }

    #[tokio::test]
    async fn a_refused_nonce_goes_to_whoever_outbids_what_was_recorded_there() {
        let desk = Desk::open().await;
        let poor = desk.send(pay(1, None, None, 0)).await;
        desk.refuse(&poor).await;
        assert!(desk.ledger.open_transactions().await.unwrap().is_empty());
        let Err(ReserveError::Outbid { floor }) =
            desk.ledger.reserve(pay(2, None, None, 0), Purpose::Send).await
        else {
            panic!("the same fees do not replace it in any pool")
        };
        let old = Fees::Dynamic { max_fee_per_gas: 210, max_priority_fee_per_gas: 10 };
        assert_eq!(floor, old.raised());
        let fixed = desk.ledger.reserve(pay(2, None, Some(20), 0), Purpose::Send).await.unwrap_err();
        assert!(matches!(fixed, ReserveError::Underpriced), "{fixed}");
        let outbid = desk.send(pay(3, None, Some(500), 0)).await;
        assert_eq!(outbid.nonce(), Some(0));
        // The node takes the first one after all: the nonce has a live payload already, so nothing comes back to life.
        desk.ledger.outcome(poor.id(), Outcome::Accepted).await.unwrap();
        assert_eq!(desk.ledger.open_transactions().await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn inv_13_a_restart_voids_what_was_not_recorded_and_keeps_what_was() {
        let desk = Desk::open().await;
        let sent = desk.send(pay(1, None, None, 0)).await;
        let poor = desk.send(pay(2, None, None, 0)).await;
        desk.refuse(&poor).await;
        let settled = desk.send(pay(3, None, Some(900), 0)).await;
        desk.ledger.settled(settled.id(), Final::Mined { block: 9, succeeded: true }).await.unwrap();
        let unsigned = desk.reserve(pay(4, None, None, 0)).await;
        let desk = desk.restart().await;
        let open = desk.ledger.open_transactions().await.unwrap();
        assert_eq!(
            open.iter().map(|tx| (tx.hash(), tx.raw().clone())).collect::<Vec<_>>(),
            [(sent.hash(), sent.raw().clone())]
        );
        assert!(matches!(desk.ledger.record(sign(unsigned)).await, Err(RecordError::Void)));
        assert_eq!(desk.send(pay(5, None, None, 0)).await.nonce(), Some(2), "a settled nonce stays used");
        desk.verify().await;
    }

    #[tokio::test]
    async fn what_a_client_had_returned_is_the_clients_to_send_until_we_are_asked() {
        let desk = Desk::open().await;
        let Claim::Fresh(reserved) =
            desk.ledger.reserve(pay(1, Some(0), None, 0), Purpose::Return).await.unwrap()
        else {
            panic!("nothing was there")
        };
        desk.ledger.record(sign(reserved)).await.unwrap();
        let open = desk.ledger.open_transactions().await.unwrap();
        assert_eq!(open.iter().map(Recorded::is_ours_to_send).collect::<Vec<_>>(), [false]);
        let Claim::Known(known) = desk.ledger.reserve(pay(1, Some(0), None, 0), Purpose::Send).await.unwrap()
        else {
            panic!("signed twice")
        };
        desk.ledger.outcome(known.id(), Outcome::Accepted).await.unwrap();
        assert!(desk.ledger.open_transactions().await.unwrap()[0].is_ours_to_send());
    }

    #[tokio::test]
    async fn a_claim_judged_by_another_policy_is_judged_again() {
        let desk = Desk::open().await;
        desk.ledger.activate_policy(B256::repeat_byte(8), "stricter").await.unwrap();
        let stale = desk.ledger.reserve(pay(1, None, None, 0), Purpose::Send).await.unwrap_err();
        assert!(matches!(stale, ReserveError::PolicyChanged), "{stale}");
    }

    #[tokio::test]
    async fn a_second_writer_refuses_to_start() {
        let desk = Desk::open().await;
        let second = open(desk.folder.path(), &desk.clock).await.unwrap_err();
        assert!(matches!(second, LedgerError::Locked(_)), "{second}");
    }

    #[tokio::test]
    async fn inv_14_every_edit_of_the_chain_shows() {
        for (edit, at) in [
            ("UPDATE audit SET body = replace(body, 'trader', 'nobody') WHERE seq = 3", 3),
            ("UPDATE audit SET at = at + 1 WHERE seq = 2", 2),
            ("DELETE FROM audit WHERE seq = 2", 3),
            ("DELETE FROM audit WHERE seq = (SELECT MAX(seq) FROM audit)", 5),
            (
                "UPDATE audit SET seq = -1 WHERE seq = 2; UPDATE audit SET seq = 2 WHERE seq = 3; UPDATE audit SET seq = 3 WHERE seq = -1",
                2,
            ),
            ("UPDATE reservation SET hash = zeroblob(32) WHERE id = 1", 3),
            ("DELETE FROM reservation WHERE id = 1", 3),
        ] {
            let desk = Desk::open().await;
            let recorded = desk.send(pay(1, None, None, 0)).await;
            desk.ledger.outcome(recorded.id(), Outcome::Accepted).await.unwrap();
            desk.ledger.close().await;
            assert_eq!(desk.verify().await, (6, 1, 1));
            let mut db = store::open(&desk.file()).await.unwrap();
            let triggers = "DROP TRIGGER audit_is_append_only; DROP TRIGGER audit_keeps_every_row";
            for statement in triggers.split("; ").chain(edit.split("; ")) {
                sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut db).await.unwrap();
            }
            store::close(db).await.unwrap();
            let broken = verify(&desk.file()).await.unwrap().unwrap_err();
            assert_eq!(broken.seq, at, "{edit}: {}", broken.why);
        }
    }

    #[tokio::test]
    async fn the_chain_is_append_only_for_honest_mistakes_too() {
        let desk = Desk::open().await;
        let mut db = store::open(&desk.file()).await.unwrap();
        for mistake in ["UPDATE audit SET kind = 'x'", "DELETE FROM audit"] {
            let refused = sqlx::query(mistake).execute(&mut db).await.unwrap_err();
            assert!(refused.to_string().contains("append-only"), "{refused}");
        }
    }
}
