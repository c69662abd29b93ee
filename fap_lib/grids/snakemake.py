"""Runs a grid: Snakemake decides what is missing and in which order, papermill runs each notebook.

Everything of a grid lies in one folder. A job is done when its `done.json` is there, which is written last
and names the job's record; so whatever is killed, what was finished stays, and what was not is run again.
"""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from fap_lib.clip.backbone import device_name
from fap_lib.core import arguments, paths
from fap_lib.core.errors import KitError, nearest, shown
from fap_lib.core.files import locked, write_text
from fap_lib.core.sealed import sealed, write_sealed
from fap_lib.grids import grid as grids
from fap_lib.grids.grid import RESULTS, Job
from fap_lib.grids.jobs import DONE, GPUS, PLAN, failure, is_done, run_job
from fap_lib.grids.settings import Grid, check_prepared
from fap_lib.official.inspection import line
from fap_lib.runs import preparation
from fap_lib.runs.marks import is_damaged
from fap_lib.runs.record import is_whole

_LOCK = "lock"
_ELSEWHERE = {"--executor", "-e", "--profile"}
"""Options with which jobs run on other machines, whose GPUs are not this one's."""

PLAN_ONLY = {"-n", "--dry-run", "--dryrun"}
"""Options with which nothing runs."""


def paper(path: Path, cores: int, options: list[str], folder: Path | None = None) -> int:
    """Run what is missing of a grid, and say at the end what failed.

    Args:
        path: the grid's YAML file. cores: how many jobs at once (a job takes `threads` cores).
        options: passed on to Snakemake, such as `-n` to show the plan alone.
        folder: where everything goes; by default below `runs/`, named after the file.

    Returns:
        0, or 1 if a job failed.

    Raises:
        KitError: a mistake in the grid, a dataset that is not prepared, no Snakemake, no such device here,
            another run at work in the same folder; all before anything runs.
    """
    grid = grids.load_grid(path)
    check_prepared(grid)
    for prompts in grid.prompts.values():
        print(line(paths.run(prompts)), flush=True)
    folder = arguments.new_folder(folder or paths.runs() / f"grid-{path.stem}")
    engine = snakemake()
    check_options(engine, options)
    if not _ELSEWHERE & set(options):
        device_name(grid.device)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with locked(folder / _LOCK, wait=False) as lock:
            jobs = grids.plan(grid, folder)
            devices = [] if _ELSEWHERE & set(options) else _devices(grid)
            write_plan(grid, jobs, folder, devices)
            unmark_damaged(jobs, folder)
            plan_only = bool(PLAN_ONLY & set(options))
            command = [engine, *engine_options(folder, cores, devices), *options]
            # Snakemake holds the lock too: were this process killed, the run would still be at work.
            # Of a plan it would print some lines a job, where a summary says more.
            told = subprocess.PIPE if plan_only else None
            done = subprocess.run(
                command, pass_fds=[lock], env=_environment(devices), stdout=told, stderr=told, text=True
            )
            code = done.returncode
            if plan_only:
                print(summary(jobs, folder) if code == 0 else done.stderr)
                return code
            return conclude(jobs, folder, code)
    except BlockingIOError as error:
        raise KitError(
            f"another run is at work in {folder}; wait for it, or end it before starting a second one."
        ) from error


def summary(jobs: list[Job], folder: Path) -> str:
    """How many jobs of each kind would run, and how many are finished; a line a kind."""
    kinds = dict.fromkeys(job.kind for job in jobs)
    lines = []
    for kind in kinds:
        own = [is_done(folder, job.name) for job in jobs if job.kind == kind]
        lines.append(f"{kind:11} {own.count(False):5} to run, {own.count(True):5} finished")
    return "\n".join(lines)


def snakemake() -> str:
    """The Snakemake program: the kit's own (`make workflow`), or one on the PATH.

    Raises:
        KitError: there is none.
    """
    own = paths.REPOSITORY / ".venv-workflow" / "bin" / "snakemake"
    found = str(own) if own.is_file() else shutil.which("snakemake")
    if not found:
        raise KitError("Snakemake is not installed; `make workflow` installs it beside the kit.")
    return found


def check_options(engine: str, options: list[str]) -> None:
    """Refuse options that Snakemake does not know, before its own usage fills the screen.

    Raises:
        KitError: an unknown option; the message has the nearest.
    """
    wanted = [option.partition("=")[0] for option in options if re.match("--?[A-Za-z]", option)]
    if not wanted:
        return
    usage = subprocess.run([engine, "--help"], capture_output=True, text=True).stdout
    known = set(re.findall(r"(?<![\w-])--?[A-Za-z][\w-]*", usage))
    for option in wanted:
        short = option[:2] in known and not option.startswith("--")  # -j4, -np
        if not short and not any(name.startswith(option) for name in known):
            raise KitError(
                f"Snakemake has no option {shown(option)}; the nearest is {nearest(option, sorted(known))}."
            )


def write_plan(grid: Grid, jobs: list[Job], folder: Path, devices: list[str]) -> None:
    """Write one record a job, and `plan.json` for the Snakefile. A record that did not change is left alone,
    because Snakemake runs a job again when its record is newer than its results."""
    for job in jobs:
        path = folder / "jobs" / f"{job.name}.json"
        record = sealed(asdict(job))
        if not path.is_file() or path.read_bytes() != record.encode():
            write_text(path, record)
    generated = [name for name in grid.used if preparation.is_generated(name)]
    plan = {
        "python": sys.executable,
        "generated": {name: str(paths.dataset(name) / "meta.json") for name in generated},
        "threads": grid.threads,
        "gpu": 1 if devices else 0,
        "jobs": {job.name: {"kind": job.kind, "needs": job.needs, "facts": job.facts} for job in jobs},
    }
    write_sealed(folder / PLAN, plan)


def unmark_damaged(jobs: list[Job], folder: Path) -> None:
    """Take the mark off finished jobs whose mark or results are not as they were, so that they run again.
    Snakemake looks at nothing but the mark's time."""
    for job in jobs:
        place = folder / job.name
        # The last job leaves tables alone, made of what the others left.
        finished = job.name != RESULTS and is_done(folder, job.name)
        if is_damaged(place) or (finished and not is_whole(place)):
            (place / DONE).unlink()


def _devices(grid: Grid) -> list[str]:
    """The GPUs a grid's jobs may use on this machine, by number."""
    if grid.device == "cpu":
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]


def engine_options(folder: Path, cores: int, devices: list[str]) -> list[str]:
    """Snakemake's options.

    The folder is locked by `paper` already, with a lock that a kill releases. A mark of completeness is
    written last by each job, so Snakemake's own book-keeping of incomplete files has nothing to add.
    """
    return [
        *("--snakefile", str(paths.WORKFLOW / "Snakefile")),
        *("--directory", str(folder)),
        *("--cores", str(cores)),
        *(("--resources", f"gpu={len(devices)}") if devices else ()),
        *("--rerun-triggers", "mtime"),
        "--keep-going",
        "--nolock",
        "--ignore-incomplete",
    ]


def _environment(devices: list[str]) -> dict[str, str]:
    return {**os.environ, "FAP_HOME": str(paths.home()), GPUS: ",".join(devices)}


def conclude(jobs: list[Job], folder: Path, code: int) -> int:
    """After Snakemake: a list of what failed or had to wait for it, and results of what there is."""
    done = {job.name: is_done(folder, job.name) for job in jobs}
    missing = [name for name, is_there in done.items() if not is_there]
    failed = {name: why for name in missing if (why := failure(folder, name)) is not None}
    for name, why in failed.items():
        print(f"failed: {name}: {why}", file=sys.stderr)
    waiting = len(set(missing) - set(failed) - {RESULTS})
    if waiting:
        print(f"not finished: {waiting} jobs, which need a failed one or were interrupted.", file=sys.stderr)
    if missing and any(done[job.name] for job in jobs if job.kind == "evaluation"):
        # Snakemake makes results of a complete grid only.
        mark = folder / RESULTS / DONE
        mark.unlink(missing_ok=True)
        run_job(folder / "jobs" / f"{RESULTS}.json")
        mark.unlink()
    if missing or code:
        print(f"The same command runs again what is missing. {folder}", file=sys.stderr)
        return 1
    print(f"{folder / RESULTS}")
    return 0
