#!/usr/bin/env bash
# One would guess that a data set of arithmetic scores a wrong number 0, and no wrong number above the right one in another form.
#
# What happens in reasoning-gym: the scorer that gcd, lcm, basic_arithmetic, leg_counting and others inherit gives a reply that is not
# the gold answer, but holds its characters anywhere, the share of the reply that they take. With the gold answer 4, "14" and "-4" score
# 1/2, and "4.0" scores 1/3. As a reward of reinforcement learning it pays for digits alone, and groups without a right
# answer still have an advantage; a full score of 1 is the only one that means right.
# chain_sum and products read numbers ("4.0" is right there), and then fall back to the same share for wrong ones.
# Seen with reasoning-gym 0.1.25 (reasoning_gym/dataset.py, ProceduralDataset.score_answer; utils.py, compute_decimal_reward).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "reasoning-gym==0.1.25"
"$folder/venv/bin/python" -W ignore - <<'PY'
import sys
from importlib.metadata import version

import reasoning_gym

print("reasoning-gym", version("reasoning-gym"))
as_described = True
for name, settings, right in (("gcd", {}, 1 / 3), ("chain_sum", {"max_terms": 3, "min_digits": 1, "max_digits": 1}, 1.0)):
    data = reasoning_gym.create_dataset(name, size=200, seed=0, **settings)
    item = next(item for item in data if item["answer"] == "4")
    scores = {reply: data.score_answer(reply, item) for reply in ("4", "14", "-4", "4.0", "5")}
    print(f"{name}, gold answer 4:", ", ".join(f'"{reply}" {score:.2f}' for reply, score in scores.items()))
    expected = {"4": 1.0, "14": 0.5, "-4": 0.5, "4.0": right, "5": 0.0}
    as_described &= all(abs(scores[reply] - score) < 1e-9 for reply, score in expected.items())
print("as described" if as_described else "changed")
sys.exit(0 if as_described else 1)
PY
