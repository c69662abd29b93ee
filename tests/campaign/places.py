"""Odd places: a full disk, a home nobody can write to, a path and an environment nobody expects."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from fap_lib.core.paths import REPOSITORY
from tests.campaign.world import MADE, REFUSED, STEPS, World

SMALL = "8k"
"""Size of the disk that is too small for any step."""

ODD = 'it\'s a "place" für 部品'

NOT_RUN = "not run: "


def disks(world: World) -> list[tuple[str, str, str | None]]:
    """Every step with its results on a full disk, then on one that is read-only; it refuses, nothing is lost,
    and it works on a good disk again."""
    told = []
    for kind, options in (("full disk", f"size={SMALL}"), ("read-only disk", f"size={SMALL},ro")):
        for name, step in STEPS.items():
            world.restore(MADE[name])
            place = world.home / MADE[name].parts[0]
            place.mkdir(exist_ok=True)
            mounted = subprocess.run(
                ["mount", "-t", "tmpfs", "-o", options, "none", place], capture_output=True
            )
            if mounted.returncode:
                return [*told, (kind, "all steps", NOT_RUN + "no permission to mount")]
            code = world.run(step)
            subprocess.run(["umount", place], check=True)
            wrong = None if code == REFUSED else f"ended with {code}"
            code = world.run(step)
            if wrong is None and (code or not world.is_as_it_was(MADE[name])):
                wrong = f"then, with room, ended with {code}"
            told.append((kind, name, wrong))
    return told


def elsewhere(world: World) -> list[tuple[str, str, str | None]]:
    """One whole run of a copy of the kit in an odd place: another working directory, umask 077, no HOME,
    LC_ALL=C, and a checkout without permission to write."""
    world.restore()
    base = world.home.parent / ODD
    checkout = base / "kit"
    parts = ("fap_lib", "data_prep", "pretraining", "notebooks", "workflow", "requirements.lock")
    for part in parts:
        source = REPOSITORY / part
        target = checkout / part
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    for path in checkout.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = {path for path in checkout.rglob("*") if "__pycache__" not in path.parts}
    data = base / "home" / "data"
    shutil.copytree(world.home / "data" / "toy-aux", data / "toy-aux")
    shutil.copytree(world.home / "images", base / "images")
    environment = {
        name: value for name, value in os.environ.items() if name not in ("HOME", "PYTHONPATH", "LANG")
    }
    environment |= {"LC_ALL": "C", "PYTHONPATH": str(checkout), "FAP_HOME": str(base / "home")}
    told = []
    for words in (
        ["data", "folder", str(base / "images"), "--name", "own"],
        ["reproduce", "--data", str(data), "--train", "toy-aux", "--test", "own", "--profile", "tiny"],
    ):
        code = "import os, sys; os.umask(0o077); from fap_lib.cli import main; sys.exit(main(sys.argv[1:]))"
        done = subprocess.run(
            [sys.executable, "-c", code, *words],
            cwd=Path("/"),
            env=environment,
            capture_output=True,
            text=True,
        )
        said = done.stderr.strip().splitlines()[-1:]
        told.append(
            ("odd place", words[0], f"ended with {done.returncode}: {said}" if done.returncode else None)
        )
    after = {path for path in checkout.rglob("*") if "__pycache__" not in path.parts}
    told.append(("odd place", "checkout untouched", None if before == after else "something was written"))
    return told
