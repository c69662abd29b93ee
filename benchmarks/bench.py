"""How fast the kit is, against the official order of computation, both measured in one run.

    make bench PROFILE=mini      about five minutes on two cores
    make bench PROFILE=paper     ViT-L/14@336px at 518 pixels, random weights: about an hour
    make bench PROFILE=gpu       see benchmarks/gpu.py

Writes `benchmarks/results/PROFILE.json` and `.md`. A row whose values differ from the official order's
by more than its limit ends the run.
"""

import argparse
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import flat, gpu, pages, precision, report
from benchmarks.measure import TRACE_ENVIRONMENT, feasible, machine, measure, trace
from benchmarks.rows import Subject, cases, story
from fap_lib.core.config import Precision
from fap_lib.core.files import read_json, write_json

RESULTS = Path(__file__).parent / "results"

SECONDS = {"mini": 2.0, "paper": 15.0}
"""How long a row may repeat its turns (it takes at least three)."""

FLAT_IMAGES = {"mini": 40, "paper": 100}


def measure_profile(profile: str, folder: Path) -> dict[str, Any]:
    """Everything that a CPU can say about a profile."""
    started = time.perf_counter()
    about = machine()
    subject = Subject(profile, folder)
    about |= {"profile": profile, "backbone": subject.backbone.name, "image_size": subject.size}
    about["weights"] = "the kit's own" if subject.backbone.trained else "random"
    seconds = SECONDS[profile]
    precisions = feasible(about["gflops"])
    rows = [row for case in cases(subject) for row in announce(measure(case.only(precisions), seconds))]
    if profile != "paper":
        rows = [
            row | {"target": None, "share_target": None} for row in rows
        ]  # the targets are meant for the paper's size
    steps = announce(measure(story(subject).only(precisions), seconds))
    results = {
        "about": about,
        "rows": [row | traced for row, traced in zip(rows, traces(profile, precisions), strict=True)],
        "steps": steps,
        "memory": flat.growth(FLAT_IMAGES[profile]),
        "precision": precision.compare(folder, precisions) if profile == "mini" else [],
    }
    about["seconds"] = round(time.perf_counter() - started)
    return results


def announce(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Print rows as soon as they are known."""
    for row in rows:
        print(
            f"{row['case']:48} {row['way']:52} {row['seconds']:10.4f} s {row['ratio']:8.2f} x "
            f"(processor {row['processor']:10.4f} s {row['processor_ratio']:8.2f} x)",
            flush=True,
        )
    return rows


def traces(profile: str, precisions: Sequence[Precision]) -> list[dict[str, float]]:
    """Peak memory and counted work of every way, from a process of its own that gives memory back at once."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        command = [sys.executable, "-m", "benchmarks.bench", "--profile", profile, "--trace", str(path)]
        command += ["--precisions", *precisions]
        subprocess.run(command, check=True, env={**os.environ, **TRACE_ENVIRONMENT})
        return read_json(path, "trace")


def main() -> None:
    """Measure one profile, print its tables and write them."""
    parser = argparse.ArgumentParser(description="The kit against the official order of computation.")
    parser.add_argument("--profile", choices=[*SECONDS, "gpu"], default="mini")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the tables")
    parser.add_argument("--trace", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--precisions", nargs="+", default=["float32"], help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    logging.disable(logging.WARNING)  # open_clip warns of the random weights that are wanted here
    os.environ["FAP_PROGRESS"] = "0"
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FAP_HOME"] = folder
        if chosen.trace:
            subject = Subject(chosen.profile, Path(folder))
            traced = [row for case in cases(subject) for row in trace(case.only(chosen.precisions))]
            write_json(chosen.trace, traced)
            return
        results = (
            gpu.measure_gpu(Path(folder))
            if chosen.profile == "gpu"
            else measure_profile(chosen.profile, Path(folder))
        )
    if results is not None:
        write_json(chosen.out / f"{chosen.profile}.json", results)
        if chosen.out == RESULTS:
            pages.write_pages()
        else:
            report.write_documents(chosen.out)
        print((chosen.out / f"{chosen.profile}.md").read_text())


if __name__ == "__main__":
    main()
