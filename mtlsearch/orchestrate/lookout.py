"""The driver's thread that looks after what runs: ends what hangs, passes on who is to leave, writes status.json."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from typing import Any, Protocol

import ray
from ray.exceptions import RayError

from mtlsearch.folder import ExperimentFolder
from mtlsearch.folder.files import write_whole
from mtlsearch.orchestrate.hub import Heard, Pulse, draining_nodes, kill_process

LOOK_SECONDS = 2.0
FORGET_SECONDS = 30.0
"""How much longer than the timeout a silent process is remembered."""

STOPPED = "the search is being stopped"


class Runs(Protocol):
    """What the bridge knows."""

    def generations(self) -> dict[int, int]:
        """Trial → generation, of the trials that run."""

    def hangs(self, generation: int, reason: str) -> None:
        """The processes of this start were ended."""

    def stop(self) -> None:
        """Start nothing more; end when nothing runs."""


class Lookout:
    """Use as a context; the thread ends with it."""

    def __init__(self, hub: Any, folder: ExperimentFolder, runs: Runs, timeout: float) -> None:
        self._hub, self._folder, self._runs, self._timeout = hub, folder, runs, timeout
        self._hub_start = ""
        self._heard: dict[tuple[str, int], tuple[float, Pulse]] = {}  # by host and pid: when, and what
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look_on, name="lookout", daemon=True)

    def __enter__(self) -> Lookout:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(timeout=LOOK_SECONDS)
        self._folder.status.unlink(missing_ok=True)

    def _look_on(self) -> None:
        while not self._end.wait(LOOK_SECONDS):
            try:
                self._look()
            except (RayError, OSError) as error:  # the cluster or the disk is in trouble: the search will meet that
                sys.stderr.write(f"mtlsearch: could not look after the trials: {error}\n")

    def _look(self) -> None:
        stopping = self._folder.stop.exists()
        if stopping:
            self._runs.stop()
        leaving = dict.fromkeys(draining_nodes(), "its node is about to go")
        ray.get(self._hub.wish.remote(leaving, STOPPED if stopping else None), timeout=self._timeout)
        heard = self._listen()
        alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
        for each in heard:
            if each["pulse"]["node"] in alive:  # of those whose node is gone, Ray tells
                self._end_hanging(each)
        running = set(self._runs.generations().values())
        self._write([each for each in heard if each["pulse"]["generation"] in running], leaving, stopping)

    def _listen(self) -> list[Heard]:
        """The last pulse of every process. What a hub has heard that was killed since is known here: a process that
        hangs tells nothing to the new one. The others get time to find it."""
        forget_after = self._timeout + FORGET_SECONDS
        start, heard = ray.get(self._hub.heard.remote(forget_after), timeout=self._timeout)
        now = time.monotonic()
        if start != self._hub_start:
            self._hub_start = start
            self._heard = {who: (now, pulse) for who, (_, pulse) in self._heard.items()}
        for each in heard:
            who = each["pulse"]["host"], each["pulse"]["pid"]
            self._heard[who] = now - each["seconds"], each["pulse"]
        self._heard = {who: last for who, last in self._heard.items() if now - last[0] < forget_after}
        return [{"pulse": pulse, "seconds": now - when} for when, pulse in self._heard.values()]

    def _end_hanging(self, heard: Heard) -> None:
        """Also a process between two trials, or one that scores test: the next that it is asked would wait for ever."""
        pulse, silent = heard["pulse"], heard["seconds"]
        if silent <= self._timeout and pulse["idle"] <= 1.2 * self._timeout:  # collectives have the timeout first
            return
        how = f"was silent for {silent:.0f} s" if silent > self._timeout else f"did nothing for {pulse['idle']:.0f} s"
        reason = f"rank {pulse['rank']} on {pulse['host']} (process {pulse['pid']}) {how}"
        self._runs.hangs(pulse["generation"], reason)
        try:
            kill_process(pulse["node"], pulse["pid"])
        except RayError as error:  # the node is gone: Ray's health check tells of that
            if pulse["generation"] in self._runs.generations().values():  # else it had ended long ago
                sys.stderr.write(f"mtlsearch: {reason}, and could not be ended: {error}\n")
            return
        self._heard.pop((pulse["host"], pulse["pid"]), None)
        ray.get(self._hub.forget.remote(pulse["host"], pulse["pid"]), timeout=self._timeout)

    def _write(self, heard: list[Heard], leaving: dict[str, str], stopping: bool) -> None:
        nodes = [
            {
                "node": node["NodeID"],
                "host": node["NodeManagerHostname"],
                "cpus": node["Resources"].get("CPU", 0.0),
                "gpus": node["Resources"].get("GPU", 0.0),
                "leaving": node["NodeID"] in leaving,
            }
            for node in ray.nodes()
            if node["Alive"]
        ]
        status = {
            "time": time.time(),
            "driver": {"host": socket.gethostname(), "pid": os.getpid()},
            "stopping": stopping,
            "nodes": nodes,
            "ranks": [each["pulse"] | {"seconds": each["seconds"]} for each in heard],
        }
        write_whole(self._folder.status, json.dumps(status, indent=1))
