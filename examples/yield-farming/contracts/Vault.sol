// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.24;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC4626, IERC20} from "@openzeppelin/contracts/token/ERC20/extensions/ERC4626.sol";

/// A vault whose shares are worth more with every token that somebody gives it.
contract Vault is ERC4626 {
    constructor(IERC20 asset_) ERC20("Vault of USDC", "vUSDC") ERC4626(asset_) {}
}
