//! `eth_chainId`, `net_version`, `web3_clientVersion`: what the configuration pins, without asking the node.

use alloy_primitives::U64;

use crate::methods::App;

pub(super) fn chain_id(app: &App) -> U64 {
    U64::from(app.chain_id)
}

/// The same number in decimal; networks whose two numbers differ are long gone.
pub(super) fn net_version(app: &App) -> String {
    app.chain_id.to_string()
}

pub(super) fn client_version() -> String {
    format!("Chancery/v{}", env!("CARGO_PKG_VERSION"))
}
