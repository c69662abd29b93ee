"""What the benchmark measures with: time in turns, peak memory, counted work, the ceiling of the machine."""

import ctypes
import gc
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from fap_lib.core.config import Precision

LONG = 150.0
"""Seconds after which one turn has to do: what takes so long is not moved by a busy moment."""

TURNS = 15

VARIES = 1.25
"""A row is repeated once when a way's slowest turn took this many times the processor time of its fastest."""

MOMENT = 0.005
"""Seconds of processor time that are no difference."""

PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16", "float16")

Values = Sequence[Tensor | np.ndarray | float]


@dataclass(frozen=True)
class Way:
    """One way to do a thing.

    run: does it, and returns the values to compare.
    limit: how far these may be from the first way's: norm of the difference over the norm, the largest of
        all values.
    target: how many times as fast as the first way it should be. share: how much of the ceiling it should
        reach. why: what stands in the way, for a target that is missed.
    precision: whose matrix-multiply ceiling counts.
    """

    run: Callable[[], Values]
    limit: float = 0.0
    target: float | None = None
    share: float | None = None
    why: str = ""
    precision: str = "float32"


@dataclass(frozen=True)
class Case:
    """One thing done in several ways that give the same values; the first way is the official order.

    images, megabytes: how much one call handles, where a rate says more than a time.
    """

    name: str
    ways: dict[str, Way]
    images: int | None = None
    megabytes: float | None = None

    def only(self, precisions: Sequence[str]) -> "Case":
        """The case without its ways in other precisions."""
        return replace(self, ways={k: way for k, way in self.ways.items() if way.precision in precisions})


def measure(case: Case, seconds: float, least: int = 3) -> list[dict[str, Any]]:
    """Time all ways in turns, so that a busy moment of the machine hits all; one result a way.

    The matrix product that stands for the ceiling takes its turn too. There are `least` to `TURNS` turns, as
    many as fit into `seconds`, which are given again if the turns' processor times vary (`VARIES`); only one
    if it takes longer than `LONG`.

    Raises:
        AssertionError: a way's values differ by more than its limit.
    """
    precisions = sorted({way.precision for way in case.ways.values()})
    rates: dict[str, list[float]] = {name: [] for name in precisions}
    times: dict[str, list[float]] = {name: [] for name in case.ways}
    spent: dict[str, list[float]] = {name: [] for name in case.ways}
    values: dict[str, Values] = {}
    load = os.getloadavg()[0]
    for way in list(case.ways.values())[1:]:
        way.run()  # warm: the kit's ways keep small matrices and open files
    start, limit, repeated = time.perf_counter(), seconds, False
    for turn in range(2 * TURNS):
        taken = time.perf_counter() - start
        if turn == TURNS or (turn >= least and taken > limit) or (turn == 1 and taken > LONG):
            if repeated or turn < least or not varies(spent):
                break
            limit, repeated = taken + seconds, True
        for precision in precisions:
            rates[precision].append(matmul_rate(precision))
        for name, way in case.ways.items():
            before = time.perf_counter(), processor_time()
            values[name] = way.run()
            times[name].append(time.perf_counter() - before[0])
            spent[name].append(processor_time() - before[1])
    first = next(iter(case.ways))
    results = []
    for name, way in case.ways.items():
        pairs = zip(values[name], values[first], strict=True)
        difference = max((relative(*pair) for pair in pairs), default=0.0)
        assert difference <= way.limit, f"{case.name}, {name}: differs by {difference}, allowed {way.limit}"
        results.append(
            {
                "case": case.name,
                "way": name,
                "seconds": statistics.median(times[name]),
                "processor": statistics.median(spent[name]),
                "images": case.images,
                "megabytes": case.megabytes,
                "fastest": min(times[name]),
                "slowest": max(times[name]),
                "turns": len(times[name]),
                "repeated": repeated,
                "load": round(load, 1),
                "ratio": quotient(times[first], times[name]),
                "processor_ratio": quotient(spent[first], spent[name]),
                "target": way.target,
                "share_target": way.share,
                "why": way.why,
                "difference": difference,
                "limit": way.limit,
                "precision": way.precision,
                "ceiling_gflops": statistics.median(rates[way.precision]) / 1e9,
            }
        )
    return results


def varies(spent: Mapping[str, Sequence[float]]) -> bool:
    """Whether a way's processor time differs between its turns by more than `VARIES`, and not only by a
    moment."""
    return any(max(turns) > max(VARIES * min(turns), min(turns) + MOMENT) for turns in spent.values())


def quotient(first: Sequence[float], other: Sequence[float]) -> float:
    """Quotient of the medians."""
    return statistics.median(first) / max(statistics.median(other), 1e-9)


def processor_time() -> float:
    """Processor seconds of this process, all its threads, and the processes it has waited for."""
    children = os.times()
    return time.process_time() + children.children_user + children.children_system


def relative(found: Any, expected: Any) -> float:
    """Norm of the difference over the norm of what was expected."""
    found, expected = (
        np.ravel(torch.as_tensor(each).detach().double().numpy()) for each in (found, expected)
    )
    return float(np.linalg.norm(found - expected)) / max(float(np.linalg.norm(expected)), 1e-9)


def matmul_rate(precision: str, device: str = "cpu", side: int = 2048) -> float:
    """Floating-point operations a second of one square matrix product."""
    kind = getattr(torch, precision)
    one, other = (torch.ones(side, side, device=device, dtype=kind) for _ in range(2))
    one @ other[:, :1]
    synchronise(device)
    start = time.perf_counter()
    one @ other
    synchronise(device)
    return 2 * side**3 / (time.perf_counter() - start)


def matmul_rates() -> dict[Precision, float]:
    """GFLOP/s of a square matrix product in each precision."""
    # A processor without units for a precision may be a hundred times slower: a small product says it sooner.
    quick = {name: matmul_rate(name, side=512) / 1e9 for name in PRECISIONS}
    fast = feasible(quick)
    return quick | {name: max(matmul_rate(name) for _ in range(3)) / 1e9 for name in fast}


def feasible(gflops: Mapping[Precision, float]) -> list[Precision]:
    """The precisions worth timing: those not more than four times slower than float32."""
    return [name for name in PRECISIONS if 4 * gflops[name] >= gflops["float32"]]


def synchronise(device: str) -> None:
    """Wait until a GPU has done what it was told."""
    if device == "cuda":
        torch.cuda.synchronize()


def trace(case: Case) -> list[dict[str, float]]:
    """Peak memory above the start (MB) and matrix work (GFLOP, a multiply-add is two) of each way."""
    traced = []
    for way in case.ways.values():
        before = reset_peak()
        with counting() as counter:
            way.run()
        traced.append({"peak_mb": (peak() - before) / 2**20, "gflop": counter.get_total_flops() / 1e9})
    return traced


def counting() -> FlopCounterMode:
    """torch's counter of matrix work; it has no formula for the CPU's fused attention."""
    aten = torch.ops.aten
    return FlopCounterMode(
        display=False,
        custom_mapping={
            aten._scaled_dot_product_flash_attention_for_cpu: _forward,
            aten._scaled_dot_product_flash_attention_for_cpu_backward: _backward,
        },
    )


def _forward(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(query, key, value)


def _backward(gradient: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return sdpa_backward_flop_count(gradient, query, key, value)


TRACE_ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
"""With these, glibc gives freed memory back at once, and what a process holds is what it uses."""


def reset_peak() -> int:
    """Forget the process's peak memory so far; returns its present memory in bytes (Linux with glibc)."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    return _status("VmRSS")


def peak() -> int:
    """Peak memory of the process since `reset_peak`, or since its start, in bytes (Linux)."""
    return _status("VmHWM")


def _status(name: str) -> int:
    with open("/proc/self/status") as file:
        (line,) = [line for line in file if line.startswith(f"{name}:")]
    return int(line.split()[1]) * 1024


def processor() -> str:
    """The processor's name."""
    model = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as file:
            model = next(
                (line.split(": ")[1].strip() for line in file if line.startswith("model name")), model
            )
    return model


def machine() -> dict[str, Any]:
    """What the figures were measured on, and how busy it was."""
    return {
        "cpu": processor(),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch": torch.__version__,
        "load_before": round(os.getloadavg()[0], 1),
        "gflops": matmul_rates(),
    }
