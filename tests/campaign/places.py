"""Odd places: a full disk, one that is read-only, a path and an environment that nobody expects."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from fap_lib.core.paths import REPOSITORY
from tests.campaign.kills import again
from tests.campaign.log import Log
from tests.campaign.world import MADE, REFUSED, STEPS, World

SIZES = {"full disk": ("8k", "64k", "256k"), "read-only disk": ("8k",)}
"""Kinds of bad disks, and how large each is: too small for most steps from the start, or on their way."""

ODD = 'it\'s a "place" für 部品'
"""A folder's name with spaces, quotes and letters of other scripts."""

PARTS = ("fap_lib", "data_prep", "pretraining", "notebooks", "workflow", "requirements.lock")
"""What of the checkout a run needs."""

POWERLESS = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--"]
"""Runs a command with its user's own permissions alone, which root has to give up."""


def disks(world: World, log: Log) -> None:
    """Every step with its results on a bad disk: it refuses in a sentence, or it fits; nothing is lost, and
    it works on a good disk again."""
    for kind, sizes in SIZES.items():
        steps = [(name, size) for name in STEPS for size in sizes]
        for number in log.missing(kind, len(steps)):
            name, size = steps[number]
            world.restore(MADE[name])
            place = world.home / MADE[name].parts[0]
            place.mkdir(exist_ok=True)
            options = f"size={size}" + (",ro" if kind == "read-only disk" else "")
            mounted = subprocess.run(
                ["mount", "-t", "tmpfs", "-o", options, "none", place], capture_output=True
            )
            if mounted.returncode:
                log.note(kind, number, "no permission to mount", ran=False)
                continue
            code = world.run(STEPS[name])
            fits = code == 0 and world.is_as_it_was(MADE[name])
            subprocess.run(["umount", place], check=True)
            wrong = None if code == REFUSED or fits else f"ended with {code}"
            log.note(kind, number, f"{name} in {size}", wrong or again(world, name))


def elsewhere(world: World, log: Log) -> None:
    """Whole commands in an odd place: they end well, and all they make is in FAP_HOME."""
    kind = "odd place"
    base = world.home.parent / ODD
    words = _commands(base)
    if not log.missing(kind, len(words) + 1):
        return
    world.restore()
    before = lay_out(base)
    shutil.copytree(world.home / "data" / "toy-aux", base / "home" / "data" / "toy-aux")
    shutil.copytree(world.home / "images", base / "images")
    for number in range(len(words)):
        done = run(base, words[number])
        said = " ".join(done.stderr.split())[-300:]
        wrong = f"ended with {done.returncode}: {said}" if done.returncode else None
        log.note(kind, number, f"fap {words[number][0]}", wrong)
    wrong = None if before == contents(base) else "something was written"
    log.note(kind, len(words), "checkout untouched", wrong)


def lay_out(base: Path) -> set[Path]:
    """Copy the kit to `base/kit`, which nobody may write to; returns what is in it."""
    for part in PARTS:
        source, target = REPOSITORY / part, base / "kit" / part
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    for path in [base / "kit", *contents(base)]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    return contents(base)


def contents(base: Path) -> set[Path]:
    """What is in the copy of the kit."""
    return set((base / "kit").rglob("*"))


def run(base: Path, words: list[str]) -> subprocess.CompletedProcess[str]:
    """A command of the copy in `base/kit`, with its home in `base/home`: from another working directory, with
    umask 077, without HOME, with LC_ALL=C, and as a user who may not write to the copy."""
    left_out = ("HOME", "PYTHONPATH", "LANG", "USER", "LOGNAME")
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    environment |= {"LC_ALL": "C", "PYTHONPATH": str(base / "kit"), "FAP_HOME": str(base / "home")}
    powerless = POWERLESS if shutil.which(POWERLESS[0]) and os.geteuid() == 0 else []
    code = "import os, sys; os.umask(0o077); from fap_lib.cli import main; sys.exit(main(sys.argv[1:]))"
    return subprocess.run(
        [*powerless, sys.executable, "-c", code, *words],
        cwd="/",
        env=environment,
        capture_output=True,
        text=True,
    )


def _commands(base: Path) -> list[list[str]]:
    images, data = str(base / "images"), str(base / "home" / "data")
    on = ["--data", data, "--test", "own"]
    prompts = (
        base / "home" / "runs" / "toy-aux-to-own-tiny-paper-seed111" / "training" / "prompts.safetensors"
    )
    return [
        ["data", "folder", images, "--name", "own"],
        ["reproduce", *on, "--train", "toy-aux", "--profile", "tiny"],
        ["evaluate", str(prompts), *on],
        ["score", images],
        ["checkpoint", str(prompts)],
        ["data", "check", "own"],
    ]
