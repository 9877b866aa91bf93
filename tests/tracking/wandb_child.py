"""Tells a WandbTracker of trial 4, in a process of its own, as W&B's client keeps what it learnt of a server.

python wandb_child.py FOLDER FIRST LAST [--ends] [--stop-at EPOCH]

Epochs FIRST to LAST are measured: written to metrics.jsonl, then told. With --stop-at it prints `epoch N` after that
one and goes on when a line comes in. Prints how long the training was kept waiting, and how long the end took.
"""

from __future__ import annotations

import json
import sys
import time
from argparse import ArgumentParser
from pathlib import Path

from conftest import Events

from mtlsearch.config import WandbConfig
from mtlsearch.folder import ExperimentFolder
from mtlsearch.records import CONTINUE
from mtlsearch.space import flatten
from mtlsearch.tracking.wandb import WandbTracker
from mtlsearch.tracking.wandb.session import Mirrored


def main() -> None:
    parser = ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("first", type=int)
    parser.add_argument("last", type=int)
    parser.add_argument("--ends", action="store_true")
    parser.add_argument("--stop-at", type=int)
    given = parser.parse_args()
    events, order = Events(), Events().order(4)
    trial = ExperimentFolder(given.folder).trial(4)
    trial.begin(order)
    start, waited = time.monotonic(), 0.0
    tracker = WandbTracker(Mirrored(WandbConfig(project="p"), given.folder, "flights", "abc12345"))
    tracker.trial_started(order, dict(flatten(order.config)))
    for epoch in range(given.first, given.last + 1):
        metrics = events.epoch(epoch, epoch / 8)
        trial.append(metrics)
        tracker.epoch_finished(order, metrics, CONTINUE)
        if epoch == given.stop_at:
            stopped = time.monotonic()
            print("epoch", epoch, flush=True)
            sys.stdin.readline()
            waited = time.monotonic() - stopped
    if given.ends:
        record = events.record(4, "COMPLETE", given.last / 8, "trained all")
        tracker.trial_finished(order, record, events.state())
    told = time.monotonic()
    tracker.search_finished(events.state())
    print(json.dumps({"telling": told - start - waited, "ending": time.monotonic() - told}))


if __name__ == "__main__":
    main()
