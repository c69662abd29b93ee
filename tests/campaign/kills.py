"""Processes killed at random moments: the next run ends, and ends with the same bits."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from fap_lib.core.files import sha256
from tests.campaign.world import MADE, PATIENCE, STEPS, World

GONE = 10
"""Seconds within which everything that a killed process had started must be gone."""

MARK = "FAP_CAMPAIGN"
"""Environment variable by which processes of a trial are found, whatever their session."""


def kill(world: World, count: int, chance: random.Random) -> list[tuple[str, str, str | None]]:
    """Kill each step `count` times: (step, when, what was wrong afterwards or None)."""
    told = []
    for name, step in STEPS.items():
        world.restore(MADE[name])
        begun = time.monotonic()
        world.run(step)
        lasts = time.monotonic() - begun
        for _ in range(count):
            world.restore(MADE[name])
            moment = chance.uniform(0, lasts)
            child = world.start(step)
            time.sleep(moment)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            found = left_over(lambda child=child: session(child)) or ended(world, name)
            told.append((name, f"after {moment:.2f} of {lasts:.2f} s", found))
    return told


def ended(world: World, name: str) -> str | None:
    """What was wrong with a step that ran again after a kill."""
    code = world.run(STEPS[name])
    if code:
        return f"the next run ended with {code}"
    return None if world.is_as_it_was(MADE[name]) else "the next run made something else"


def twice(world: World) -> list[tuple[str, str, str | None]]:
    """Each step that may run twice at the same time."""
    told = []
    for name in ("drawing", "preparing", "caching"):
        world.restore(MADE[name])
        one, other = world.start(STEPS[name]), world.start(STEPS[name])
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in (one, other)]
        wrong = None if codes == [0, 0] and world.is_as_it_was(MADE[name]) else f"ended with {codes}"
        told.append(("two at once", name, wrong))
    return told


def whole(world: World, count: int, chance: random.Random) -> list[tuple[str, str, str | None]]:
    """Kill `fap reproduce`, the main process alone, and run it again."""
    world.restore()
    arguments = [
        "--data",
        str(world.home / "data"),
        "--train",
        "toy-aux",
        "--test",
        "own",
        "--profile",
        "tiny",
    ]
    command = [sys.executable, "-m", "fap_lib.cli", "reproduce", *arguments]
    environment = {**os.environ, MARK: str(os.getpid())}
    folder = world.home / "runs" / "toy-aux-to-own-tiny-paper-seed111"

    def run() -> tuple[int, float]:
        begun = time.monotonic()
        done = subprocess.run(command, env=environment, capture_output=True, timeout=20 * PATIENCE)
        return done.returncode, time.monotonic() - begun

    code, lasts = run()
    if code:
        return [("whole runs", "undisturbed", f"ended with {code}")]
    expected = sha256(folder / "training" / "prompts.safetensors")
    told = []
    for _ in range(count):
        world.restore()
        moment = chance.uniform(0, lasts)
        main = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(moment)
        main.kill()
        main.wait()
        wrong = left_over(marked)
        if wrong is None:
            code, _ = run()
            wrong = f"the next run ended with {code}" if code else None
        if wrong is None and sha256(folder / "training" / "prompts.safetensors") != expected:
            wrong = "the next run learned other prompts"
        told.append(("whole runs", f"after {moment:.0f} of {lasts:.0f} s", wrong))
    return told


def left_over(find) -> str | None:
    """What is still there of a killed trial's processes; it is killed then."""
    for _ in range(GONE * 10):
        if not find():
            return None
        time.sleep(0.1)
    left = find()
    for process in left:
        os.kill(process, signal.SIGKILL)
    return f"{len(left)} processes outlived it"


def session(leader: int) -> list[int]:
    """The processes of a session that still run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, of = path.read_text().rsplit(")", 1)[1].split()[:4]
        except OSError:
            continue
        if int(of) == leader and state != "Z":
            found.append(int(path.parent.name))
    return found


def marked() -> list[int]:
    """The processes of this campaign's whole runs."""
    word, found = f"{MARK}={os.getpid()}".encode(), []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if word in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found
