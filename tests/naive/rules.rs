//! Policies that are made up: rules with what they mean beside what is written.

use std::fmt::Write as _;

use alloy_dyn_abi::DynSolValue;
use alloy_primitives::{Address, U256, address};

use crate::Random;
use crate::others::Other;

pub const ALICE: Address = address!("0x70997970C51812dc3A010C7d01b50e0d17dc79C8");
pub const BOB: Address = address!("0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC");
pub const TREASURY: Address = address!("0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96045");
pub const VAULT: Address = address!("0x15d34AAf54267DB7D7c367839AAf71A00a2C6A65");
pub const USDC: Address = address!("0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48");
pub const ROUTER: Address = address!("0x68b3465833fb72A70ecDF485E0e4C7bD8665Fc45");
pub const PLAIN: Address = address!("0x976EA74026E726554dB657fA54763abd0C3a0aa9");
pub const MULTICALL: Address = address!("0xcA11bde05977b3631167028862bE2a173976CA11");
pub const SAFE: Address = address!("0x90F79bf6EB2c4f870365E785982E1f101E93b906");
pub const MULTISEND: Address = address!("0x40A2aCCbd92BCA938b02010E17A5b8929b49130D");

pub const POOL: Address = address!("0x87870Bca3F3fD6335C3F4ce8392D69350B4fA4E2");

/// Those of [`signer`](crate::keys::address) for the keys with these numbers: an account of ours that no client may use; a
/// wallet that signs elsewhere; and one that lets the code of others act as itself.
pub const DESK: Address = address!("0xb595B18c88b1f651cA387489067f855b5C8E6720");
pub const HOT: Address = address!("0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F");
pub const WARM: Address = address!("0x1999BEC693CfC3FFa9727070f9e2B8091EC563Bf");

pub const ACCOUNTS: &[(&str, Address)] = &[("treasury", TREASURY), ("vault", VAULT), ("desk", DESK)];
/// Who may have signed what comes signed.
pub const SIGNERS: &[Address] = &[HOT, BOB];
/// Name, role, accounts by number.
pub const CLIENTS: &[(&str, Option<&str>, &[usize])] =
    &[("ann", Some("trader"), &[0, 1]), ("ben", None, &[0]), ("cid", Some("trader"), &[1])];

/// Label, address, ABI.
pub const CONTRACTS: &[(&str, Address, &str)] = &[
    ("usdc", USDC, "abi = \"erc20\", decimals = 6, symbol = \"USDC\""),
    ("router", ROUTER, "abi = \"uniswap-v3-router-02\""),
    ("multicall", MULTICALL, "abi = \"multicall3\""),
    ("safe", SAFE, "abi = \"safe\""),
    ("multisend", MULTISEND, "abi = \"multisend\""),
    ("pool", POOL, "abi = \"aave-v3-pool\""),
    ("plain", PLAIN, ""),
    ("alice", ALICE, ""),
    ("bob", BOB, ""),
];

/// Who looks at arguments.
pub struct Eyes {
    pub account: Address,
    pub sender: Address,
    pub client: &'static str,
    /// In seconds since 1970.
    pub now: u64,
    /// Of what cannot be told, a deny rule says that it is so.
    pub deny: bool,
}

/// The tokens of a path of Uniswap v3: 20 bytes of one, 3 of a fee, and so on.
pub fn path(value: &DynSolValue) -> Option<Vec<Address>> {
    let bytes = value.as_bytes().unwrap();
    let is_path = bytes.len() >= 43 && (bytes.len() - 20).is_multiple_of(23);
    let token = |at: usize| Address::from_slice(&bytes[at..at + 20]);
    is_path.then(|| (0..=(bytes.len() - 20) / 23).map(|hop| token(hop * 23)).collect())
}

pub type Test = fn(&[DynSolValue], &Eyes) -> bool;

/// A function, the contracts whose ABI has it, and what can be said of its arguments. One of the first list must be in
/// an allow rule; of the second any.
pub struct Function {
    pub signature: &'static str,
    pub of: &'static [&'static str],
    pub addresses: &'static [(&'static str, Test)],
    pub others: &'static [(&'static str, Test)],
}

pub fn number(value: &DynSolValue) -> U256 {
    value.as_uint().unwrap().0
}

pub fn who(value: &DynSolValue) -> Address {
    value.as_address().unwrap()
}

pub fn items(value: &DynSolValue) -> &[DynSolValue] {
    value.as_array().or_else(|| value.as_tuple()).unwrap()
}

pub const ANYONE: Test = |_, _| true;

pub const FUNCTIONS: &[Function] = &[
    Function {
        signature: "transfer(address to, uint256 amount)",
        of: &["usdc"],
        addresses: &[
            ("to = \"any\"", ANYONE),
            ("to = [\"alice\", \"bob\"]", |a, _| [ALICE, BOB].contains(&who(&a[0]))),
            ("to = { not = \"bob\" }", |a, _| who(&a[0]) != BOB),
            ("0 = \"$from\"", |a, eyes| who(&a[0]) == eyes.account),
            ("to = \"$sender\"", |a, eyes| who(&a[0]) == eyes.sender),
        ],
        others: &[
            ("amount = { max = 100 }", |a, _| number(&a[1]) <= U256::from(100)),
            ("1 = { min = \"10\", max = 1000 }", |a, _| {
                (U256::from(10)..=U256::from(1000)).contains(&number(&a[1]))
            }),
            ("amount = { not = [0, 10] }", |a, _| ![0, 10].map(U256::from).contains(&number(&a[1]))),
            ("amount = 10", |a, _| number(&a[1]) == U256::from(10)),
        ],
    },
    Function {
        signature: "approve(address spender, uint256 amount)",
        of: &["usdc"],
        addresses: &[("spender = \"any\"", ANYONE), ("spender = \"router\"", |a, _| who(&a[0]) == ROUTER)],
        others: &[("amount = { max = 1_000 }", |a, _| number(&a[1]) <= U256::from(1000))],
    },
    Function {
        signature: "wrapETH(uint256 value)",
        of: &["router"],
        addresses: &[],
        others: &[("value = { min = 10 }", |a, _| number(&a[0]) >= U256::from(10))],
    },
    Function {
        signature: "pull(address token, uint256 value)",
        of: &["router"],
        addresses: &[("token = \"usdc\"", |a, _| who(&a[0]) == USDC), ("token = \"any\"", ANYONE)],
        others: &[("value = { max = 100 }", |a, _| number(&a[1]) <= U256::from(100))],
    },
    Function {
        signature: "exactInput((bytes path, address recipient, uint256 amountIn, uint256 amountOutMinimum) params)",
        of: &["router"],
        addresses: &[
            ("\"params.recipient\" = \"any\", \"params.path\" = \"any\"", ANYONE),
            (
                "\"params.recipient\" = \"$from\", \"head(params.path)\" = \"usdc\", \"tail(params.path)\" = \"any\"",
                |a, eyes| {
                    let head = path(&items(&a[0])[0]).map(|tokens| tokens[0]);
                    who(&items(&a[0])[1]) == eyes.account && head.map_or(eyes.deny, |head| head == USDC)
                },
            ),
            (
                "\"params.recipient\" = \"any\", \"head(params.path)\" = \"any\", \"tail(params.path)\" = { not = \"bob\" }",
                |a, eyes| {
                    let tail = path(&items(&a[0])[0]).and_then(|tokens| tokens.last().copied());
                    tail.map_or(eyes.deny, |tail| tail != BOB)
                },
            ),
            ("\"params.recipient\" = \"any\", \"tokens(params.path)\" = [\"usdc\", \"bob\"]", |a, eyes| {
                let is_named = |token: &Address| [USDC, BOB].contains(token);
                path(&items(&a[0])[0]).map_or(eyes.deny, |tokens| {
                    if eyes.deny { tokens.iter().any(is_named) } else { tokens.iter().all(is_named) }
                })
            }),
        ],
        others: &[
            ("\"len(params.path)\" = 43", |a, _| items(&a[0])[0].as_bytes().unwrap().len() == 43),
            ("\"params.amountIn\" = { max = 100 }", |a, _| number(&items(&a[0])[2]) <= U256::from(100)),
        ],
    },
    Function {
        signature: "withdraw(address asset, uint256 amount, address to)",
        of: &["pool"],
        addresses: &[
            ("asset = \"any\", to = \"any\"", ANYONE),
            ("asset = \"usdc\", to = \"$from\"", |a, eyes| who(&a[0]) == USDC && who(&a[2]) == eyes.account),
            ("asset = \"any\", to = [\"$sender\", \"alice\"]", |a, eyes| {
                [eyes.sender, ALICE].contains(&who(&a[2]))
            }),
        ],
        others: &[("amount = { max = 1_000 }", |a, _| number(&a[1]) <= U256::from(1000))],
    },
    Function { signature: "multicall(bytes[] data)", of: &["router"], addresses: &[], others: &[] },
    Function {
        signature: "aggregate3((address target, bool allowFailure, bytes callData)[] calls)",
        of: &["multicall"],
        addresses: &[
            ("calls = \"any\"", ANYONE),
            ("\"all(calls.target)\" = { not = \"plain\" }", |a, _| {
                items(&a[0]).iter().all(|call| who(&items(call)[0]) != PLAIN)
            }),
        ],
        others: &[("\"len(calls)\" = { max = 2 }", |a, _| items(&a[0]).len() <= 2)],
    },
    Function {
        signature: "execTransaction(address to, uint256 value, bytes data, uint8 operation, uint256 safeTxGas, uint256 baseGas, uint256 gasPrice, address gasToken, address refundReceiver, bytes signatures)",
        of: &["safe"],
        addresses: &[("to = \"any\", gasToken = \"any\", refundReceiver = \"any\"", ANYONE)],
        others: &[
            ("operation = 0", |a, _| number(&a[3]).is_zero()),
            ("\"len(data)\" = { min = 1 }", |a, _| !a[2].as_bytes().unwrap().is_empty()),
        ],
    },
    Function { signature: "multiSend(bytes transactions)", of: &["multisend"], addresses: &[], others: &[] },
    Function {
        signature: "ping(uint8 n)",
        of: &["plain", "alice"],
        addresses: &[],
        others: &[("n = { max = 7 }", |a, _| number(&a[0]) <= U256::from(7))],
    },
    Function {
        signature: "note(address[] who, (address to, uint256 n) p, string text, bytes tag)",
        of: &["plain"],
        addresses: &[
            ("who = \"any\", \"p.to\" = \"any\", tag = \"any\"", ANYONE),
            ("\"all(who)\" = [\"alice\", \"$from\"], \"p.to\" = \"alice\", tag = \"any\"", |a, eyes| {
                items(&a[0]).iter().all(|one| [ALICE, eyes.account].contains(&who(one)))
                    && who(&items(&a[1])[0]) == ALICE
            }),
            ("who = \"any\", \"some(who)\" = \"bob\", \"1.0\" = \"any\", tag = \"any\"", |a, _| {
                items(&a[0]).iter().any(|one| who(one) == BOB)
            }),
        ],
        others: &[
            ("\"who[0]\" = \"alice\"", |a, _| items(&a[0]).first().is_some_and(|one| who(one) == ALICE)),
            ("\"who[-1]\" = { not = \"bob\" }", |a, _| {
                items(&a[0]).last().is_some_and(|one| who(one) != BOB)
            }),
            ("\"len(who)\" = { max = 1 }", |a, _| items(&a[0]).len() <= 1),
            ("\"p.n\" = { min = 10 }", |a, _| number(&items(&a[1])[1]) >= U256::from(10)),
            ("text = { prefix = \"x\" }", |a, _| a[2].as_str().unwrap().starts_with('x')),
            ("text = { not = \"$client\" }", |a, eyes| a[2].as_str().unwrap() != eyes.client),
            ("\"len(tag)\" = 1", |a, _| a[3].as_bytes().unwrap().len() == 1),
        ],
    },
];

/// What is called.
#[derive(Clone, Copy)]
pub enum Called {
    Any,
    Empty,
    Function(usize),
}

/// Of what a rule for calls is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Of {
    Transaction,
    Presigned,
    /// Of whatever there is: a deny rule that does not say.
    All,
}

/// A rule as it is meant; `None` is not stated.
pub struct Rule {
    pub id: String,
    pub of: Of,
    pub deny: bool,
    pub chain: Option<u64>,
    pub clients: Option<Vec<&'static str>>,
    pub from: Option<Vec<usize>>,
    /// Labels, `create`, `any`.
    pub to: Option<Vec<&'static str>>,
    pub via: Option<Vec<&'static str>>,
    pub delegatecall: Option<bool>,
    pub called: Option<Called>,
    pub args: Vec<(&'static str, Test)>,
    pub value: Option<(Option<u64>, Option<u64>)>,
    pub fee: Option<(Option<u64>, Option<u64>)>,
    pub hours: bool,
    pub outcome: Option<Outcome>,
    /// How many blobs come along.
    pub blobs: Option<(Option<u64>, Option<u64>)>,
    /// To whose code accounts are set: labels, `none`, `any`.
    pub delegates: Option<Vec<&'static str>>,
}

/// What a node must find: the most USDC and ether that leaves, and whether others may be let take something.
#[derive(Clone, Copy)]
pub struct Outcome {
    pub usdc: Option<u64>,
    pub wei: Option<u64>,
    pub approvals: bool,
}

pub struct Budget {
    pub id: &'static str,
    /// `usdc`, `ether`, `count`.
    pub of: &'static str,
    pub per: &'static str,
    pub to: Option<&'static str>,
}

pub struct World {
    pub rules: Vec<Rule>,
    /// Those for what is no transaction.
    pub others: Vec<Other>,
    pub budgets: Vec<Budget>,
    pub max_gas: Option<u64>,
    pub max_calldata: Option<u64>,
}

pub fn some<T: Copy>(random: &mut Random, list: &[T]) -> Vec<T> {
    (0..=random.below(2)).map(|_| *random.of(list)).collect()
}

/// As a list is written.
pub fn quoted(list: &[&str]) -> String {
    list.iter().map(|one| format!("\"{one}\"")).collect::<Vec<_>>().join(", ")
}

/// The accounts with these numbers, or whoever signed; 9 is any.
pub fn names(of: Of, list: &[usize]) -> String {
    let name = |at: &usize| match of {
        Of::Presigned => SIGNERS.get(*at).map_or("any".to_owned(), ToString::to_string),
        Of::Transaction | Of::All => ACCOUNTS.get(*at).map_or("any", |(name, _)| *name).to_owned(),
    };
    quoted(&list.iter().map(name).collect::<Vec<_>>().iter().map(String::as_str).collect::<Vec<_>>())
}

fn range(random: &mut Random) -> (Option<u64>, Option<u64>) {
    *random.of(&[
        (None, Some(5)),
        (None, Some(1000)),
        (Some(1), None),
        (Some(0), Some(7)),
        (Some(5), Some(5)),
    ])
}

impl World {
    pub fn random(random: &mut Random) -> Self {
        let mut rules: Vec<_> = (0..random.below(20)).map(|n| Rule::random(random, n)).collect();
        if random.one_in(2) {
            // Else hardly anything with calls inside is allowed.
            rules.extend(["create", "multisend"].map(|label| Rule::wide(random, label)));
            let signed = Rule::wide(random, "signed");
            rules.push(Rule { of: Of::Presigned, ..signed });
        }
        let others = Other::several(random);
        let mut budgets = Vec::new();
        for (id, of) in [("tokens", "usdc"), ("coins", "ether"), ("calls", "count")] {
            if random.one_in(2) {
                let per = *random.of(&["", "from", "to", "rule", "client"]);
                let to = if random.one_in(2) {
                    Some(*random.of(&["usdc", "router", "safe", "alice"]))
                } else {
                    None
                };
                budgets.push(Budget { id, of, per, to });
            }
        }
        let max_gas = random.one_in(8).then_some(50_000);
        let max_calldata = random.one_in(8).then_some(40);
        Self { rules, others, budgets, max_gas, max_calldata }
    }

    pub fn text(&self) -> String {
        let mut text = "[contracts]\n".to_owned();
        for (label, at, abi) in CONTRACTS {
            let abi = if abi.is_empty() { String::new() } else { format!(", {abi}") };
            writeln!(text, "{label} = {{ chain = 1, address = \"{at}\"{abi} }}").unwrap();
        }
        text.push_str("[caps]\nmax_execution_fee = \"any\"\n");
        self.max_gas.iter().for_each(|max| writeln!(text, "max_gas = {max}").unwrap());
        self.max_calldata.iter().for_each(|max| writeln!(text, "max_calldata = {max}").unwrap());
        for rule in &self.rules {
            rule.write(&mut text);
        }
        for rule in &self.others {
            rule.write(&mut text);
        }
        for Budget { id, of, per, to } in &self.budgets {
            let (sum, unit) = match *of {
                "count" => ("sum = \"count\"".to_owned(), "1_000_000"),
                "ether" => ("asset = \"ether\"".to_owned(), "\"1_000_000 ether\""),
                token => (format!("asset = \"{token}\""), "\"1_000_000 USDC\""),
            };
            writeln!(text, "[[budget]]\nid = \"{id}\"\n{sum}\nmax = {unit}\nwindow = \"24h\"").unwrap();
            if !per.is_empty() {
                writeln!(text, "per = [\"{per}\"]").unwrap();
            }
            if let Some(to) = to {
                writeln!(text, "match = {{ kind = \"transaction\", to = [\"{to}\"] }}").unwrap();
            }
        }
        text
    }
}

impl Rule {
    /// Allows everything but creations and delegatecalls; or of those a batch.
    fn wide(random: &mut Random, of: &'static str) -> Self {
        let is_batch = of == "multisend";
        Self {
            id: format!("wide-{of}"),
            of: Of::Transaction,
            deny: false,
            chain: Some(1),
            clients: Some(vec!["any"]),
            from: Some(vec![9]),
            to: Some(vec![if is_batch { of } else { "any" }]),
            via: Some(vec!["any"]),
            delegatecall: is_batch.then_some(true),
            called: Some(Called::Any),
            args: Vec::new(),
            value: Some(if random.one_in(2) { (Some(0), None) } else { (None, Some(6)) }),
            fee: None,
            hours: false,
            outcome: None,
            blobs: None,
            delegates: random.one_in(2).then(|| vec!["none", *random.of(&["alice", "any"])]),
        }
    }

    /// Forbids whatever it is, by who asks only.
    fn of_all(random: &mut Random, id: String) -> Self {
        let clients = [&["ben"][..], &["cid"], &["trader"]];
        Self {
            id,
            of: Of::All,
            deny: true,
            chain: None,
            clients: Some(random.of(&clients).to_vec()),
            from: random.one_in(2).then(|| vec![random.below(2)]),
            to: None,
            via: None,
            delegatecall: None,
            called: None,
            args: Vec::new(),
            value: None,
            fee: None,
            hours: random.one_in(2),
            outcome: None,
            blobs: None,
            delegates: None,
        }
    }

    fn random(random: &mut Random, n: usize) -> Self {
        if random.one_in(30) {
            return Self::of_all(random, format!("all{n}"));
        }
        let of = if random.one_in(5) { Of::Presigned } else { Of::Transaction };
        let deny = random.one_in(5);
        let left_out = |random: &mut Random| deny && random.one_in(4);
        // Ids sort otherwise than they are written.
        let id = format!("r{}{n}", random.below(10));
        let chain = if left_out(random) { None } else { Some(if random.one_in(12) { 10 } else { 1 }) };
        let all = [&["any"][..], &["trader"], &["ann"], &["ben", "cid"], &["ann", "any"]];
        let clients = if left_out(random) { None } else { Some(random.of(&all).to_vec()) };
        let from =
            if left_out(random) { None } else { Some(random.of(&[&[0][..], &[1], &[0, 1], &[9]]).to_vec()) };
        let via = match random.below(6) {
            0 if chain == Some(1) => Some(some(random, &["multicall", "safe", "multisend"])),
            1 | 2 => Some(vec!["any"]),
            _ => None,
        };
        let delegatecall = if random.one_in(4) { Some(random.one_in(2)) } else { None };
        let (mut to, called) = Self::target(random, deny, chain == Some(1));
        if of == Of::Presigned {
            // What others created is nobody's knowledge here.
            to.iter_mut().flatten().filter(|to| **to == "$created").for_each(|to| *to = "any");
        }
        let delegates = random.one_in(5).then(|| {
            let names =
                if chain == Some(1) { &["alice", "bob", "none", "any"][..] } else { &["none", "any"] };
            some(random, names)
        });
        let mut args = Vec::new();
        if let Some(Called::Function(at)) = called {
            let function = &FUNCTIONS[at];
            if !function.addresses.is_empty() && !left_out(random) {
                args.push(*random.of(function.addresses));
            }
            if !function.others.is_empty() && !random.one_in(3) {
                args.push(*random.of(function.others));
            }
        }
        let value = random.one_in(3).then(|| range(random));
        let fee = random.one_in(6).then(|| *random.of(&[(None, Some(100_000)), (Some(60_000), None)]));
        let ranges = [(None, Some(1)), (Some(1), None), (Some(1), Some(1)), (Some(0), Some(2))];
        let blobs = random.one_in(5).then(|| *random.of(&ranges));
        let can_ask = of == Of::Transaction && !deny && via.is_none() && chain == Some(1);
        let outcome = (can_ask && random.one_in(5)).then(|| Outcome {
            usdc: *random.of(&[None, Some(5), Some(1000)]),
            wei: *random.of(&[None, Some(7)]),
            approvals: random.one_in(2),
        });
        Self {
            id,
            of,
            deny,
            chain,
            clients,
            from,
            to,
            via,
            delegatecall,
            called,
            args,
            value,
            fee,
            hours: random.one_in(8),
            outcome,
            blobs,
            delegates,
        }
    }

    fn target(random: &mut Random, deny: bool, here: bool) -> (Option<Vec<&'static str>>, Option<Called>) {
        if deny && random.one_in(6) {
            return (None, None);
        }
        // Labels are on chain 1: rules for others name none.
        if !here || random.one_in(6) {
            let to = random.of(&[&["any"][..], &["create"], &["create", "any"]]).to_vec();
            let is_call = to == ["any"] && random.one_in(2);
            return (Some(to), Some(if is_call { Called::Empty } else { Called::Any }));
        }
        if random.one_in(4) {
            let labels = ["usdc", "alice", "router", "plain", "safe", "multicall"];
            return (Some(some(random, &labels)), Some(*random.of(&[Called::Any, Called::Empty])));
        }
        let at = random.below(FUNCTIONS.len());
        let of = FUNCTIONS[at].of;
        let mut to = if random.one_in(5) { vec!["any"] } else { some(random, of) };
        if random.one_in(8) {
            // Alone, or beside labels.
            to.retain(|label| *label != "any");
            to.push("$created");
        }
        (Some(to), Some(Called::Function(at)))
    }

    fn write(&self, text: &mut String) {
        let effect = if self.deny { "deny" } else { "allow" };
        writeln!(text, "[[rule]]\nid = \"{}\"\neffect = \"{effect}\"", self.id).unwrap();
        match self.of {
            Of::Transaction => text.push_str("kind = \"transaction\"\n"),
            Of::Presigned => text.push_str("kind = \"presigned\"\n"),
            Of::All => {}
        }
        self.chain.iter().for_each(|chain| writeln!(text, "chain = {chain}").unwrap());
        self.clients.iter().for_each(|list| writeln!(text, "clients = [{}]", quoted(list)).unwrap());
        self.from.iter().for_each(|list| writeln!(text, "from = [{}]", names(self.of, list)).unwrap());
        self.to.iter().for_each(|list| writeln!(text, "to = [{}]", quoted(list)).unwrap());
        self.via.iter().for_each(|list| writeln!(text, "via = [{}]", quoted(list)).unwrap());
        self.delegatecall.iter().for_each(|is| writeln!(text, "delegatecall = {is}").unwrap());
        self.delegates.iter().for_each(|list| writeln!(text, "delegates = [{}]", quoted(list)).unwrap());
        match self.called {
            Some(Called::Any) => text.push_str("call = \"any\"\n"),
            Some(Called::Empty) => text.push_str("call = \"empty\"\n"),
            Some(Called::Function(at)) => writeln!(text, "call = \"{}\"", FUNCTIONS[at].signature).unwrap(),
            None => {}
        }
        if !self.args.is_empty() {
            let args: Vec<_> = self.args.iter().map(|(text, _)| *text).collect();
            writeln!(text, "args = {{ {} }}", args.join(", ")).unwrap();
        }
        for (key, range) in [("value", self.value), ("execution_fee", self.fee)] {
            let Some((min, max)) = range else { continue };
            let ends = [("min", min), ("max", max)];
            let ends = ends.iter().filter_map(|(key, end)| Some(format!("{key} = \"{} wei\"", (*end)?)));
            writeln!(text, "{key} = {{ {} }}", ends.collect::<Vec<_>>().join(", ")).unwrap();
        }
        if let Some((min, max)) = self.blobs {
            let ends = [("min", min), ("max", max)];
            let ends = ends.iter().filter_map(|(key, end)| Some(format!("{key} = {}", (*end)?)));
            writeln!(text, "blobs = {{ {} }}", ends.collect::<Vec<_>>().join(", ")).unwrap();
        }
        if let Some(Outcome { usdc, wei, approvals }) = self.outcome {
            let usdc = usdc.map(|most| format!("\"0.{most:06} USDC\""));
            let most: Vec<_> = usdc.into_iter().chain(wei.map(|most| format!("\"{most} wei\""))).collect();
            let approvals = if approvals { ", approvals = \"any\"" } else { "" };
            writeln!(text, "outcome = {{ max_out = [{}]{approvals} }}", most.join(", ")).unwrap();
        }
        if self.hours {
            text.push_str("hours = \"Mon-Fri 08:00-20:00 UTC\"\n");
        }
    }
}
