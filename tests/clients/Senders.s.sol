// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.20;

import {Till} from "../src/Till.sol";

interface Vm {
    function startBroadcast(address sender) external;
    function stopBroadcast() external;
}

/// Four transactions of two senders, in turn.
contract Senders {
    Vm private constant VM = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    function run(address one, address other) external {
        VM.startBroadcast(one);
        Till till = new Till();
        VM.stopBroadcast();
        VM.startBroadcast(other);
        till.count();
        VM.stopBroadcast();
        VM.startBroadcast(one);
        till.count();
        VM.stopBroadcast();
        VM.startBroadcast(other);
        till.count();
        VM.stopBroadcast();
        require(till.payments() == 3, "not counted");
    }
}
