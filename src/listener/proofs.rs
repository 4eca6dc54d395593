//! What was found out about certificates under one trust: after a reload every connection asks at once, and many have the same
//! certificate. A list of revocations is hashed and verified whole for each proof.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::pki_types::CertificateDer;
use rustls::{CertificateError, Error};
use sha2::{Digest as _, Sha256};

use crate::clock::Timestamp;
use crate::listener::gatekeeper::Admitted;
use crate::listener::tls::Entrance;

/// A chain as it is shown at one entrance.
pub(in crate::listener) type Shown = [u8; 32];

/// Of one snapshot: under the next there are others.
#[derive(Debug, Default)]
pub(in crate::listener) struct Proofs {
    known: Mutex<HashMap<Shown, Arc<Mutex<Option<Proof>>>>>,
}

type Proof = Result<Admitted, Error>;

/// More certificates than that are proved each time.
const MAX: usize = 4096;

impl Proofs {
    /// What `prove` says, asked once for all who show the same, while that is so. Nothing else is remembered: what fails now
    /// may be good later, unless it is revoked.
    pub fn of(&self, shown: Shown, now: Timestamp, prove: impl FnOnce() -> Proof) -> Proof {
        let Some(place) = self.place(shown) else { return prove() };
        // Whoever comes meanwhile would need as long himself.
        let mut known = place.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(proof) = known.as_ref().filter(|proof| holds(proof, now)) {
            return proof.clone();
        }
        let proof = prove();
        *known = Some(proof.clone()).filter(|proof| holds(proof, now));
        proof
    }

    fn place(&self, shown: Shown) -> Option<Arc<Mutex<Option<Proof>>>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX && !known.contains_key(&shown) {
            return None;
        }
        Some(Arc::clone(known.entry(shown).or_default()))
    }
}

fn holds(proof: &Proof, now: Timestamp) -> bool {
    match proof {
        Ok(admitted) => now < admitted.until,
        Err(error) => *error == Error::InvalidCertificate(CertificateError::Revoked),
    }
}

/// The name of a chain at an entrance.
pub(in crate::listener) fn shown(entrance: Entrance, chain: &[CertificateDer<'_>]) -> Shown {
    let mut hash = Sha256::new();
    hash.update([u8::from(entrance == Entrance::Everyone)]);
    for der in chain {
        hash.update(u64::try_from(der.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(der);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::identity::Person;
    use crate::listener::tests::kit::operator;

    #[test]
    fn inv_12_many_connections_with_one_certificate_are_one_proof() {
        let (proofs, proved) = (Proofs::default(), Cell::new(0));
        let at = Timestamp::from_millis;
        let ask = |shown: u8, now: u64, proof: &Proof| {
            proofs.of([shown; 32], at(now), || {
                proved.set(proved.get() + 1);
                proof.clone()
            })
        };
        let person = Person::Operator(Arc::new(operator()));
        let good: Proof = Ok(Admitted { person, identity: "ada".to_owned(), until: at(10) });
        let bad = |why| -> Proof { Err(Error::InvalidCertificate(why)) };
        for _ in 0..100 {
            assert_eq!(ask(1, 5, &good).unwrap().identity, "ada");
        }
        assert_eq!(proved.get(), 1);
        ask(2, 5, &good).unwrap();
        assert_eq!(proved.get(), 2, "another certificate is another question");
        for now in [10, 11] {
            ask(1, now, &good).unwrap();
        }
        assert_eq!(proved.get(), 4, "nothing holds longer than it says");
        for _ in 0..5 {
            ask(3, 5, &bad(CertificateError::Revoked)).unwrap_err();
        }
        assert_eq!(proved.get(), 5, "revoked stays revoked");
        ask(4, 5, &bad(CertificateError::NotValidYet)).unwrap_err();
        ask(4, 5, &good).unwrap();
        assert_eq!(proved.get(), 7, "what fails now may be good later");
        for n in 0..MAX {
            let mut shown = [0; 32];
            shown[..8].copy_from_slice(&n.to_be_bytes());
            proofs.of(shown, at(5), || good.clone()).unwrap();
        }
        assert!(proofs.known.lock().unwrap().len() <= MAX);
    }
}
