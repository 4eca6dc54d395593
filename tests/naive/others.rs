//! What is no transaction: messages, typed data and authorizations, with the rules for them.

use std::fmt::Write as _;

use alloy_dyn_abi::DynSolValue;
use alloy_primitives::{Address, U256, hex};
use chancery::clock::Timestamp;
use serde_json::{Map, Value, json};

use crate::Random;
use crate::interpreter::label;
use crate::requests::{Asked, What, call, number as word};
use crate::rules::{
    ACCOUNTS, ALICE, ANYONE, BOB, CLIENTS, Eyes, Of, ROUTER, SAFE, Test, USDC, items, names, number, quoted,
    who,
};

/// A message: a text, or a sign-in of which is known what it says.
pub struct Said {
    pub bytes: Vec<u8>,
    sign_in: Option<SignIn>,
}

struct SignIn {
    domain: &'static str,
    account: Address,
    chain: u64,
    expires: Option<u64>,
    malformed: bool,
}

/// Typed data of one of [`TYPES`].
pub struct Typed {
    pub ty: &'static Type,
    pub chain: Option<u64>,
    /// The contract that verifies it.
    pub to: Option<Address>,
    name: &'static str,
    pub values: Vec<DynSolValue>,
}

pub struct Type {
    /// As `primary_type` says it.
    written: &'static str,
    pub encoded: &'static str,
    /// As those of a function; the first in either list names no label.
    addresses: &'static [(&'static str, Test)],
    others: &'static [(&'static str, Test)],
}

pub const SAFE_TX: &str = "SafeTx(address to,uint256 value,bytes data,uint8 operation,uint256 safeTxGas,uint256 baseGas,uint256 gasPrice,address gasToken,address refundReceiver,uint256 nonce)";
pub const SAFE_TX_OF_OLD: &str = "SafeTx(address to,uint256 value,bytes data,uint8 operation,uint256 safeTxGas,uint256 dataGas,uint256 gasPrice,address gasToken,address refundReceiver,uint256 nonce)";
const LOOKALIKE: &str = "SafeTx(address to,uint256 value,bytes data,uint8 operation,uint256 safeTxGas,uint256 moreGas,uint256 gasPrice,address gasToken,address refundReceiver,uint256 nonce)";

const OF_SAFES: &[(&str, Test)] = &[
    ("operation = 0", |a, _| number(&a[3]).is_zero()),
    ("nonce = 7", |a, _| number(&a[9]) == U256::from(7)),
    ("\"len(data)\" = { max = 4 }", |a, _| a[2].as_bytes().unwrap().len() <= 4),
    ("value = { max = 5 }", |a, _| number(&a[1]) <= U256::from(5)),
];

const TO_ANY_SAFE: &[(&str, Test)] = &[
    ("to = \"any\", data = \"any\", gasToken = \"any\", refundReceiver = \"any\"", ANYONE),
    ("to = [\"usdc\", \"alice\"], data = \"any\", gasToken = \"any\", refundReceiver = \"any\"", |a, _| {
        [USDC, ALICE].contains(&who(&a[0]))
    }),
];

/// In an hour, and not over.
fn soon(value: &DynSolValue, eyes: &Eyes) -> bool {
    (U256::from(eyes.now)..=U256::from(eyes.now + 3600)).contains(&number(value))
}

pub const TYPES: &[Type] = &[
    Type {
        written: "SafeTx",
        encoded: SAFE_TX,
        addresses: &[
            ("to = \"any\", gasToken = \"any\", refundReceiver = \"any\"", ANYONE),
            ("to = { not = \"bob\" }, gasToken = \"any\", refundReceiver = \"any\"", |a, _| {
                who(&a[0]) != BOB
            }),
        ],
        others: OF_SAFES,
    },
    Type { written: SAFE_TX_OF_OLD, encoded: SAFE_TX_OF_OLD, addresses: TO_ANY_SAFE, others: OF_SAFES },
    Type { written: LOOKALIKE, encoded: LOOKALIKE, addresses: TO_ANY_SAFE, others: OF_SAFES },
    Type {
        written: "Permit",
        encoded: "Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)",
        addresses: &[
            ("owner = \"$from\", spender = \"any\"", |a, eyes| who(&a[0]) == eyes.account),
            ("owner = \"any\", spender = [\"router\", \"alice\"]", |a, _| {
                [ROUTER, ALICE].contains(&who(&a[1]))
            }),
        ],
        others: &[
            ("value = { max = 100 }", |a, _| number(&a[2]) <= U256::from(100)),
            ("deadline = { within = \"1h\" }", |a, eyes| soon(&a[4], eyes)),
        ],
    },
    Type {
        written: "DaiPermit",
        encoded: "Permit(address holder,address spender,uint256 nonce,uint256 expiry,bool allowed)",
        addresses: &[
            ("holder = \"any\", spender = \"any\"", ANYONE),
            ("holder = \"$from\", spender = { not = \"bob\" }", |a, eyes| {
                who(&a[0]) == eyes.account && who(&a[1]) != BOB
            }),
        ],
        others: &[("allowed = false", |a, _| !a[4].as_bool().unwrap())],
    },
    Type {
        written: "PermitSingle",
        encoded: "PermitSingle(PermitDetails details,address spender,uint256 sigDeadline)PermitDetails(address token,uint160 amount,uint48 expiration,uint48 nonce)",
        addresses: &[
            ("\"details.token\" = \"any\", spender = \"any\"", ANYONE),
            ("\"details.token\" = \"usdc\", spender = \"router\"", |a, _| {
                who(&items(&a[0])[0]) == USDC && who(&a[1]) == ROUTER
            }),
        ],
        others: &[
            ("\"details.amount\" = { min = 5, max = 500 }", |a, _| {
                (U256::from(5)..=U256::from(500)).contains(&number(&items(&a[0])[1]))
            }),
            ("sigDeadline = { within = \"1h\" }", |a, eyes| soon(&a[2], eyes)),
        ],
    },
];

/// The structs of an encoded type, the first is the whole: names, and members behind their types.
fn structs(encoded: &str) -> Vec<(&str, Vec<(&str, &str)>)> {
    let each = encoded.split_terminator(')').map(|text| text.split_once('(').unwrap());
    each.map(|(name, members)| {
        (name, members.split(',').map(|member| member.split_once(' ').unwrap()).collect())
    })
    .collect()
}

/// The struct's name, which does not tell it from others.
fn name_of(encoded: &str) -> &str {
    encoded.split_once('(').unwrap().0
}

impl Typed {
    pub fn random(random: &mut Random, account: Address, now: u64) -> Self {
        let ty = &TYPES[*random.of(&[0, 0, 0, 1, 2, 3, 3, 4, 4, 4, 5, 5])];
        let address = |random: &mut Random| *random.of(&[ALICE, BOB, ROUTER, USDC]);
        let owner = DynSolValue::Address(if random.one_in(6) { BOB } else { account });
        let spender = DynSolValue::Address(address(random));
        let amount = *random.of(&[0, 5, 100, 500, 5000]);
        let until = now + *random.of(&[0, 1, 3600, 3601]) - u64::from(random.one_in(8));
        let values = match ty.written {
            "Permit" => vec![owner, spender, word(amount), word(0), word(until)],
            "DaiPermit" => vec![owner, spender, word(0), word(until), DynSolValue::Bool(random.one_in(2))],
            "PermitSingle" => {
                let token = DynSolValue::Address(*random.of(&[USDC, ALICE]));
                let small = |number: u64, bits| DynSolValue::Uint(U256::from(number), bits);
                let details = vec![token, small(amount, 160), small(until, 48), small(0, 48)];
                vec![DynSolValue::Tuple(details), spender, word(until)]
            }
            _ => Self::of_a_safe(random),
        };
        let is_safe = name_of(ty.encoded) == "SafeTx";
        let to = if is_safe { &[SAFE, SAFE, SAFE, BOB, account][..] } else { &[USDC, USDC, ALICE, SAFE] };
        let chain = if random.one_in(20) { None } else { Some(1) };
        Self {
            ty,
            // On another chain there is no contract that calls could be told by.
            chain: if !is_safe && random.one_in(12) { Some(10) } else { chain },
            to: (!random.one_in(20)).then_some(*random.of(to)),
            name: *random.of(&["one", "two"]),
            values,
        }
    }

    fn of_a_safe(random: &mut Random) -> Vec<DynSolValue> {
        let (to, value, data) = call(random, 1);
        let value = if random.one_in(3) { value } else { 0 };
        let operation = if random.one_in(8) { *random.of(&[1, 1, 1, 2]) } else { 0 };
        let nobody = || DynSolValue::Address(Address::ZERO);
        vec![
            DynSolValue::Address(to),
            word(value),
            DynSolValue::Bytes(data),
            DynSolValue::Uint(U256::from(operation), 8),
            word(0),
            word(0),
            word(u64::from(random.one_in(20))),
            nobody(),
            nobody(),
            word(*random.of(&[7, 8])),
        ]
    }

    pub fn json(&self) -> Value {
        let mut types = Map::new();
        let mut domain = Map::from_iter([("name".to_owned(), json!(self.name))]);
        let mut listed = vec![json!({ "name": "name", "type": "string" })];
        if let Some(chain) = self.chain {
            domain.insert("chainId".to_owned(), json!(chain));
            listed.push(json!({ "name": "chainId", "type": "uint256" }));
        }
        if let Some(to) = self.to {
            domain.insert("verifyingContract".to_owned(), json!(to));
            listed.push(json!({ "name": "verifyingContract", "type": "address" }));
        }
        types.insert("EIP712Domain".to_owned(), json!(listed));
        let structs = structs(self.ty.encoded);
        for (name, members) in &structs {
            let member = |(ty, name): &(&str, &str)| json!({ "name": name, "type": ty });
            types.insert((*name).to_owned(), members.iter().map(member).collect());
        }
        let message = written(&structs, structs[0].0, &self.values);
        json!({ "types": types, "primaryType": structs[0].0, "domain": domain, "message": message })
    }

    /// How much USDC it lets others move; nothing where that cannot be told.
    pub fn moves(&self) -> Option<U256> {
        if self.chain == Some(10) {
            return Some(U256::ZERO);
        }
        let is_usdc = self.to == Some(USDC);
        match self.ty.written {
            "Permit" if is_usdc => Some(number(&self.values[2])),
            "DaiPermit" if is_usdc && self.values[4].as_bool().unwrap() => Some(U256::MAX),
            "PermitSingle" => {
                let details = items(&self.values[0]);
                Some(if who(&details[0]) == USDC { number(&details[1]) } else { U256::ZERO })
            }
            // A type that nobody knows, verified by the token itself.
            SAFE_TX_OF_OLD | LOOKALIKE if is_usdc => None,
            _ => Some(U256::ZERO),
        }
    }
}

/// Values as JSON, by the names of their members.
fn written(structs: &[(&str, Vec<(&str, &str)>)], of: &str, values: &[DynSolValue]) -> Value {
    let (_, members) = structs.iter().find(|(name, _)| *name == of).unwrap();
    let value = |value: &DynSolValue, ty: &str| match value {
        DynSolValue::Address(at) => json!(at),
        DynSolValue::Bool(is) => json!(is),
        DynSolValue::Bytes(bytes) => json!(hex::encode_prefixed(bytes)),
        DynSolValue::Uint(number, _) => json!(number.to_string()),
        DynSolValue::Tuple(values) => written(structs, ty, values),
        other => panic!("{other:?}"),
    };
    members
        .iter()
        .zip(values)
        .map(|((ty, name), one)| ((*name).to_owned(), value(one, ty)))
        .collect::<Map<_, _>>()
        .into()
}

const TEXTS: &[&[u8]] = &[
    b"health check 17",
    b"health",
    b"health check of just 32 bytes...",
    b"I owe you a house",
    b"health check \xff",
    b"",
];

impl Said {
    pub fn random(random: &mut Random, account: Address, now: u64) -> Self {
        if random.one_in(2) {
            return Self { bytes: random.of(TEXTS).to_vec(), sign_in: None };
        }
        let domain = *random.of(&["app.example.com", "App.example.com", "app.example.com:443", "other.org"]);
        let said = SignIn {
            domain,
            account: if random.one_in(8) { BOB } else { account },
            chain: *random.of(&[1, 1, 1, 10]),
            expires: (!random.one_in(4)).then_some(now + *random.of(&[0, 1, 3600, 3601])),
            malformed: random.one_in(6),
        };
        Self { bytes: said.text(random).into_bytes(), sign_in: Some(said) }
    }
}

impl SignIn {
    fn text(&self, random: &mut Random) -> String {
        let Self { domain, account, chain, expires, malformed } = self;
        let time = |seconds: u64| Timestamp::from_millis(seconds * 1000).to_string();
        let mut lines = vec![
            format!("{domain} wants you to sign in with your Ethereum account:"),
            account.to_string(),
            String::new(),
            String::new(),
            format!("URI: https://{domain}"),
            "Version: 1".to_owned(),
            format!("Chain ID: {chain}"),
            "Nonce: 32891756".to_owned(),
            "Issued At: 2026-01-01T00:00:00Z".to_owned(),
        ];
        lines.extend(expires.map(|at| format!("Expiration Time: {}", time(at))));
        if *malformed {
            match random.below(4) {
                0 => lines[1] = lines[1].to_lowercase(),
                1 => drop(lines.remove(5)),
                2 => lines.push("and all that I have".to_owned()),
                _ => lines[0].insert_str(0, "ftp://"),
            }
        }
        lines.join("\n")
    }
}

/// A rule for what is no transaction.
pub struct Other {
    pub id: String,
    pub deny: bool,
    chain: Option<u64>,
    clients: Option<Vec<&'static str>>,
    from: Option<Vec<usize>>,
    hours: bool,
    what: About,
}

enum About {
    Text(Text),
    /// Domain and chain, and within how long it must expire.
    SignIn {
        domain: Option<&'static str>,
        chain: Option<u64>,
        hour: bool,
    },
    Typed {
        /// Labels, `none`, `any`.
        to: Option<Vec<&'static str>>,
        ty: Option<&'static Type>,
        fields: Vec<(&'static str, Test)>,
        name: Option<&'static str>,
    },
    /// Labels, `none`, `any`.
    Authorization(Option<Vec<&'static str>>),
}

enum Text {
    Any,
    Prefix(&'static str),
    Equals(&'static str),
}

impl Other {
    pub fn several(random: &mut Random) -> Vec<Self> {
        let mut rules: Vec<_> = (0..random.below(12)).map(|n| Self::random(random, n)).collect();
        if random.one_in(2) {
            // Else hardly any of it is allowed, and what a Safe is to do is not looked at.
            let types = [random.of(&TYPES[..3]), random.of(&TYPES[3..])];
            rules.extend(types.map(|ty| Self {
                id: format!("wide-{}", name_of(ty.encoded)),
                deny: false,
                chain: Some(1),
                clients: Some(vec!["any"]),
                from: Some(vec![9]),
                hours: false,
                what: About::Typed {
                    to: Some(vec!["any"]),
                    ty: Some(ty),
                    fields: vec![*random.of(ty.addresses)],
                    name: None,
                },
            }));
        }
        rules
    }

    fn random(random: &mut Random, n: usize) -> Self {
        let deny = random.one_in(5);
        let left_out = |random: &mut Random| deny && random.one_in(4);
        let chain = if left_out(random) { None } else { Some(if random.one_in(12) { 10 } else { 1 }) };
        let here = chain == Some(1);
        let all = [&["any"][..], &["trader"], &["ann"], &["ben", "cid"]];
        let clients = if left_out(random) { None } else { Some(random.of(&all).to_vec()) };
        let from =
            if left_out(random) { None } else { Some(random.of(&[&[0][..], &[1], &[0, 1], &[9]]).to_vec()) };
        let what = match random.below(7) {
            0 => About::Text(match random.below(4) {
                0 => Text::Any,
                2 => Text::Prefix("health check"),
                1 => Text::Equals("health"),
                _ => Text::Equals("health check of just 32 bytes..."),
            }),
            1 => About::SignIn {
                domain: (!left_out(random)).then_some(*random.of(&["app.example.com", "other.org"])),
                chain: (!left_out(random)).then_some(1),
                hour: random.one_in(2),
            },
            2 => {
                let list = if here {
                    &[&["alice"][..], &["bob", "none"], &["any"]]
                } else {
                    &[&["none"][..], &["any"], &["none", "any"]]
                };
                About::Authorization((!left_out(random)).then_some(random.of(list).to_vec()))
            }
            _ => {
                let labels = if here {
                    &[&["any"][..], &["usdc"], &["safe", "none"], &["safe", "bob"], &["none"]][..]
                } else {
                    &[&["any"][..], &["none"]][..]
                };
                let to = (!left_out(random)).then_some(random.of(labels).to_vec());
                let ty = (!left_out(random)).then_some(random.of(TYPES));
                let mut fields = Vec::new();
                if let Some(ty) = ty {
                    if !left_out(random) {
                        fields.push(if here { *random.of(ty.addresses) } else { ty.addresses[0] });
                    }
                    if !random.one_in(3) {
                        fields.push(*random.of(ty.others));
                    }
                }
                About::Typed { to, ty, fields, name: random.one_in(5).then_some("one") }
            }
        };
        Self {
            id: format!("o{}{n}", random.below(10)),
            deny,
            chain,
            clients,
            from,
            hours: random.one_in(8),
            what,
        }
    }

    pub fn write(&self, text: &mut String) {
        let (kind, effect) = (self.what.kind(), if self.deny { "deny" } else { "allow" });
        writeln!(text, "[[rule]]\nid = \"{}\"\neffect = \"{effect}\"\nkind = \"{kind}\"", self.id).unwrap();
        if kind != "message" {
            self.chain.iter().for_each(|chain| writeln!(text, "chain = {chain}").unwrap());
        }
        self.clients.iter().for_each(|list| writeln!(text, "clients = [{}]", quoted(list)).unwrap());
        self.from.iter().for_each(|list| writeln!(text, "from = [{}]", names(Of::All, list)).unwrap());
        if self.hours {
            text.push_str("hours = \"Mon-Fri 08:00-20:00 UTC\"\n");
        }
        match &self.what {
            About::Text(Text::Any) => text.push_str("text = \"any\"\n"),
            About::Text(Text::Prefix(begin)) => writeln!(text, "text = {{ prefix = \"{begin}\" }}").unwrap(),
            About::Text(Text::Equals(whole)) => writeln!(text, "text = {{ equals = \"{whole}\" }}").unwrap(),
            About::SignIn { domain, chain, hour } => {
                let mut parts: Vec<_> =
                    domain.iter().map(|domain| format!("domain = [\"{domain}\"]")).collect();
                parts.extend(chain.map(|chain| format!("chain_id = {chain}")));
                parts.extend(hour.then_some("expires_within = \"1h\"".to_owned()));
                writeln!(text, "siwe = {{ {} }}", parts.join(", ")).unwrap();
            }
            About::Typed { to, ty, fields, name } => {
                to.iter().for_each(|list| writeln!(text, "to = [{}]", quoted(list)).unwrap());
                ty.iter().for_each(|ty| writeln!(text, "primary_type = \"{}\"", ty.written).unwrap());
                if !fields.is_empty() {
                    let fields: Vec<_> = fields.iter().map(|(text, _)| *text).collect();
                    writeln!(text, "fields = {{ {} }}", fields.join(", ")).unwrap();
                }
                name.iter().for_each(|name| writeln!(text, "domain = {{ name = \"{name}\" }}").unwrap());
            }
            About::Authorization(list) => {
                list.iter().for_each(|list| writeln!(text, "delegates = [{}]", quoted(list)).unwrap());
            }
        }
    }

    /// Whether it matches. A deny rule matches what it cannot read.
    pub fn matches(&self, asked: &Asked) -> bool {
        let unclear = self.deny;
        if !is_for(self.clients.as_deref(), self.from.as_deref(), asked)
            || (self.hours && !is_in_hours(asked))
        {
            return false;
        }
        let is_on =
            |chain: Option<u64>| self.chain.is_none_or(|is| chain.map_or(unclear, |chain| chain == is));
        match (&self.what, &asked.what) {
            (About::Text(test), What::Message(said)) => match test {
                Text::Equals(whole) => said.bytes == whole.as_bytes(),
                Text::Prefix(begin) if !said.bytes.starts_with(begin.as_bytes()) => false,
                // What nobody could have read, and what can be the hash of something else.
                _ if std::str::from_utf8(&said.bytes).is_err() || said.bytes.len() == 32 => unclear,
                _ => true,
            },
            (About::SignIn { domain, chain, hour }, What::Message(said)) => {
                let Some(said) = &said.sign_in else { return false };
                let plain = said.domain.to_lowercase();
                let looks_like = domain.is_some_and(|domain| domain == plain.trim_end_matches(":443"));
                if said.malformed || said.account != asked.account {
                    return unclear;
                }
                if domain.is_some_and(|domain| domain != said.domain) {
                    return looks_like && unclear;
                }
                let in_time = said.expires.is_some_and(|at| at > asked.now && at <= asked.now + 3600);
                chain.is_none_or(|chain| chain == said.chain) && (!hour || in_time)
            }
            (About::Typed { to, ty, fields, name }, What::Typed(typed)) => {
                let is_to = |list: &Vec<&str>| match typed.to {
                    None => list.contains(&"none") || (self.deny && list.contains(&"any")),
                    Some(to) => list.contains(&"any") || label(to).is_some_and(|label| list.contains(&label)),
                };
                if !is_on(typed.chain) || !to.as_ref().is_none_or(is_to) {
                    return false;
                }
                if name.is_some_and(|name| name != typed.name) {
                    return false;
                }
                let Some(ty) = ty else { return true };
                if ty.encoded != typed.ty.encoded {
                    return unclear && name_of(ty.encoded) == name_of(typed.ty.encoded);
                }
                let eyes = Eyes {
                    account: asked.account,
                    sender: asked.account,
                    client: asked.client,
                    now: asked.now,
                    deny: self.deny,
                };
                fields.iter().all(|(_, test)| test(&typed.values, &eyes))
            }
            (About::Authorization(list), What::Authorization(delegate)) => {
                is_on(Some(1)) && list.as_ref().is_none_or(|list| delegates(list, *delegate))
            }
            _ => false,
        }
    }
}

impl About {
    const fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) | Self::SignIn { .. } => "message",
            Self::Typed { .. } => "typed_data",
            Self::Authorization(_) => "authorization",
        }
    }
}

/// Whether the code of this contract is named.
pub fn delegates(list: &[&str], delegate: Address) -> bool {
    list.contains(&"any")
        || (delegate.is_zero() && list.contains(&"none"))
        || label(delegate).is_some_and(|label| list.contains(&label))
}

/// Whether a rule is for who asks, with one of our accounts.
pub fn is_for(clients: Option<&[&str]>, from: Option<&[usize]>, asked: &Asked) -> bool {
    let role = CLIENTS.iter().find(|(name, ..)| *name == asked.client).and_then(|(_, role, _)| *role);
    let is_named = |name: &&str| *name == "any" || *name == asked.client || Some(*name) == role;
    let is_from = |at: &usize| ACCOUNTS.get(*at).is_none_or(|(_, account)| *account == asked.account);
    clients.is_none_or(|names| names.iter().any(is_named)) && from.is_none_or(|list| list.iter().any(is_from))
}

/// Of the times that are asked, all but the Saturday and the minute before eight.
pub const fn is_in_hours(asked: &Asked) -> bool {
    matches!(asked.now, 1_769_688_000 | 1_770_019_200)
}
