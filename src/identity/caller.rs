//! The caller of one request: made anew for each, so that a removed client is gone with its next request.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use alloy_primitives::Address;

use crate::config::Client;
use crate::identity::{IdempotencyKey, Ticket};
use crate::room::Room;

/// Who makes this request.
#[derive(Clone, Debug)]
pub struct Caller {
    client: Arc<Client>,
    request: RequestId,
    key: Option<IdempotencyKey>,
    /// For what it is answered, while that is on its way.
    room: Option<Arc<Room>>,
    /// Of a call for a signature.
    ticket: Option<Ticket>,
}

/// A caller and one account that it may use, made by [`Caller::for_account`]; or one whose signature it has, made by
/// [`Caller::presenting`].
#[derive(Clone, Debug)]
pub struct AccountCaller {
    caller: Caller,
    account: Address,
    presents: bool,
}

/// The account does not exist here, or is not this client's: one text for both, so that nobody can list ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("account {0} is not available to this client")]
pub struct NotAvailable(pub Address);

/// Names a request in logs, audit rows and answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(u128);

impl Caller {
    pub fn new(client: Arc<Client>, request: RequestId) -> Self {
        Self { client, request, key: None, room: None, ticket: None }
    }

    /// With the name that the client gave to this request.
    #[must_use]
    pub fn with_key(mut self, key: Option<IdempotencyKey>) -> Self {
        self.key = key;
        self
    }

    /// With the room of its client for what it is answered.
    #[must_use]
    pub fn with_room(mut self, room: Arc<Room>) -> Self {
        self.room = Some(room);
        self
    }

    /// With what it holds until all of it is done.
    #[must_use]
    pub fn with_ticket(mut self, ticket: Option<Ticket>) -> Self {
        self.ticket = ticket;
        self
    }

    pub const fn room(&self) -> Option<&Arc<Room>> {
        self.room.as_ref()
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    pub const fn request(&self) -> RequestId {
        self.request
    }

    /// This client's accounts, in configured order (Hardhat takes the first).
    pub fn accounts(&self) -> &[Address] {
        &self.client.accounts
    }

    pub fn for_account(&self, account: Address) -> Result<AccountCaller, NotAvailable> {
        if self.client.accounts.contains(&account) {
            Ok(AccountCaller { caller: self.clone(), account, presents: false })
        } else {
            Err(NotAvailable(account))
        }
    }
}

impl Caller {
    /// With the account that has signed what this caller hands in. It may use no key by this.
    pub fn presenting(&self, signer: Address) -> AccountCaller {
        AccountCaller { caller: self.clone(), account: signer, presents: true }
    }
}

impl AccountCaller {
    /// Whether it brings the account's signature, and may not ask for one.
    pub const fn presents(&self) -> bool {
        self.presents
    }

    pub fn client(&self) -> &Client {
        self.caller.client()
    }

    pub const fn request(&self) -> RequestId {
        self.caller.request
    }

    /// What its call holds; what we ask by ourselves has none.
    pub const fn ticket(&self) -> Option<&Ticket> {
        self.caller.ticket.as_ref()
    }

    /// The name that the client gave to this request.
    pub const fn key(&self) -> Option<&IdempotencyKey> {
        self.caller.key.as_ref()
    }

    pub const fn account(&self) -> Address {
        self.account
    }
}

thread_local! {
    /// Names that nobody has yet: the system is asked once for many, and not for each request.
    static AHEAD: RefCell<Vec<RequestId>> = const { RefCell::new(Vec::new()) };
}

impl RequestId {
    /// A new name, not to be guessed; without randomness from the system there is no request.
    pub fn random() -> Result<Self, getrandom::Error> {
        AHEAD.with_borrow_mut(|ahead| {
            if ahead.is_empty() {
                let mut bytes = [[0; 16]; 64];
                getrandom::fill(bytes.as_flattened_mut())?;
                ahead.extend(bytes.map(|name| Self(u128::from_be_bytes(name))));
            }
            ahead.pop().ok_or(getrandom::Error::UNEXPECTED)
        })
    }

    /// Reads a name back that was written by `Display`; an unreadable one is the name 0, which no request has.
    pub fn parse(text: &str) -> Self {
        Self(u128::from_str_radix(text, 16).unwrap_or(0))
    }

    /// For tests and tools that need the same name twice.
    pub const fn from_number(number: u128) -> Self {
        Self(number)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}
