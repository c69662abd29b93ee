"""The campaign: `python -m tests.campaign`; docs/campaign.md has the last one, and how long it took.

A case holds where damage is noticed (one sentence) or without effect, and where what was killed or refused
can be done again with the same bits. What was tried is written down case by case, so that an interrupted
campaign goes on with the same command; at its end, `--page` writes docs/campaign.md.
"""

import argparse
import datetime
import os
import platform
import sys
import tempfile
from pathlib import Path

from fap_lib import __version__
from fap_lib.core.files import write_text
from fap_lib.core.paths import REPOSITORY
from tests.campaign import flips, fuzz, kills, places, whole
from tests.campaign.log import Log
from tests.campaign.world import World

PAGE = REPOSITORY / "docs" / "campaign.md"


def main(arguments: list[str] | None = None) -> int:
    """Run what is missing of the campaign; 0 if every case held."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__.splitlines()[0])
    parser.add_argument("--flips", type=int, default=50, help="of each kind of file")
    parser.add_argument("--kills", type=int, default=26, help="of each step")
    parser.add_argument("--twice", type=int, default=10, help="pairs of each step that may run twice")
    for name, count in (("reproduce", 15), ("paper", 10), ("demo", 6)):
        parser.add_argument(f"--{name}", type=int, default=count, help=f"kills of `fap {name}`")
    parser.add_argument("--places", action=argparse.BooleanOptionalAction, default=True, help="disks, paths")
    parser.add_argument("--minutes", type=float, default=0, help="of fuzzing, for each of three parsers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--page", action="store_true", help="write docs/campaign.md at the end")
    parser.add_argument("--folder", type=Path, default=REPOSITORY / "build" / "campaign", help="for the log")
    chosen = parser.parse_args(arguments)
    log = Log(chosen.folder / f"seed-{chosen.seed}.jsonl", chosen.seed)
    with tempfile.TemporaryDirectory(prefix="fap-campaign-") as base:
        world = World.make(Path(base))
        log.begin()
        kills.kill(world, chosen.kills, log)
        kills.twice(world, chosen.twice, log)
        flips.flip(world, chosen.flips, log)
        if chosen.places:
            places.disks(world, log)
            places.elsewhere(world, log)
        for name in whole.commands(world):
            whole.whole(world, name, getattr(chosen, name), log)
        fuzz.fuzz(world, chosen.minutes, log)
    print(log.table())
    if chosen.page:
        write_text(PAGE, page(log))
    return int(any(case.wrong for case in log.cases))


def page(log: Log) -> str:
    """The page of a campaign: what, when, on what kind of machine, and what came of it."""
    cores = len(os.sched_getaffinity(0))
    machine = f"{platform.system()} {platform.machine()}, {cores} cores, Python {platform.python_version()}"
    fallen = [f"- {case.kind}, {case.did}: {case.wrong}" for case in log.cases if case.wrong]
    skipped = sorted({f"{case.kind} ({case.did})" for case in log.cases if not case.ran})
    parts = [
        "# The last campaign",
        "Written by `python -m tests.campaign --page`, which makes a small world and then damages, kills and "
        "starves it by chance. [What cannot break it](robustness.md) says what each kind of fault meets. A "
        "case holds where damage is noticed in one sentence or has no effect, and where what was killed or "
        "refused is done by the next run with the same bits. A row that names a file counts flipped bits and "
        "cut ends of it.",
        f"{datetime.date.today().isoformat()}, kit {__version__}, {machine}, seed {log.seed}: "
        f"{log.seconds() / 60:.0f} minutes at niceness {os.nice(0)} and a load of {os.getloadavg()[0]:.0f}.",
        log.table(),
    ]
    if skipped:
        parts.append(f"Not run on this machine: {'; '.join(skipped)}.")
    if fallen:
        parts.append("What fell:\n\n" + "\n".join(fallen))
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.exit(main())
