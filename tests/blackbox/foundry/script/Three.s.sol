// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.20;

import {Till} from "../src/Till.sol";

interface Vm {
    function startBroadcast() external;
    function stopBroadcast() external;
}

/// Three transactions that build on each other: a contract, a call to it, and a payment to it.
contract Three {
    Vm private constant VM = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    function run() external {
        VM.startBroadcast();
        Till till = new Till();
        till.count();
        (bool paid,) = address(till).call{value: 1}("");
        require(paid, "not paid");
        VM.stopBroadcast();
    }
}
