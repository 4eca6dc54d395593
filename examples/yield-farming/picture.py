"""Draws what `watch.py` has written down.

    picture.py history.jsonl picture.png
"""

import json
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

PLACES = ["USDC", "USDT", "Aave", "vault", "reserve"]

with open(sys.argv[1], encoding="utf-8") as file:
    lines = [json.loads(line) for line in file]
samples = [line for line in lines if "budgets" in line]
phases = [line for line in lines if "phase" in line]
start = samples[0]["time"]
times = [sample["time"] - start for sample in samples]
total = [sum(sample[place] for place in PLACES) for sample in samples]

figure, (money, gain, budget) = plt.subplots(3, 1, figsize=(11, 9), sharex=True, height_ratios=[3, 2, 2], layout="constrained")
money.stackplot(times, *([sample[place] / 1000 for sample in samples] for place in PLACES), labels=PLACES, step="post")
money.set_ylabel("the treasury's money,\nin thousands")
money.legend(loc="center left", bbox_to_anchor=(1, 0.5))
gain.step(times, [worth - total[0] for worth in total], where="post", color="tab:green")
gain.set_ylabel("gained, in USDC")
for name in samples[-1]["budgets"]:
    budget.step(times, [100 * sample["budgets"].get(name, 0) for sample in samples], where="post", label=name)
budget.axhline(100, color="tab:red", linewidth=1, linestyle="dashed")
budget.set_ylabel("budgets used, in %")
budget.set_xlabel("seconds")
budget.legend(loc="center left", bbox_to_anchor=(1, 0.5))
ends = [phase["time"] - start for phase in phases[1:]] + [times[-1]]
for axes in (money, gain, budget):
    axes.grid(alpha=0.3)
    for phase, end in zip(phases, ends):
        axes.axvline(phase["time"] - start, color="grey", linewidth=0.8, linestyle="dotted")
        if phase["attack"] and axes is not money:
            axes.axvspan(phase["time"] - start, end, color="tab:red", alpha=0.12)
for phase in phases:
    money.text(phase["time"] - start, 1.01, phase["phase"].split(":")[0], transform=money.get_xaxis_transform(), rotation=25, fontsize=8)
figure.savefig(sys.argv[2], dpi=110)
