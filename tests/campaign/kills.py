"""Steps killed at random moments: the next run ends, and ends with the same bits."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from tests.campaign.log import Log
from tests.campaign.world import MADE, STEPS, World

GONE = 10
"""Seconds within which everything that a killed process had started must be gone."""

TWICE = ("drawing", "preparing", "caching")
"""Steps that may run twice at the same time."""


def kill(world: World, count: int, log: Log) -> None:
    """Kill each step `count` times, its main process alone."""
    for name, step in STEPS.items():
        kind = f"killed: {name}"
        if not (missing := log.missing(kind, count)):
            continue
        world.restore(MADE[name])
        begun = time.monotonic()
        world.run(step)
        lasts = time.monotonic() - begun
        for number in missing:
            world.restore(MADE[name])
            moment = log.chance(kind, number).uniform(0, lasts)
            child = world.start(step)
            time.sleep(moment)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            wrong = left_over(lambda child=child: session(child)) or again(world, name)
            log.note(kind, number, f"after {moment:.2f} of {lasts:.2f} s", wrong)


def again(world: World, name: str) -> str | None:
    """What was wrong with a step that ran again."""
    code = world.run(STEPS[name])
    if code:
        return f"the next run ended with {code}"
    return None if world.is_as_it_was(MADE[name]) else "the next run made something else"


def twice(world: World, count: int, log: Log) -> None:
    """Run steps twice at the same time, the second a moment after the first."""
    for name in TWICE:
        kind = f"two at once: {name}"
        for number in log.missing(kind, count):
            world.restore(MADE[name])
            moment = log.chance(kind, number).uniform(0, 0.3)
            one = world.start(STEPS[name])
            time.sleep(moment)
            other = world.start(STEPS[name])
            codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in (one, other)]
            fine = codes == [0, 0] and world.is_as_it_was(MADE[name])
            log.note(kind, number, f"{moment:.2f} s apart", None if fine else f"ended with {codes}")


def left_over(find: Callable[[], list[int]]) -> str | None:
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
        except OSError:  # it ended meanwhile
            continue
        if int(of) == leader and state != "Z":
            found.append(int(path.parent.name))
    return found
