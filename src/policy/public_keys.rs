//! Addresses whose keys everybody has: the accounts that Anvil and Hardhat come with. What is paid to them is gone.

use alloy_primitives::{Address, address};

use crate::policy::argument::{ArgumentTest, Operand};
use crate::policy::condition::Condition;
use crate::policy::rule::Rule;

/// Of the mnemonic `test test test test test test test test test test test junk`, in its order.
const ACCOUNTS: [Address; 20] = [
    address!("0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"),
    address!("0x70997970C51812dc3A010C7d01b50e0d17dc79C8"),
    address!("0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"),
    address!("0x90F79bf6EB2c4f870365E785982E1f101E93b906"),
    address!("0x15d34AAf54267DB7D7c367839AAf71A00a2C6A65"),
    address!("0x9965507D1a55bcC2695C58ba16FB37d819B0A4dc"),
    address!("0x976EA74026E726554dB657fA54763abd0C3a0aa9"),
    address!("0x14dC79964da2C08b23698B3D3cc7Ca32193d9955"),
    address!("0x23618e81E3f5cdF7f54C3d65f7FBc0aBf5B21E8f"),
    address!("0xa0Ee7A142d267C1f36714E4a8F75612F20a79720"),
    address!("0xBcd4042DE499D14e55001CcbB24a551F3b954096"),
    address!("0x71bE63f3384f5fb98995898A86B02Fb2426c5788"),
    address!("0xFABB0ac9d68B0B445fB7357272Ff202C5651694a"),
    address!("0x1CBd3b2770909D4e10f157cABC84C7264073C9Ec"),
    address!("0xdF3e18d64BC6A983f673Ab319CCaE4f1a57C7097"),
    address!("0xcd3B766CCDd6AE721141F452C550Ca635964ce71"),
    address!("0x2546BcD3c84621e976D8185a91A922aE77ECEc30"),
    address!("0xbDA5747bFD65F08deb54cb465eB87D40e51B197E"),
    address!("0xdD2FD4581271e230360230F9337D5c0430Bf44C0"),
    address!("0x8626f6940E2eb28930eFb4CeF49B2d1F2C9C1199"),
];

/// The chains of those nodes, where such an account is what it should be.
const DEVELOPMENT: [u64; 2] = [31_337, 1337];

/// Those that a rule lets something be done with.
pub(in crate::policy) fn named(rule: &Rule) -> Vec<String> {
    if rule.chain().is_none_or(|chain| DEVELOPMENT.contains(&chain)) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for condition in &rule.conditions {
        match condition {
            Condition::To(to) => found.extend(to.addresses.iter().filter_map(place)),
            Condition::Argument { test: ArgumentTest::OneOf(operands, _), .. }
            | Condition::Field { test: ArgumentTest::OneOf(operands, _), .. } => {
                found.extend(operands.iter().filter_map(|operand| match operand {
                    Operand::Value(value) => place(&value.as_address()?),
                    _ => None,
                }));
            }
            _ => {}
        }
    }
    found.sort_unstable();
    found.dedup();
    let say = |(at, address): &(usize, Address)| {
        format!("{address} is account {at} of Anvil and Hardhat, whose key everybody has: put yours there")
    };
    found.iter().map(say).collect()
}

fn place(address: &Address) -> Option<(usize, Address)> {
    ACCOUNTS.iter().position(|known| known == address).map(|at| (at, *address))
}

#[cfg(test)]
mod tests {
    use crate::policy::tests::{CONTRACTS, PAY, policy, world};

    fn warned(text: &str) -> Vec<String> {
        let warnings = policy(text).unwrap_or_else(|e| panic!("{e}")).warnings(&world());
        let found = warnings.iter().filter(|warning| warning.what.contains("whose key everybody has"));
        found.map(ToString::to_string).collect()
    }

    #[test]
    fn whoever_pays_an_account_whose_key_everybody_has_is_told() {
        let [alice, bob] = &warned(&format!("{CONTRACTS}{PAY}"))[..] else { panic!("one for each") };
        assert!(alice.starts_with("policies/policy.toml:8: rule `pay`: 0x7099"), "{alice}");
        assert!(alice.contains("account 1 of Anvil") && bob.contains("account 2 of Anvil"), "{alice} {bob}");
        let named = PAY.replace("[\"usdc\"]", "[\"0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266\"]");
        let named = named.replace("call    = \"transfer\"\nargs", "call = \"empty\"\n# args");
        assert!(warned(&format!("{CONTRACTS}{named}"))[0].contains("account 0 of Anvil"));
        // There they are what they should be.
        let text = format!("{CONTRACTS}{PAY}")
            .replace("chain = 1,", "chain = 31337,")
            .replace("chain   = 1", "chain   = 31337");
        assert_eq!(warned(&text), Vec::<String>::new());
        let deny = PAY.replace("\"allow\"", "\"deny\"");
        assert_eq!(warned(&format!("{CONTRACTS}{deny}")), Vec::<String>::new());
    }
}
