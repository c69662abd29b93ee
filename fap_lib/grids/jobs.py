"""One job of a grid: a papermill run in a folder of its own, finished entirely or not at all.

A job's record (`jobs/NAME.json` in the grid's folder) says what to run. Its last act is `done.json`, which
names the record; so whatever is killed, what was finished stays, and what was not is run again.

Slow imports happen inside functions, so that Ctrl-C finds `main` at work and not a package half imported.
"""

import argparse
import getpass
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from fap_lib.core.errors import KitError
from fap_lib.core.files import disk_errors, locked, sha256, write_text
from fap_lib.core.sealed import read_sealed, write_sealed
from fap_lib.runs.marks import DONE, is_marked, mark

PLAN = "plan.json"
"""A grid's jobs, for the Snakefile and for whoever gathers results."""

FAILED = "failed.json"
"""The report of a failed job: its record's SHA-256, and why."""

GPUS = "FAP_GPUS"
"""Environment variable: numbers of the GPUs that jobs share out among themselves."""

_RECORD = "job.json"
_LOCK = "lock"


def is_done(folder: Path, name: str) -> bool:
    """Whether a job of the grid in `folder` was finished with the record it has now."""
    return is_marked(folder / name, sha256(folder / "jobs" / f"{name}.json"))


def failure(folder: Path, name: str) -> str | None:
    """Why a job failed with the record it has now; None if it did not."""
    report, record = folder / name / FAILED, folder / "jobs" / f"{name}.json"
    try:
        content = read_sealed(report, "report of a failed job", "run it again")
    except KitError:  # none there, or damaged: nothing is known
        return None
    return content["error"] if content["job"] == sha256(record) else None


def read_record(path: Path) -> dict[str, Any]:
    """What a grid's plan says about one job: the fields of a `fap_lib.grids.grid.Job`.

    Raises:
        KitError: there is none, or it is not as it was written.
    """
    return read_sealed(path, "job's record", "the same `fap paper` command writes it anew")


def run_job(record: Path) -> None:
    """Run one job of a grid from its record.

    Raises:
        KitError: see `read_record` and `fap_lib.runs.notebook.run_notebook`.
    """
    job, digest = read_record(record), sha256(record)
    folder = record.parents[len(Path(job["name"]).parts)]
    place = folder / job["name"]
    with disk_errors(place):
        place.mkdir(parents=True, exist_ok=True)
    # The notebook's kernel holds this lock too. A job whose parents were killed is waited for, not doubled.
    with locked(place / _LOCK) as lock:
        if is_done(folder, job["name"]):
            return
        for name in (DONE, FAILED):
            (place / name).unlink(missing_ok=True)
        os.environ["OMP_NUM_THREADS"] = str(job["threads"])
        start = time.perf_counter()
        try:
            _begin(place, record, digest)
            with _gpu():
                _run(job, place, lock)
        except Exception as error:
            with suppress(KitError):  # on a full disk there is no place for the report either
                write_sealed(place / FAILED, {"job": digest, "error": _sentence(error)})
            raise
        mark(place, digest, time.perf_counter() - start)


def _sentence(error: Exception) -> str:
    """Why a job failed, in one line; the notebook has the traceback."""
    from papermill.exceptions import PapermillExecutionError

    if isinstance(error, KitError):
        return str(error)
    if isinstance(error, PapermillExecutionError):
        return f"{error.ename}: {error.evalue} (a cell of its notebook has the traceback)"
    return f"{type(error).__name__}: {error}"


def _run(job: dict[str, Any], place: Path, lock: int) -> None:
    if job["notebook"]:
        from fap_lib.runs.notebook import run_notebook

        run_notebook(job["notebook"], job["parameters"], place, (lock,))
        return
    from fap_lib.grids import shards  # imports torch, which a notebook's job leaves to the kernel

    shards.make_features(job["parameters"])


def _begin(place: Path, record: Path, digest: str) -> None:
    """Empty a job's folder if another record's job began there; the same job continues what it left."""
    begun = place / _RECORD
    if begun.is_file() and sha256(begun) == digest:
        return
    for entry in place.iterdir():
        if entry.name != _LOCK:
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    write_text(begun, record.read_text(encoding="utf-8"))


@contextmanager
def _gpu() -> Iterator[None]:
    """Keep one GPU for this job, where `paper` found several: a job sees the one whose lock it got.

    Snakemake runs no more jobs at once than there are GPUs, so one is free soon.
    """
    devices = os.environ.get(GPUS, "").split(",")
    if len(devices) < 2:
        yield
        return
    with ExitStack() as held:
        while True:
            for device in devices:
                try:
                    held.enter_context(
                        locked(
                            Path(tempfile.gettempdir()) / f"fap-gpu-{getpass.getuser()}-{device}", wait=False
                        )
                    )
                except BlockingIOError:
                    continue
                os.environ["CUDA_VISIBLE_DEVICES"] = device
                yield
                return
            time.sleep(1)


def main(arguments: list[str] | None = None) -> int:
    """Run one job; the Snakefile calls this."""
    parser = argparse.ArgumentParser(
        prog="python -m fap_lib.grids.jobs", description="Run one job of a grid."
    )
    parser.add_argument("record", type=Path)
    try:
        run_job(parser.parse_args(arguments).record.resolve())
    except KitError as error:
        print(f"fap: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # all jobs of a grid get it at once, and `fap paper` says what it means
        logging.getLogger("asyncio").disabled = True  # a cell that was cut off has nothing to add
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
