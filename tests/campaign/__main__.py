"""The campaign: `python -m tests.campaign --flips 80 --kills 33 --whole 2` (about half an hour on two cores).

Prints one table: how many cases of each kind were tried, how many held, which fell. A case holds where damage
is noticed (one sentence) or without effect, and where what was killed or refused can be done again with the
same bits.
"""

import argparse
import platform
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.campaign import flips, kills, places
from tests.campaign.world import World


def main(arguments: list[str] | None = None) -> int:
    """Run the campaign; 0 if every case held."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__.splitlines()[0])
    parser.add_argument("--flips", type=int, default=80, help="of each of 13 kinds of file")
    parser.add_argument("--kills", type=int, default=33, help="of each of 6 steps")
    parser.add_argument("--whole", type=int, default=2, help="kills of whole runs, which take a minute each")
    parser.add_argument(
        "--places", action="store_true", help="also full disks and an odd place (root, a copy)"
    )
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(arguments)
    chance = random.Random(chosen.seed)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fap-campaign-") as base:
        world = World.make(Path(base))
        told = flips.flip(world, chosen.flips, chance)
        told += kills.kill(world, chosen.kills, chance) + kills.twice(world)
        if chosen.whole:
            told += kills.whole(world, chosen.whole, chance)
        if chosen.places:
            told += places.disks(world) + places.elsewhere(world)
    run = [case for case in told if not (case[2] or "").startswith(places.NOT_RUN)]
    tried = Counter(kind for kind, _, _ in run)
    fell = Counter(kind for kind, _, wrong in run if wrong)
    print("| kind | tried | held | fell |\n|---|---|---|---|")
    for kind, count in tried.items():
        print(f"| {kind} | {count} | {count - fell[kind]} | {fell[kind]} |")
    print(f"| **all** | {len(run)} | {len(run) - fell.total()} | {fell.total()} |")
    for kind, done, wrong in told:
        if wrong:
            print(f"{kind}, {done}: {wrong}")
    machine = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    print(f"seed {chosen.seed}, {time.monotonic() - begun:.0f} s, {machine}")
    return 1 if fell else 0


if __name__ == "__main__":
    sys.exit(main())
