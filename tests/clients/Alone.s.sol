// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.20;

interface Vm {
    function startBroadcast() external;
    function stopBroadcast() external;
}

/// One payment, to whom it is told.
contract Alone {
    Vm private constant VM = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    function run(address payable to) external {
        VM.startBroadcast();
        (bool paid,) = to.call{value: 1}("");
        require(paid, "not paid");
        VM.stopBroadcast();
    }
}
