//! Keys in encrypted files (the JSON keystore of Ethereum's clients), for laptops. Decrypted in the worker only.

use std::path::{Path, PathBuf};

use alloy_primitives::{Address, B256};
use k256::ecdsa::SigningKey;
use k256::elliptic_curve::sec1::ToEncodedPoint as _;
use secrecy::ExposeSecret as _;
use zeroize::Zeroizing;

use crate::secret;
use crate::signer::protocol::{KeySetting, Status};
use crate::signer::worker::session::{Failure, Session, Source};
use crate::transaction::address_of_point;

/// Decrypted keys by number. `SigningKey` wipes itself.
pub(super) struct Keys(Vec<(u16, SigningKey)>);

/// What a thread signs with.
pub(super) struct KeysSession(Vec<(u16, SigningKey)>);

/// Decrypts every file, in the order of the keys, and compares each address with the one that is pinned.
pub(super) fn open(keys: &[KeySetting], files: &[(PathBuf, PathBuf)]) -> Result<Keys, Status> {
    let mut open = Vec::with_capacity(keys.len());
    for (key, (file, password_file)) in keys.iter().zip(files) {
        let signing = decrypt(file, password_file).map_err(Status::Mismatch)?;
        let found = address_of(&signing);
        if found != Some(key.address) {
            let found = found.map_or_else(|| "unreadable".to_owned(), |found| found.to_string());
            let why =
                format!("{}: its address is {found}, the configuration pins {}", file.display(), key.address);
            return Err(Status::Mismatch(why));
        }
        open.push((key.number, signing));
    }
    Ok(Keys(open))
}

fn decrypt(file: &Path, password_file: &Path) -> Result<SigningKey, String> {
    let password =
        secret::read_file(password_file).map_err(|e| format!("{}: {e}", password_file.display()))?;
    let secret = eth_keystore::decrypt_key(file, password.expose_secret())
        .map_err(|e| format!("{}: it cannot be decrypted: {e}", file.display()))?;
    let secret = Zeroizing::new(secret);
    SigningKey::from_slice(&secret).map_err(|_| format!("{}: it holds no secp256k1 key", file.display()))
}

fn address_of(key: &SigningKey) -> Option<Address> {
    address_of_point(key.verifying_key().as_affine().to_encoded_point(false).as_bytes())
}

impl Source for Keys {
    type Session = KeysSession;

    fn open(&self) -> Result<KeysSession, Failure> {
        Ok(KeysSession(self.0.clone()))
    }
}

impl Session for KeysSession {
    fn sign(&mut self, key: u16, digest: &B256) -> Result<[u8; 64], Failure> {
        let refused = |why: &str| Failure::request(why);
        let (_, key) = self
            .0
            .iter()
            .find(|(number, _)| *number == key)
            .ok_or_else(|| refused("there is no key of this number"))?;
        let (signature, _) =
            key.sign_prehash_recoverable(digest.as_slice()).map_err(|_| refused("the key cannot sign"))?;
        Ok(signature.to_bytes().into())
    }
}
