"""Whole commands killed again and again on their way: they come to their end, with the same results."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fap_lib.core.files import sha256
from tests.campaign.kills import left_over
from tests.campaign.log import Log
from tests.campaign.world import World

MARK = "FAP_CAMPAIGN"
"""Environment variable by which the processes of a command are found, whatever their session."""

KERNEL = "ipykernel_launcher"
"""A word in the command line of a notebook's kernel."""

HOURS = 3600
"""Seconds that a whole command may take; a nice one on a busy machine may need many minutes."""


@dataclass(frozen=True)
class Whole:
    """A command. words: after `fap`. results: what it makes in the home that is compared. victims: what is
    killed in turn: the main process alone, a kernel alone, or everything."""

    words: list[str]
    results: list[str]
    victims: tuple[str, ...]


def commands(world: World) -> dict[str, Whole]:
    """The commands that are killed.

    Snakemake goes on where `fap paper` alone is killed, and holds the grid's lock (docs/robustness.md).
    """
    grid = world.home.parent / "toy.yaml"
    grid.write_text(
        "profile: tiny\ndatasets: {toy-aux: [own]}\nseeds: [1]\nbaselines: [clip]\n", encoding="utf-8"
    )
    run, paper, demo = "runs/toy-aux-to-own-tiny-paper-seed111", "runs/grid-toy", "runs/demo"
    data = ["--data", str(world.home / "data"), "--train", "toy-aux", "--test", "own", "--profile", "tiny"]
    return {
        "reproduce": Whole(
            ["reproduce", *data],
            [f"{run}/training/prompts.safetensors", f"{run}/metrics.csv"],
            ("main", "kernel", "all"),
        ),
        "paper": Whole(
            ["paper", str(grid), "--cores", "1"],
            [f"{paper}/training/toy-aux/faprompt-paper/seed-1/prompts.safetensors"],
            ("all", "kernel"),
        ),
        "demo": Whole(
            ["demo"],
            [f"{demo}/training/prompts.safetensors", f"{demo}/metrics.csv"],
            ("main", "kernel", "all"),
        ),
    }


def whole(world: World, name: str, count: int, log: Log) -> None:
    """Kill a command `count` times on one way, starting it again each time, and let it end at last."""
    kind, end = f"killed: fap {name}", f"completed: fap {name}"
    missing, one = log.missing(kind, count), commands(world)[name]
    if not count or not (missing or log.missing(end, 1)):
        return
    world.restore()
    code, lasts, said = _finish(one)
    if code:
        log.note(end, 0, "undisturbed", f"ended with {code}: {said}")
        return
    expected = _digests(world, one)
    world.restore()
    main = _start(one)
    for number in missing:
        if main.poll() is not None:
            if _digests(world, one) == expected:  # it came to its end between two kills
                world.restore()
            main = _start(one)
        chance = log.chance(kind, number)
        moment, victim = chance.uniform(0, lasts / 3), one.victims[number % len(one.victims)]
        time.sleep(moment)
        log.note(kind, number, f"{victim} after {moment:.0f} of {lasts:.0f} s", _kill(main, victim))
    main.wait(HOURS)
    code, _, said = _finish(one)
    wrong = f"ended with {code}: {said}" if code else None
    if wrong is None and _digests(world, one) != expected:
        wrong = "ended with other results"
    log.note(end, 0, f"after {count} kills", wrong)


def _kill(main: subprocess.Popen, victim: str) -> str | None:
    """Kill a part of a command; what was wrong afterwards. A kernel that dies is started once more."""
    if victim == "kernel":
        _send(_processes(KERNEL))
        return None
    if main.poll() not in (None, 0, 1, 2):
        return f"ended with {main.returncode} before"
    _send([main.pid] if victim == "main" else _processes())
    main.wait()
    return left_over(_processes)


def _send(targets: list[int]) -> None:
    for process in targets:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def _start(one: Whole, errors: int = subprocess.DEVNULL) -> subprocess.Popen:
    environment = {**os.environ, MARK: str(os.getpid()), "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [sys.executable, "-m", "fap_lib.cli", *one.words],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        text=True,
    )


def _finish(one: Whole) -> tuple[int | None, float, str]:
    """Run a command to its end: exit status, seconds, its last words."""
    begun = time.monotonic()
    main = _start(one, subprocess.PIPE)
    try:
        _, said = main.communicate(timeout=HOURS)
    except subprocess.TimeoutExpired:
        left_over(_processes)
        return None, HOURS, "it did not end"
    return main.returncode, time.monotonic() - begun, " ".join(said.split())[-300:]


def _digests(world: World, one: Whole) -> list[str]:
    return [sha256(path) if (path := world.home / name).is_file() else "" for name in one.results]


def _processes(words: str = "") -> list[int]:
    """The processes of this campaign's command that still run, those with `words` in their command line."""
    mark, found = f"{MARK}={os.getpid()}".encode(), []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            ours = mark in (place / "environ").read_bytes().split(b"\0")
            if ours and words.encode() in (place / "cmdline").read_bytes():
                found.append(int(place.name))
        except OSError:  # it ended meanwhile
            continue
    return found
