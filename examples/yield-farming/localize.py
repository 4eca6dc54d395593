"""Derives the policy of this example from `policies/yield-farming`: the same rules, with this chain and these addresses.

    localize.py policies/yield-farming deployment.json FOLDER
"""

import json
import re
import sys
from pathlib import Path

CHAIN = 31337
ABSENT = ["compound.toml", "comet_usdc", "comet_rewards"]  # Compound is not deployed here

source, deployment, target = map(Path, sys.argv[1:])
deployed = json.loads(deployment.read_text())
deployed = {name: contract["address"] for name, contract in deployed.items()}
mainnet_usdc = re.search(r'^usdc .*address = "(0x\w+)"', (source / "contracts.toml").read_text(), re.M)[1]

for file in source.glob("*.toml"):
    if file.name in ABSENT:
        continue
    text = re.sub(r"^(chain +=) 1$", rf"\1 {CHAIN}", file.read_text(), flags=re.M)
    if file.name == "contracts.toml":
        lines = [line for line in text.splitlines() if line.split(" ")[0] not in ABSENT]
        for number, line in enumerate(lines):
            label = re.match(r"(\w+) += \{ chain = 1, address = ", line)
            if label:
                line = re.sub(r'chain = 1, address = "0x\w+"', f'chain = {CHAIN}, address = "{deployed[label[1]]}"', line)
                lines[number] = line.replace(mainnet_usdc, deployed["usdc"])
        text = "\n".join(lines) + "\n"
    (target / file.name).write_text(text)
