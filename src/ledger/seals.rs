//! What checkpoints say of the chain, held against the chain as it is walked. Pure.

use std::collections::HashMap;

use alloy_primitives::{Address, B256};

use crate::ledger::audit::{Entry, Head};
use crate::ledger::note::SealedRow;
use crate::transaction::checkpoint_digest;

/// The one writer of this ledger.
const WRITER: i64 = 0;

/// Every checkpoint that is known, from the chain itself and from where it was pushed to.
#[derive(Debug, Default)]
pub(in crate::ledger) struct Seals {
    /// The key that all of them must be by.
    key: Option<Address>,
    /// The hash that a row must have, and the checkpoint that says so.
    expected: HashMap<i64, (B256, u64)>,
    /// Digest by number: two checkpoints of one number are a fork.
    digests: HashMap<u64, B256>,
    /// The last row that a checkpoint covers, of those that were met.
    pub covered: i64,
    pub keys: Vec<Address>,
}

impl Seals {
    pub(in crate::ledger) fn by(key: Option<Address>) -> Self {
        Self { key, ..Self::default() }
    }

    /// How many different checkpoints there are.
    pub(in crate::ledger) fn count(&self) -> usize {
        self.digests.len()
    }

    /// A checkpoint from anywhere. The error names the row that it contradicts.
    pub(in crate::ledger) fn add(&mut self, row: &SealedRow) -> Result<(), (i64, String)> {
        let statement = row.read().map_err(|why| (0, why))?;
        let number = statement.checkpoint;
        let head = statement.heads.iter().find(|head| head.writer == WRITER);
        let seq = head.map_or(0, |head| head.seq);
        if let Some(key) = self.key.filter(|key| *key != row.key) {
            return Err((seq, format!("checkpoint {number} is signed by {}, not by {key}", row.key)));
        }
        if !self.keys.contains(&row.key) {
            self.keys.push(row.key);
        }
        let digest = checkpoint_digest(&row.statement);
        if *self.digests.entry(number).or_insert(digest) != digest {
            return Err((seq, format!("there are two checkpoints {number}: the ledger was forked")));
        }
        if let Some(before) = number.checked_sub(1).and_then(|before| self.digests.get(&before))
            && *before != statement.previous
        {
            return Err((
                seq,
                format!("checkpoint {number} does not follow checkpoint {}", number.saturating_sub(1)),
            ));
        }
        if let Some(head) = head
            && self.expected.insert(seq, (head.hash, number)).is_some_and(|(hash, _)| hash != head.hash)
        {
            return Err((seq, format!("checkpoint {number} and another saw two different rows {seq}")));
        }
        Ok(())
    }

    /// Whether a row of the chain is the one that a checkpoint saw there.
    pub(in crate::ledger) fn meet(&mut self, entry: &Entry) -> Result<(), String> {
        if let Some((hash, number)) = self.expected.get(&entry.seq) {
            if *hash != entry.hash {
                return Err(format!(
                    "checkpoint {number} saw another row here: the ledger was forked, rolled back or written anew \
                     after row {}",
                    self.covered
                ));
            }
            self.covered = entry.seq;
        }
        Ok(())
    }

    /// Whether the chain reaches as far as it was seen to.
    pub(in crate::ledger) fn end(&self, head: &Head) -> Result<(), String> {
        let beyond = self.expected.iter().filter(|(seq, _)| **seq > head.seq).min_by_key(|(seq, _)| **seq);
        beyond.map_or(Ok(()), |(seq, (_, number))| {
            Err(format!(
                "the chain ends here, but checkpoint {number} saw row {seq}: its end was cut off, or an older copy \
                 was put in its place"
            ))
        })
    }
}
