"""A training step on a machine that others use too: `python -m benchmarks.threads`.

Torch's own threads, the kit's (`fap_lib.core.threads`) and a single one take turns, each in a process of its
own, first as the machine is, then beside as many busy processes as it has cores. Ways with as many threads
must learn the same prompts, bit for bit. Prints a table in Markdown, for `benchmarks/README.md`.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WAYS: dict[str, tuple[str, dict[str, str]]] = {
    "torch's own": ("import torch, fap_lib", {}),
    "the kit's": ("import fap_lib, torch", {}),
    "one thread": ("import fap_lib, torch", {"OMP_NUM_THREADS": "1"}),
}
"""What a process imports, in which order, and what is set for it. The kit must come before torch."""

TURNS, STEPS = 3, 20
PATIENCE = 120
"""Seconds for the load average to show that the machine is busy."""


def main() -> None:
    """Measure all ways, idle and busy, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.threads", description=__doc__.split("\n")[0])
    parser.parse_args()
    print("| beside | load | threads | a step | processor time |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for others in (0, os.cpu_count() or 1):
            with busy(others):
                for row in rows(Path(folder), others):
                    print(row, flush=True)


def rows(folder: Path, others: int) -> Iterator[str]:
    """A line of the table for each way, from turns that alternate."""
    taken: dict[str, list[dict[str, Any]]] = {name: [] for name in WAYS}
    load = os.getloadavg()[0]
    for _ in range(TURNS):
        for name, turns in taken.items():
            turns.append(turn(name, folder))
    learned = {(each["threads"], each["learned"]) for turns in taken.values() for each in turns}
    if len(learned) > len({threads for threads, _ in learned}):
        raise AssertionError(f"the same number of threads learned other prompts: {learned}")
    for name, turns in taken.items():
        wall, spent = (statistics.median(each[what] for each in turns) for what in ("wall", "spent"))
        counts = ", ".join(str(count) for count in sorted({each["threads"] for each in turns}))
        yield f"| {others} busy processes | {load:.1f} | {name} ({counts}) | {wall:.0f} ms | {spent:.0f} ms |"


def turn(name: str, folder: Path) -> dict[str, Any]:
    """One way's steps in a process of its own."""
    imports, settings = WAYS[name]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OMP_")}
    code = f"{imports}\nfrom benchmarks import threads\nthreads.steps({str(folder)!r})"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment | settings, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def steps(folder: str) -> None:
    """Train on a few images; print the median step, its processor time, and what was learned."""
    import hashlib

    import numpy as np
    import torch

    from benchmarks.rows import Subject
    from fap_lib.data.features import features
    from fap_lib.training import make_optimiser, step

    os.environ["FAP_HOME"] = folder
    subject = Subject("mini", Path(folder))
    data = features(subject.dataset(4), "test", subject.backbone, subject.features)
    optimiser = make_optimiser(subject.model, subject.profile.training)
    wall, spent = [], []
    for _ in range(STEPS):
        before = time.perf_counter(), time.process_time()
        step(subject.model, optimiser, data, np.arange(8), subject.profile.training)
        wall.append(1000 * (time.perf_counter() - before[0]))
        spent.append(1000 * (time.process_time() - before[1]))
    values = b"".join(value.detach().numpy().tobytes() for value in subject.model.state_dict().values())
    found = {"wall": statistics.median(wall), "spent": statistics.median(spent)}
    print(
        json.dumps(
            {**found, "threads": torch.get_num_threads(), "learned": hashlib.sha256(values).hexdigest()}
        )
    )


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Beside `count` processes that do nothing but work, once the load average shows them."""
    others = [multiprocessing.Process(target=_work, args=(os.getpid(),), daemon=True) for _ in range(count)]
    for each in others:
        each.start()
    try:
        end = time.monotonic() + PATIENCE
        while os.getloadavg()[0] < count - 0.5 and time.monotonic() < end:
            time.sleep(1)
        yield
    finally:
        for each in others:
            each.kill()


def _work(parent: int) -> None:
    while os.getppid() == parent:  # one that was killed takes this with it
        pass


if __name__ == "__main__":
    main()
