"""How many threads a process of the kit computes with: settled before torch is imported, which reads it once.

OpenMP's threads spin while they wait for each other. Where other programs want the same cores, most of a step
is then spent spinning; put to sleep, they cost a little on an idle machine and nothing on a busy one.
"""

import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path


def settle() -> None:
    """Set `OMP_WAIT_POLICY` and `OMP_NUM_THREADS` for this process and for those it starts.

    What the user set stays. Once torch is imported it is too late, and nothing is changed. Results differ in
    their last digits between numbers of threads, and a training carries that on; so the number follows from
    what this process may use and not from how busy the machine is: the same command gives the same figures.
    """
    if "torch" not in sys.modules:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, math.floor(cores()))))


def cores(groups: Path = Path("/sys/fs/cgroup")) -> float:
    """Cores this process may use: those it may run on, or its control group's share where that is less."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux has it
    allowed = len(affinity(0)) if affinity else os.cpu_count() or 1
    return min([allowed, *_shares(groups)])


def _shares(groups: Path) -> Iterator[float]:
    """What control groups allow, in cores: version 2 has one file with both numbers, version 1 two files."""
    for path in (groups / "cpu.max", groups / "cpu" / "cpu.cfs_quota_us"):
        try:
            quota, *rest = path.read_text().split()
            period = rest[0] if rest else path.with_name("cpu.cfs_period_us").read_text()
        except OSError:
            continue
        if quota not in ("max", "-1"):
            yield int(quota) / int(period)
