// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.20;

import {Till} from "../src/Till.sol";

interface Vm {
    function startBroadcast() external;
    function stopBroadcast() external;
}

/// A payment between two other transactions.
contract Middle {
    Vm private constant VM = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    function run(address payable to) external {
        VM.startBroadcast();
        Till till = new Till();
        (bool paid,) = to.call{value: 1}("");
        require(paid, "not paid");
        till.count();
        VM.stopBroadcast();
    }
}
