// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.20;

/// Takes money and counts how often.
contract Till {
    uint256 public payments;

    receive() external payable {
        payments += 1;
    }

    function count() external {
        payments += 1;
    }
}
