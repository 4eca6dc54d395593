//! What may happen to a ledger: one step each, drawn at random.

use proptest::prelude::*;

/// Where an index says which of several, it is taken modulo how many there are.
#[derive(Clone, Debug)]
pub enum Step {
    /// A client asks for a payment.
    Ask {
        replica: u8,
        client: u8,
        account: u8,
        value: u64,
        wants: Wants,
        told: Told,
    },
    /// A replica's writer does in one commit what is queued, and answers, or does not.
    Turn {
        replica: u8,
        end: End,
    },
    /// The token signs, and the signature is to be recorded.
    Sign(u8),
    /// The token fails.
    Fail(u8),
    /// Whoever waits is gone.
    Leave(u8),
    /// What is recorded is handed to the node.
    Send {
        which: u8,
        word: Said,
    },
    /// Everything unsettled is read from the ledger, and one of it handed to the node.
    Resend {
        replica: u8,
        which: u8,
        word: Said,
    },
    /// What is final is read from the chain and told to the ledger.
    Follow {
        replica: u8,
    },
    Mine {
        account: u8,
        which: u8,
    },
    /// Somebody else uses the account's next nonce.
    External {
        account: u8,
    },
    /// The last block is undone.
    Undo {
        account: u8,
    },
    Finalize {
        account: u8,
    },
    /// Time passes, in milliseconds.
    Pass(u64),
    /// Somebody sets the wall clock of a replica, by so many milliseconds.
    Set {
        replica: u8,
        by: i64,
    },
    /// Another policy comes into force.
    Policy {
        replica: u8,
        policy: u8,
    },
    /// The process is killed, before or after the commit of what is queued, and started again.
    Crash {
        replica: u8,
        committed: bool,
    },
    /// The signatures that are waited for did not come in time.
    Deadline {
        replica: u8,
    },
}

/// What a client sets beside the value.
#[derive(Clone, Copy, Debug)]
pub enum Wants {
    Nothing,
    /// So far above what is mined; a tenth more for each bid.
    Nonce {
        above: u8,
        bid: u8,
        replace: bool,
    },
    /// An idempotency key, which says what is paid.
    Key(u8),
}

/// What the node says is mined.
#[derive(Clone, Copy, Debug)]
pub enum Told {
    Right,
    Less(u8),
    More(u8),
}

/// What a node says of a payload, and whether it keeps it.
#[derive(Clone, Copy, Debug)]
pub enum Said {
    Accepted,
    /// No answer, and it is gone.
    Lost,
    /// No answer in time, and it is kept.
    Slow,
    Refused,
    /// Refused, and kept.
    RefusedAndKept,
    /// Accepted, and gone.
    AcceptedAndGone,
}

/// How a commit ends for those who wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Told,
    /// It is done, and nobody hears of it.
    Unheard,
    /// The disk fails in the middle of it.
    Broken,
}

pub fn steps(number: usize) -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), number)
}

fn step() -> impl Strategy<Value = Step> {
    let n = any::<u8>;
    let end = prop_oneof![20 => Just(End::Told), 1 => Just(End::Unheard), 1 => Just(End::Broken)];
    let word = || {
        prop_oneof![
            6 => Just(Said::Accepted),
            1 => Just(Said::Lost),
            1 => Just(Said::Slow),
            1 => Just(Said::Refused),
            1 => Just(Said::RefusedAndKept),
            1 => Just(Said::AcceptedAndGone),
        ]
    };
    let wants = prop_oneof![
        4 => Just(Wants::Nothing),
        3 => (0..4_u8, 0..4_u8, any::<bool>()).prop_map(|(above, bid, replace)| Wants::Nonce { above, bid, replace }),
        2 => (0..30_u8).prop_map(Wants::Key),
    ];
    let told = prop_oneof![
        8 => Just(Told::Right),
        1 => (1..4_u8).prop_map(Told::Less),
        1 => (1..30_u8).prop_map(Told::More),
    ];
    let ask = (n(), 0..2_u8, 0..2_u8, 0..5_000_000_u64, wants, told);
    prop_oneof![
        24 => ask.prop_map(|(replica, client, account, value, wants, told)| Step::Ask {
            replica, client, account, value, wants, told
        }),
        30 => (n(), end).prop_map(|(replica, end)| Step::Turn { replica, end }),
        20 => n().prop_map(Step::Sign),
        2 => n().prop_map(Step::Fail),
        2 => n().prop_map(Step::Leave),
        16 => (n(), word()).prop_map(|(which, word)| Step::Send { which, word }),
        3 => (n(), n(), word()).prop_map(|(replica, which, word)| Step::Resend { replica, which, word }),
        6 => n().prop_map(|replica| Step::Follow { replica }),
        10 => (0..2_u8, n()).prop_map(|(account, which)| Step::Mine { account, which }),
        1 => (0..2_u8).prop_map(|account| Step::External { account }),
        1 => (0..2_u8).prop_map(|account| Step::Undo { account }),
        6 => (0..2_u8).prop_map(|account| Step::Finalize { account }),
        6 => (1..20_000_u64).prop_map(Step::Pass),
        1 => (n(), -7_200_000..7_200_000_i64).prop_map(|(replica, by)| Step::Set { replica, by }),
        1 => (n(), n()).prop_map(|(replica, policy)| Step::Policy { replica, policy }),
        1 => (n(), any::<bool>()).prop_map(|(replica, committed)| Step::Crash { replica, committed }),
        1 => n().prop_map(|replica| Step::Deadline { replica }),
    ]
}
