//! A chain and the pool of a node: they decide what is mined, whatever the node says.

use std::collections::BTreeSet;

#[derive(Debug, Default)]
pub struct Chain {
    /// What the node holds, by its reservation and nonce.
    pool: BTreeSet<(u64, i64)>,
    /// By nonce; nothing where somebody else used it.
    pub mined: Vec<Option<i64>>,
    pub finalized: usize,
}

impl Chain {
    pub fn keep(&mut self, id: i64, nonce: u64) {
        self.pool.insert((nonce, id));
    }

    pub fn next(&self) -> u64 {
        u64::try_from(self.mined.len()).unwrap()
    }

    /// Mines one of those that can be mined next; false where there is none.
    pub fn mine(&mut self, which: u8) -> bool {
        let next = self.next();
        let ready: Vec<i64> =
            self.pool.iter().filter(|(nonce, _)| *nonce == next).map(|(_, id)| *id).collect();
        if ready.is_empty() {
            return false;
        }
        self.mined.push(Some(ready[usize::from(which) % ready.len()]));
        true
    }

    pub fn undo(&mut self) {
        if self.mined.len() > self.finalized {
            self.mined.pop();
        }
    }

    /// The nonce that is final now, and whose payload it is.
    pub fn finalize(&mut self) -> Option<(u64, Option<i64>)> {
        let last = *self.mined.get(self.finalized)?;
        let nonce = u64::try_from(self.finalized).unwrap();
        self.finalized += 1;
        Some((nonce, last))
    }

    /// Whether a nonce is decided, and if so, whether it is this payload that is final.
    pub fn decided(&self, id: i64, nonce: u64) -> Option<bool> {
        let last = self.mined[..self.finalized].get(usize::try_from(nonce).unwrap())?;
        Some(*last == Some(id))
    }
}
