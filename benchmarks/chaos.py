"""A search of 40 trials on two nodes of a Ray cluster, while a seeded monkey kills its processes, nodes and drivers.

    python benchmarks/chaos.py --out benchmarks/results/chaos.json

The monkey is the one of tests/chaos; each seed's search is compared with one that nothing disturbed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from commands import circumstances

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests" / "chaos"))

from machines import Machines  # noqa: E402
from monkey import KINDS, Monkey, plan  # noqa: E402
from tiny_search import EPOCHS, TRIALS, found, tally, write_space  # noqa: E402

TIMEOUT = 10.0
SECONDS_TO_CLEAR = 60.0


def main() -> None:
    """Runs it; the file is whole after every seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    record: dict[str, Any] = {
        "command": " ".join(["python", *sys.argv]),
        **circumstances(),
        "parameters": {"trials": TRIALS, "epochs": EPOCHS, "nodes": 2, "slots": 2, "kinds": list(KINDS)},
    }
    with tempfile.TemporaryDirectory(prefix="chaos-out-") as place, Machines.started() as machines:
        space = write_space(Path(place), TIMEOUT)
        monkey = Monkey(machines, space, Path(place) / "undisturbed")
        undisturbed = found(monkey.search([]))
        raw: list[dict[str, Any]] = []
        for seed in options.seeds:
            raw.append({"seed": seed} | disturbed(machines, space, Path(place) / f"seed-{seed}", seed, undisturbed))
            found_so_far = {"undisturbed_s": monkey.chaos.seconds, "raw": raw, "targets": targets(raw)}
            options.out.write_text(json.dumps({"chaos": record | found_so_far}, indent=1) + "\n")


def disturbed(machines: Machines, space: Path, out: Path, seed: int, undisturbed: dict[int, Any]) -> dict[str, Any]:
    """One seed: what was broken, and what the search lost by it."""
    monkey = Monkey(machines, space, out)
    trials = found(monkey.search(plan(seed), seed))
    result, chaos = tally(trials, undisturbed), monkey.chaos
    print(f"seed {seed}: {dict(chaos.faults)} {result} {chaos.seconds:.0f} s", flush=True)
    return {
        "faults": dict(chaos.faults),
        "missed": chaos.missed,
        "checkpoints_cut": chaos.torn,
        "nodes_given_up": chaos.nodes_given_up,
        **result._asdict(),
        "left": cleared(machines),
        "seconds": chaos.seconds,
        "orphans_end_after_s": chaos.seconds_to_end,
    }


def cleared(machines: Machines) -> dict[str, list[str]]:
    """What is left of a search, a while after it."""
    end = time.monotonic() + SECONDS_TO_CLEAR
    while machines.left() and time.monotonic() < end:
        time.sleep(0.1)
    return machines.left()


def targets(raw: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What must be none, over all seeds."""
    names = {
        "lost": "trials lost",
        "doubled": "trials or epochs counted twice",
        "different": "trials with any other value than undisturbed",
    }
    sums = {name: sum(one[key] for one in raw) for key, name in names.items()}
    sums["processes, placement groups, actors and files left"] = sum(
        len(names) for one in raw for names in one["left"].values()
    )
    return [{"name": name, "target": "0", "found": found, "reached": found == 0} for name, found in sums.items()]


if __name__ == "__main__":
    main()
