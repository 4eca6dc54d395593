//! Follows what was recorded until the chain has decided: sends the same bytes again, looks for the receipt,
//! and tells the ledger what is final. Never signs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes, U64};
use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt as _};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::to_raw_value;
use tokio_util::sync::CancellationToken;

use crate::ledger::{Final, Ledger, LedgerError, Pages, Recorded, ReservationId};
use crate::transaction::{Authorization, Delegation, Kind, Tx};
use crate::upstream::answer::read_number;
use crate::upstream::batch::Lanes;
use crate::upstream::client::Call;
use crate::upstream::mined::{By, Counts};
use crate::upstream::node::{Node, Whose};
use crate::upstream::{Answer, Upstream, UpstreamError};

/// Between two rounds; a round also begins at start.
const EVERY: Duration = Duration::from_secs(5);

/// After a round in which the node did not answer.
const AFTER_FAILURE: Duration = Duration::from_secs(15);

/// From a node's word that a nonce below is missing to the next round: time for that one to be signed and sent.
const AFTER_A_GAP: Duration = Duration::from_millis(500);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Receipt {
    block_number: Option<String>,
    transaction_hash: B256,
    status: Option<String>,
}

/// A transaction as the node has it, as far as we read it.
#[derive(Deserialize)]
struct Transaction {
    hash: B256,
}

#[derive(Deserialize)]
struct Block {
    number: Option<String>,
}

/// How many accounts are followed side by side.
const AT_ONCE: usize = 8;

/// Runs until `stop`.
pub async fn follow(upstream: Upstream, ledger: Ledger, stop: CancellationToken) {
    let (mut wait, mut soon) = (Duration::ZERO, AFTER_A_GAP);
    loop {
        let next = async {
            tokio::select! {
                () = tokio::time::sleep(wait) => soon = AFTER_A_GAP,
                // A gap that stays is asked about less and less often.
                () = gap_is_noticed(&upstream, soon) => soon = soon.saturating_mul(2),
            }
            round(&upstream, &ledger).await
        };
        // What a round had begun, the next start begins again.
        wait = match stop.run_until_cancelled(next).await {
            None => return,
            Some(Ok(())) => EVERY,
            Some(Err(cut)) => {
                tracing::warn!(error = %cut, "open transactions could not be followed; the next round tries again");
                match cut {
                    Cut::Node(_) => AFTER_FAILURE,
                    Cut::Ledger(_) => EVERY,
                }
            }
        };
    }
}

async fn gap_is_noticed(upstream: &Upstream, wait: Duration) {
    upstream.0.above_a_gap.notified().await;
    tokio::time::sleep(wait).await;
}

/// Why a round ended before its end; the next one begins anew.
#[derive(Debug, thiserror::Error)]
enum Cut {
    #[error(transparent)]
    Node(#[from] UpstreamError),
    #[error("the ledger cannot be read: {0}")]
    Ledger(#[from] LedgerError),
}

/// Looks at everything that is open once. One payload that makes trouble does not keep the others from being followed; only
/// a node that is not there, or a ledger, ends the round.
async fn round(upstream: &Upstream, ledger: &Ledger) -> Result<(), Cut> {
    let accounts = ledger.open_accounts(upstream.0.chain_id).await?;
    if accounts.is_empty() {
        return Ok(());
    }
    // What comes later is the next round's, so that each comes to an end.
    let newest = ledger.newest().await?;
    let finality = upstream.0.finality;
    // One node's word for the whole of it, so that its parts go together.
    let found = upstream.0.nodes.first(async |node: Arc<Node>| {
        let finalized = node.finalized(finality).await?;
        node.may_take_more();
        Ok(View { upstream, ledger, accounts: &accounts, newest, node, finalized })
    });
    let view = found.await?;
    // What could not be settled this time is no reason not to send the rest.
    let settled = view.settle().await;
    let sent = view.send_again().await;
    match (settled, sent) {
        (Err(one), Err(other)) => {
            let (told, cut) = if matches!(one, Cut::Node(_)) { (other, one) } else { (one, other) };
            tracing::warn!(error = %told, "open transactions could not be settled or sent again");
            Err(cut)
        }
        (settled, sent) => settled.and(sent),
    }
}

/// What one round goes by.
struct View<'a> {
    upstream: &'a Upstream,
    ledger: &'a Ledger,
    /// Those that have anything open.
    accounts: &'a [Address],
    newest: ReservationId,
    node: Arc<Node>,
    /// The newest block that cannot be undone.
    finalized: u64,
}

impl View<'_> {
    fn open<K: Kind>(&self) -> Pages<'_, K> {
        self.ledger.open_pages(self.upstream.0.chain_id, self.newest)
    }

    async fn counts(&self, by: By) -> Result<Counts, UpstreamError> {
        let asked =
            self.accounts.iter().copied().map(async |account| (account, self.count(account, by).await));
        let mut asked = stream::iter(asked).buffer_unordered(AT_ONCE);
        let mut counts = HashMap::with_capacity(self.accounts.len());
        while let Some((account, mined)) = asked.next().await {
            match mined {
                Ok(mined) => drop(counts.insert(account, mined)),
                Err(error) if error.is_about_the_node() => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, %account, "what is open of it is followed in the next round");
                }
            }
        }
        Ok(Counts(counts))
    }

    async fn count(&self, account: Address, by: By) -> Result<u64, UpstreamError> {
        if by == By::Finalized {
            match self.node.mined_at(account, self.finalized).await {
                // It may have let go of the state of that block; then each receipt tells.
                Err(error) if !error.is_about_the_node() => {}
                count => return count,
            }
        }
        self.node.mined_at_latest(account).await
    }

    async fn settle(&self) -> Result<(), Cut> {
        self.settle_transactions().await?;
        self.settle_authorizations().await
    }

    /// Settles what is final, page by page: while the node is asked of one, the next is read.
    async fn settle_transactions(&self) -> Result<(), Cut> {
        let counts = self.counts(By::Finalized).await?;
        let mut pages = self.open::<Tx>();
        let mut page = pages.next().await?;
        while !page.is_empty() {
            page.retain(|recorded| counts.are_past(recorded));
            let (settled, next) = tokio::join!(self.settle_each(&page), pages.next());
            settled?;
            page = next?;
        }
        Ok(())
    }

    /// Sends the same bytes again of what is not mined, each account's in the order of its nonces.
    async fn send_again(&self) -> Result<(), Cut> {
        let counts = self.counts(By::Latest).await?;
        let mut pages = self.open::<Tx>();
        loop {
            let mut page = pages.next().await?;
            if page.is_empty() {
                return Ok(());
            }
            page.retain(|recorded| {
                let is_live = recorded.is_ours_to_send() && recorded.standing().is_live();
                is_live && counts.await_it(recorded)
            });
            page.sort_by_key(|recorded| (recorded.from(), recorded.nonce(), recorded.id()));
            let accounts = page.chunk_by(|one, next| one.from() == next.from());
            stream::iter(accounts)
                .for_each_concurrent(AT_ONCE, async |transactions| {
                    for recorded in transactions {
                        self.send_once_more(recorded).await;
                    }
                })
                .await;
        }
    }

    /// As it stands now: while others were sent a node may have refused it, or its own task may hold it.
    async fn send_once_more(&self, recorded: &Recorded<Tx>) {
        match self.ledger.take_up::<Tx>(recorded.id()).await {
            Ok(Some(recorded)) => {
                let outcome = self.upstream.broadcast(&recorded).await;
                let told = self.ledger.outcome(&recorded, outcome).await;
                if let Ok(told) = &told {
                    recorded.tell(told);
                }
                written(&recorded, told);
            }
            Ok(None) => {}
            Err(error) => written(recorded, Err::<(), _>(error)),
        }
    }

    /// In several questions side by side: while the node is asked of some, what it said of others is written.
    async fn settle_each(&self, mined: &[Recorded<Tx>]) -> Result<(), UpstreamError> {
        let parts = mined.chunks(self.node.own_batch()).map(|part| self.settle_all(part));
        for settled in join_all(parts).await {
            settled?;
        }
        Ok(())
    }

    /// Asks for what became of all of these at once, and has it written in few commits.
    async fn settle_all(&self, mined: &[Recorded<Tx>]) -> Result<(), UpstreamError> {
        let hashes = mined.iter().map(|recorded| to_raw_value(&[recorded.hash()]));
        let hashes: Vec<_> = hashes.collect::<Result<_, _>>().map_err(UpstreamError::garbage)?;
        let method = "eth_getTransactionReceipt";
        let calls: Vec<_> = hashes.iter().map(|hash| Call { method, params: Some(hash) }).collect();
        let receipts: Vec<_> = match self.node.read_batch(&calls, Whose::Own, &Lanes::of(None)).await {
            Err(error) if !error.is_about_the_node() => mined.iter().map(|_| Err(error.clone())).collect(),
            receipts => receipts?,
        };
        let settled = mined.iter().zip(receipts).map(|(recorded, receipt)| self.settle_by(recorded, receipt));
        for (done, recorded) in join_all(settled).await.into_iter().zip(mined) {
            match done {
                Err(error) if error.is_about_the_node() => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, hash = %recorded.hash(), "what became of it is asked in the next round");
                }
                Ok(()) => {}
            }
        }
        Ok(())
    }

    /// What became of authorizations whose nonce is past. They have no receipt: the nonce is used up, by this, by a transaction
    /// of ours, of which the ledger knows, or by somebody who has the key.
    async fn settle_authorizations(&self) -> Result<(), Cut> {
        let mut pages = self.open::<Authorization>();
        loop {
            let page = pages.next().await?;
            if page.is_empty() {
                return Ok(());
            }
            for authorization in &page {
                match self.end_of(authorization).await {
                    Ok(None) => {}
                    Ok(Some(last)) => {
                        written(authorization, self.ledger.settled(authorization.id(), last).await);
                    }
                    Err(error) if error.is_about_the_node() => return Err(error.into()),
                    Err(error) => {
                        let account = authorization.from();
                        tracing::warn!(%error, %account, "what became of an authorization is asked in the next round");
                    }
                }
            }
        }
    }

    async fn end_of(&self, authorization: &Recorded<Authorization>) -> Result<Option<Final>, UpstreamError> {
        let account = authorization.from();
        let Some(nonce) = authorization.nonce() else { return Ok(None) };
        if !self.upstream.was_replaced((account, nonce, authorization.hash()), self.finalized).await? {
            return Ok(None);
        }
        let code: Bytes = self.node.code_at(account, self.finalized).await?;
        let signed = Delegation::signed(account, authorization.raw());
        let succeeded = signed.is_some_and(|signed| signed.is_code(&code));
        Ok(Some(Final::Past { block: self.finalized, succeeded }))
    }

    async fn settle_by(
        &self,
        recorded: &Recorded<Tx>,
        receipt: Result<Answer, UpstreamError>,
    ) -> Result<(), UpstreamError> {
        let place = (recorded.from(), recorded.nonce().unwrap_or(u64::MAX), recorded.hash());
        let last = match read_receipt(receipt?, recorded.hash())? {
            Some((block, succeeded)) if block <= self.finalized => Final::Mined { block, succeeded },
            // A node that has ours in a pool or a block, but no receipt for it, has not caught up with itself.
            None if self.upstream.was_replaced(place, self.finalized).await? => Final::Replaced,
            // Not final yet: the chain may still turn.
            _ => return Ok(()),
        };
        written(recorded, self.ledger.settled(recorded.id(), last).await);
        Ok(())
    }
}

fn written<K: Kind, T>(recorded: &Recorded<K>, done: Result<T, LedgerError>) {
    if let Err(error) = done {
        tracing::warn!(%error, hash = %recorded.hash(), "what became of it could not be written; asked again later");
    }
}

/// The block and success of a transaction of this hash, if one is mined.
fn read_receipt(answer: Answer, hash: B256) -> Result<Option<(u64, bool)>, UpstreamError> {
    let receipt: Option<Receipt> = answer.shape()?;
    let Some(Receipt { block_number: Some(block), transaction_hash, status }) = receipt else {
        return Ok(None);
    };
    if transaction_hash != hash {
        return Err(UpstreamError::garbage("the receipt is another transaction's"));
    }
    Ok(Some((read_number(&block)?, status.as_deref() == Some("0x1"))))
}

impl Upstream {
    /// How many transactions of this account the chain has mined, as a node says.
    pub async fn mined_count(&self, account: Address) -> Result<u64, UpstreamError> {
        self.0.nodes.first(async |node: Arc<Node>| node.mined_at_latest(account).await).await
    }
}

impl Node {
    pub(super) async fn mined_at_latest(&self, account: Address) -> Result<u64, UpstreamError> {
        let ask =
            async || self.ask("eth_getTransactionCount", Some(json!([account, "latest"]))).await?.number();
        self.count_of(account).ask(|| Box::pin(ask())).await
    }

    /// The account's code in a block.
    async fn code_at(&self, account: Address, block: u64) -> Result<Bytes, UpstreamError> {
        self.ask("eth_getCode", Some(json!([account, U64::from(block)]))).await?.shape()
    }

    pub(super) async fn mined_at(&self, account: Address, block: u64) -> Result<u64, UpstreamError> {
        let params = json!([account, U64::from(block)]);
        self.ask("eth_getTransactionCount", Some(params)).await?.number()
    }

    /// Whether it has a transaction of this hash, in its pool or in a block.
    pub(super) async fn knows(&self, hash: B256) -> Result<bool, UpstreamError> {
        let answer = self.ask("eth_getTransactionByHash", Some(json!([hash]))).await?;
        match answer.shape::<Option<Transaction>>()? {
            Some(found) if found.hash != hash => Err(UpstreamError::garbage("another transaction")),
            found => Ok(found.is_some()),
        }
    }

    /// The newest block that cannot be undone: the chain's own word, or this depth where it has none.
    async fn finalized(&self, finality: u64) -> Result<u64, UpstreamError> {
        let tag = self.ask("eth_getBlockByNumber", Some(json!(["finalized", false]))).await?;
        match tag {
            Answer::Result(block) => {
                let block: Option<Block> = Answer::Result(block).shape()?;
                if let Some(number) = block.and_then(|block| block.number) {
                    return read_number(&number);
                }
            }
            Answer::Error(_) => {}
        }
        let head: u64 = self.ask("eth_blockNumber", None).await?.number()?;
        Ok(head.saturating_sub(finality))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Outcome, RefusalClass};
    use crate::upstream::tests::{ACCOUNT, Fake, Reply, ledger, recorded, still};
    use serde_json::Value;

    /// A node with head and finalized block, a ledger, and two recorded transactions.
    struct Scene {
        fake: Fake,
        upstream: Upstream,
        ledger: Ledger,
        sent: [Recorded<Tx>; 2],
        _folder: tempfile::TempDir,
    }

    impl Scene {
        async fn set(mined: &str, finalized: &str) -> Self {
            let (fake, clock, folder) = (Fake::start().await, still(), tempfile::tempdir().unwrap());
            let ledger = ledger(&folder, &clock).await;
            // Their tasks are over.
            drop([recorded(&ledger).await, recorded(&ledger).await]);
            let sent = ledger.unsettled(1).await.unwrap().try_into().unwrap();
            fake.on("eth_getTransactionCount", Reply::Result(json!(mined)));
            fake.on("eth_getTransactionReceipt", Reply::Result(Value::Null));
            fake.on("eth_getTransactionByHash", Reply::Result(Value::Null));
            fake.on("eth_getBlockByNumber", Reply::Result(json!({ "number": finalized })));
            Self { upstream: fake.upstream(&clock), fake, ledger, sent, _folder: folder }
        }

        fn receipt(&self, of: usize, block: &str) {
            let hash = self.sent[of].hash();
            let receipt = json!({ "transactionHash": hash, "blockNumber": block, "status": "0x1" });
            self.fake.on(&format!("eth_getTransactionReceipt {hash}"), Reply::Result(receipt));
        }

        /// The nonces that are still open after a round.
        async fn open_after_a_round(&self) -> Vec<u64> {
            round(&self.upstream, &self.ledger).await.unwrap();
            let unsettled = self.ledger.unsettled::<Tx>(1).await.unwrap();
            let open = unsettled.iter().filter(|recorded| recorded.standing().is_live());
            open.filter_map(Recorded::nonce).collect()
        }
    }

    #[tokio::test]
    async fn inv_10_what_is_not_mined_is_sent_again_byte_by_byte_and_in_order() {
        let scene = Scene::set("0x0", "0x0").await;
        for answer in
            [Reply::Error(-32000, "flux capacitor"), Reply::Error(-32000, "already known"), Reply::Close]
        {
            scene.fake.on("eth_sendRawTransaction", answer);
            assert_eq!(scene.open_after_a_round().await, [0, 1]);
        }
        let [first, second] = &scene.sent;
        let sent = scene.fake.calls("eth_sendRawTransaction");
        let expected = [json!([first.raw()]), json!([second.raw()])];
        assert_eq!(sent, [&expected[..], &expected[..], &expected[..]].concat());
    }

    /// Its client hears what that task hears, and nobody else hands it over beside it.
    #[tokio::test]
    async fn inv_02_what_its_own_task_has_in_hand_is_left_to_it() {
        let scene = Scene::set("0x0", "0x0").await;
        scene.fake.on("eth_sendRawTransaction", Reply::Error(-32000, "already known"));
        let third = recorded(&scene.ledger).await;
        let sent = || scene.fake.calls("eth_sendRawTransaction");
        scene.open_after_a_round().await;
        let [first, second] = scene.sent.each_ref().map(|sent| json!([sent.raw()]));
        assert_eq!(sent(), [first, second]);
        let raw = json!([third.raw()]);
        drop(third);
        scene.open_after_a_round().await;
        assert_eq!((sent().len(), sent().pop()), (5, Some(raw)));
    }

    /// A page is old by the time that its last row is sent.
    #[tokio::test]
    async fn inv_02_what_was_refused_while_others_were_sent_is_not_sent() {
        let scene = Scene::set("0x0", "0x0").await;
        scene.fake.on("eth_sendRawTransaction", Reply::Hang);
        let refused = async {
            while scene.fake.calls("eth_sendRawTransaction").is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let [_, second] = &scene.ledger.unsettled::<Tx>(1).await.unwrap()[..] else { panic!("two") };
            let class = RefusalClass::InsufficientFunds;
            let outcome = Outcome::Refused { class, text: "insufficient funds".to_owned() };
            scene.ledger.outcome(second, outcome).await.unwrap();
        };
        let (ended, ()) = tokio::join!(round(&scene.upstream, &scene.ledger), refused);
        ended.unwrap();
        assert_eq!(scene.fake.calls("eth_sendRawTransaction"), [json!([scene.sent[0].raw()])]);
    }

    #[tokio::test]
    async fn inv_13_receipts_that_take_too_long_together_are_asked_for_one_by_one() {
        for is_slow in [false, true] {
            let scene = Scene::set("0x2", "0x9").await;
            scene.receipt(0, "0x5");
            scene.receipt(1, "0x6");
            if is_slow {
                scene.fake.is_slow_with_batches_of(1);
            } else {
                scene.fake.takes_batches(false);
            }
            let open = scene.open_after_a_round().await;
            assert!(open.is_empty(), "both are final: {open:?}");
            let [node] = &scene.upstream.0.nodes.readers()[..] else { panic!("one node") };
            assert!(node.takes_batches(), "clients' batches are another matter");
            assert!(!node.condition().is_failing);
        }
    }

    /// More than the ledger tells at once: those that are mined, and those that are not.
    #[tokio::test]
    async fn inv_10_however_many_are_open_all_of_them_are_followed() {
        let scene = Scene::set("0xc8", "0x9").await;
        let mut sent =
            Vec::from(scene.sent.each_ref().map(|recorded| (recorded.hash(), recorded.raw().clone())));
        while sent.len() < 400 {
            let recorded = recorded(&scene.ledger).await;
            sent.push((recorded.hash(), recorded.raw().clone()));
        }
        for (hash, _) in &sent[..200] {
            let receipt = json!({ "transactionHash": hash, "blockNumber": "0x5", "status": "0x1" });
            scene.fake.on(&format!("eth_getTransactionReceipt {hash}"), Reply::Result(receipt));
        }
        scene.fake.on("eth_sendRawTransaction", Reply::Error(-32000, "already known"));
        round(&scene.upstream, &scene.ledger).await.unwrap();
        let again = scene.fake.calls("eth_sendRawTransaction");
        assert_eq!(again, sent[200..].iter().map(|(_, raw)| json!([raw])).collect::<Vec<_>>());
        let mut pages = scene.ledger.open_pages::<Tx>(1, scene.ledger.newest().await.unwrap());
        let pages = [pages.next().await.unwrap(), pages.next().await.unwrap()];
        assert_eq!(
            pages.iter().flatten().filter_map(Recorded::nonce).collect::<Vec<_>>(),
            (200..400).collect::<Vec<_>>()
        );
    }

    /// A thousand that are mined and not final are a thousand receipts every five seconds.
    #[tokio::test]
    async fn receipts_are_asked_for_below_the_count_at_the_final_block() {
        let scene = Scene::set("0x2", "0x9").await;
        let final_count = format!("eth_getTransactionCount {:?} 0x9", scene.sent[0].from());
        let asked = || scene.fake.calls("eth_getTransactionReceipt").len();
        scene.fake.on(&final_count, Reply::Result(json!("0x1")));
        scene.receipt(0, "0x5");
        scene.receipt(1, "0x6");
        assert_eq!(scene.open_after_a_round().await, [1]);
        assert_eq!(asked(), 1);
        // Where it has let go of that block's state, the receipts tell.
        scene.fake.on(&final_count, Reply::Error(-32000, "missing trie node"));
        assert!(scene.open_after_a_round().await.is_empty());
        assert_eq!(asked(), 2);
        assert!(scene.fake.calls("eth_sendRawTransaction").is_empty(), "both are mined");
    }

    #[tokio::test]
    async fn inv_10_what_waits_is_sent_again_whatever_keeps_the_rest_from_being_settled() {
        let scene = Scene::set("0x1", "0x9").await;
        scene.fake.on("eth_sendRawTransaction", Reply::Error(-32000, "already known"));
        for trouble in
            ["eth_getTransactionReceipt", &format!("eth_getTransactionCount {:?} 0x9", scene.sent[0].from())]
        {
            scene.fake.on(trouble, Reply::Close);
            assert!(matches!(round(&scene.upstream, &scene.ledger).await, Err(Cut::Node(_))));
        }
        let again = json!([scene.sent[1].raw()]);
        assert_eq!(scene.fake.calls("eth_sendRawTransaction"), [again.clone(), again]);
    }

    #[tokio::test]
    async fn what_is_refused_is_not_sent_again() {
        let scene = Scene::set("0x0", "0x0").await;
        scene.fake.on("eth_sendRawTransaction", Reply::Error(-32000, "insufficient funds"));
        assert!(scene.open_after_a_round().await.is_empty());
        assert!(scene.open_after_a_round().await.is_empty());
        assert_eq!(scene.fake.calls("eth_sendRawTransaction").len(), 2);
    }

    #[tokio::test]
    async fn inv_10_a_refused_payload_that_is_mined_after_all_becomes_final() {
        let scene = Scene::set("0x0", "0x9").await;
        scene.fake.on("eth_sendRawTransaction", Reply::Error(-32000, "insufficient funds"));
        assert!(scene.open_after_a_round().await.is_empty());
        assert_eq!(scene.ledger.unsettled::<Tx>(1).await.unwrap().len(), 2);
        scene.fake.on("eth_getTransactionCount", Reply::Result(json!("0x1")));
        scene.receipt(0, "0x9");
        scene.open_after_a_round().await;
        let [left] = &scene.ledger.unsettled::<Tx>(1).await.unwrap()[..] else { panic!("one is left") };
        assert_eq!(left.nonce(), Some(1));
        // What the chain decided is the ledger's: a node that lags does not bring the nonce back.
        assert_eq!(scene.ledger.next_nonce(1, ACCOUNT, 0).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn inv_10_what_a_reorganisation_undoes_is_sent_again() {
        let scene = Scene::set("0x2", "0x3").await;
        scene.fake.on("eth_sendRawTransaction", Reply::Error(-32000, "already known"));
        for of in [0, 1] {
            scene.receipt(of, "0x5");
        }
        assert_eq!(scene.open_after_a_round().await, [0, 1], "mined, and not final");
        assert!(scene.fake.calls("eth_sendRawTransaction").is_empty());
        // The block is gone, and the second is mined again, elsewhere.
        scene.fake.on("eth_getTransactionCount", Reply::Result(json!("0x0")));
        let nothing = format!("eth_getTransactionReceipt {}", scene.sent[0].hash());
        scene.fake.on(&nothing, Reply::Result(Value::Null));
        assert_eq!(scene.open_after_a_round().await, [0, 1]);
        assert_eq!(scene.fake.calls("eth_sendRawTransaction").len(), 2);
        scene.fake.on("eth_getTransactionCount", Reply::Result(json!("0x2")));
        scene.fake.on("eth_getBlockByNumber", Reply::Result(json!({ "number": "0x7" })));
        scene.receipt(0, "0x6");
        scene.receipt(1, "0x8");
        assert_eq!(scene.open_after_a_round().await, [1]);
    }

    #[tokio::test]
    async fn inv_10_mined_is_settled_only_when_it_is_final() {
        let scene = Scene::set("0x2", "0x9").await;
        scene.receipt(0, "0x9");
        scene.receipt(1, "0xa");
        assert_eq!(scene.open_after_a_round().await, [1]);
        scene.fake.on("eth_getBlockByNumber", Reply::Result(json!({ "number": "0xa" })));
        assert!(scene.open_after_a_round().await.is_empty());
        assert!(scene.fake.calls("eth_sendRawTransaction").is_empty(), "what is mined is not sent");
    }

    #[tokio::test]
    async fn where_no_block_is_finalized_the_depth_decides() {
        let scene = Scene::set("0x2", "0x0").await;
        scene.receipt(0, "0x5");
        scene.receipt(1, "0x6");
        scene.fake.on("eth_getBlockByNumber", Reply::Result(Value::Null));
        scene.fake.on("eth_blockNumber", Reply::Result(json!("0x8")));
        assert_eq!(scene.open_after_a_round().await, [1], "three blocks deep");
    }

    #[tokio::test]
    async fn inv_11_another_payload_at_the_nonce_counts_when_it_is_final() {
        let scene = Scene::set("0x2", "0x9").await;
        let at_finalized = format!("eth_getTransactionCount {} 0x9", json!(ACCOUNT).as_str().unwrap());
        scene.fake.on(&at_finalized, Reply::Result(json!("0x0")));
        assert_eq!(scene.open_after_a_round().await, [0, 1], "mined, and may be undone");
        scene.fake.on(&at_finalized, Reply::Result(json!("0x1")));
        let ours = Reply::Result(json!({ "hash": scene.sent[0].hash() }));
        scene.fake.on("eth_getTransactionByHash", ours);
        assert_eq!(scene.open_after_a_round().await, [0, 1], "it has ours, and its receipt will come");
        scene.fake.on("eth_getTransactionByHash", Reply::Result(Value::Null));
        assert_eq!(scene.open_after_a_round().await, [1]);
    }

    #[tokio::test]
    async fn inv_13_one_transaction_that_makes_trouble_does_not_hold_up_the_others() {
        let scene = Scene::set("0x2", "0x9").await;
        let trouble = format!("eth_getTransactionReceipt {}", scene.sent[0].hash());
        let lie = json!({ "transactionHash": scene.sent[1].hash(), "blockNumber": "0x1", "status": "0x1" });
        scene.receipt(1, "0x9");
        for answer in
            [Reply::Result(json!("what?")), Reply::Error(-32000, "still indexing"), Reply::Result(lie)]
        {
            scene.fake.on(&trouble, answer);
            assert_eq!(scene.open_after_a_round().await, [0]);
        }
        scene.receipt(0, "0x9");
        assert!(scene.open_after_a_round().await.is_empty());
    }

    #[tokio::test]
    async fn inv_13_what_came_before_a_lower_nonce_is_sent_again_soon() {
        let scene = Scene::set("0x0", "0x0").await;
        scene.fake.on("eth_sendRawTransaction", Reply::Error(-32006, "Nonce too high"));
        let stop = CancellationToken::new();
        tokio::spawn(follow(scene.upstream.clone(), scene.ledger.clone(), stop.clone()));
        let sent = || scene.fake.calls("eth_sendRawTransaction").len();
        let three_rounds = async {
            while sent() < 6 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(EVERY, three_rounds).await.expect("long before the next round would begin");
        stop.cancel();
    }

    #[tokio::test]
    async fn it_stops_when_it_is_told_even_while_the_node_hangs() {
        let scene = Scene::set("0x0", "0x0").await;
        scene.fake.on("eth_getBlockByNumber", Reply::Hang);
        let stop = CancellationToken::new();
        let following = tokio::spawn(follow(scene.upstream.clone(), scene.ledger.clone(), stop.clone()));
        while scene.fake.calls("eth_getBlockByNumber").is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stop.cancel();
        tokio::time::timeout(Duration::from_millis(200), following).await.unwrap().unwrap();
    }
}
