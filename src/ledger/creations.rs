//! Which contracts an account created through this ledger.
//!
//! The table only leads to the rows: what counts is the recorded transaction itself, which `audit verify` holds against the
//! chain. Where a contract is follows from who created it and by which nonce.

use alloy_primitives::Address;

use crate::ledger::command::{Command, Reply};
use crate::ledger::db::{Db, Sql, query};
use crate::ledger::store;
use crate::ledger::writer::Group;
use crate::ledger::{Ledger, LedgerError};
use crate::transaction::Filled;

/// How many addresses are looked for with one question.
const AT_ONCE: usize = 256;

/// Which of these addresses are contracts that an account created.
#[derive(Debug)]
pub(in crate::ledger) struct Created {
    chain: u64,
    account: Address,
    addresses: Vec<Address>,
    reply: Reply<Result<Vec<Address>, LedgerError>>,
}

impl Ledger {
    /// Those of them where a transaction of the account creates a contract that is recorded, and that nothing has taken the
    /// place of. Whether it is mined yet, or came to nothing, does not matter: nobody else can create something there.
    pub async fn created(
        &self,
        (chain, account): (u64, Address),
        addresses: Vec<Address>,
    ) -> Result<Vec<Address>, LedgerError> {
        if addresses.is_empty() {
            return Ok(addresses);
        }
        self.ask(|reply| Command::Created(Created { chain, account, addresses, reply })).await?
    }
}

impl Created {
    pub(in crate::ledger) async fn answer(self, group: &mut Group<'_>) -> Sql<()> {
        let Self { chain, account, addresses, reply } = self;
        let created = created(group.db, (chain, account), addresses).await?;
        group.answer(reply, Ok(created));
        Ok(())
    }
}

/// A reservation will create a contract.
pub(in crate::ledger) async fn insert(db: &mut Db, id: i64, (account, nonce): (Address, u64)) -> Sql<()> {
    let row = query("INSERT INTO creation (reservation, address) VALUES (?1, ?2)").bind(id);
    row.bind(account.create(nonce).as_slice()).execute(db).await.map(drop)
}

/// Asked at once: each question is a way to the server and back, and others wait meanwhile.
async fn created(
    db: &mut Db,
    (chain, account): (u64, Address),
    mut addresses: Vec<Address>,
) -> Sql<Vec<Address>> {
    let mut found = Vec::new();
    for some in addresses.chunks(AT_ONCE) {
        let places: Vec<String> = (1..=some.len()).map(|place| format!("?{place}")).collect();
        let statement = format!(
            "SELECT reservation.* FROM creation JOIN reservation ON reservation.id = creation.reservation
             WHERE creation.address IN ({}) AND state IN ('recorded', 'final')",
            places.join(", ")
        );
        let rows = some.iter().fold(query(statement), |rows, address| rows.bind(address.as_slice()));
        for row in rows.fetch_all(&mut *db).await? {
            let stored = store::stored_row(&row)?;
            let signed = Filled::signed(stored.account, &stored.raw);
            if (stored.chain, stored.account) == (Some(chain), account)
                && signed.is_some_and(|signed| signed.to().is_none())
            {
                found.extend(stored.nonce.map(|nonce| account.create(nonce)));
            }
        }
    }
    addresses.retain(|address| found.contains(address));
    Ok(addresses)
}
