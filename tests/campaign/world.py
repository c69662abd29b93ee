"""A world small enough to be made hundreds of times: every step of a run, in moments."""

import io
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import torch

from data_prep import workers
from data_prep.own import own
from fap_lib.clip.backbone import TINY, Backbone, load_backbone, save_weights
from fap_lib.core import paths
from fap_lib.core.config import FeatureSettings, ModelSettings, ScoreSettings, TrainSettings, load_profile
from fap_lib.core.errors import KitError
from fap_lib.core.files import sha256
from fap_lib.data.features import FeatureCache, features
from fap_lib.data.manifest import read_manifest
from fap_lib.evaluation.scoring import evaluate, score
from fap_lib.model import FAPrompt
from fap_lib.runs.record import Run, start_run
from fap_lib.runs.results import write_metrics, write_scores
from fap_lib.training import train
from tests import toy

SETTINGS = FeatureSettings(backbone=TINY, image_size=70, vv_blocks=2)
TRAINING = TrainSettings(epochs=3, batch_size=5, save_every=2, seed=7)

MODELS = "models"
"""The folder of the home that has CLIP's weights."""

VOLATILE = {"run.json", "training.jsonl", "state.safetensors"}
"""Files that say when and how long; what they say of results is checked elsewhere."""

REFUSED = 2
"""Exit status of a step that ended in a `KitError`."""

PATIENCE = 120
"""Seconds that a step may take; it needs a few."""


@dataclass(frozen=True)
class World:
    """A home for the kit, always at the same path, and a copy of how it was when all was well."""

    home: Path
    spare: Path
    backbone: Backbone

    @classmethod
    def make(cls, base: Path) -> "World":
        """Build the home and run every step undisturbed."""
        torch.set_num_threads(1)
        os.environ["FAP_HOME"] = str(base / "home")
        os.environ["FAP_PROGRESS"] = "0"
        world = cls(base / "home", base / "spare", load_backbone(TINY))
        toy.write(world.home / "data" / "toy-aux", "toy-aux", each=4)
        toy.write(world.home / "images", "toy-test", each=3)
        for name in ("meta.json", "dataset.json"):
            (world.home / "images" / name).unlink()
        # In this process, so that those copied from it have imported all they need.
        for step in STEPS.values():
            with redirect_stdout(io.StringIO()):
                step(world)
        shutil.copytree(world.home, world.spare, symlinks=True)
        return world

    def restore(self, without: Path | None = None) -> None:
        """Put the home back, but for what a step is to make again."""
        # CLIP's weights are large, and no step but the one that writes them touches them.
        kept = without is not None and without.parts[0] != MODELS
        for place in self.home.iterdir():
            if not (kept and place.name == MODELS):
                remove(place)
        for place in self.spare.iterdir():
            target = self.home / place.name
            if not target.exists():
                shutil.copytree(place, target, symlinks=True)
        if without is not None:
            remove(self.home / without)

    def start(self, step: Callable[["World"], None]) -> int:
        """Begin a step in a process and a session of its own; returns its id."""
        child = os.fork()
        if child:
            return child
        code = 1
        try:
            os.setsid()
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            step(self)
            code = 0
        except KitError as error:
            print(f"  refused: {error}", file=sys.stderr)
            code = REFUSED
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    def run(self, step: Callable[["World"], None]) -> int | str:
        """A step from begin to end: its exit status, or why there is none."""
        return wait(self.start(step))

    def digest(self, what: Path, home: Path | None = None) -> dict[str, str]:
        """SHA-256 of every file that a step made."""
        place = (home or self.home) / what
        files = [place] if place.is_file() else sorted(place.rglob("*"))
        return {
            str(path.relative_to(place)): sha256(path)
            for path in files
            if path.is_file() and path.name not in VOLATILE and not path.name.startswith(".")
        }

    def is_as_it_was(self, what: Path) -> bool:
        return self.digest(what) == self.digest(what, self.spare) != {}

    def cache(self) -> FeatureCache:
        manifest = read_manifest(paths.data() / "toy-aux")
        return features(manifest, "test", self.backbone, SETTINGS)

    def record(self, folder: Path, kind: str) -> Run:
        manifest = read_manifest(paths.data() / "toy-aux")
        return start_run(folder, kind, load_profile("tiny"), self.backbone, manifest, "cpu")

    def model(self) -> FAPrompt:
        torch.manual_seed(1)
        return FAPrompt(self.backbone.text_tower, ModelSettings(deep_layers=2), self.backbone.patch_width)


def remove(place: Path) -> None:
    """Remove a file, or a folder with all that is in it."""
    if place.is_dir():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)


def wait(child: int) -> int | str:
    """The exit status of a process; one that takes too long is killed."""
    for _ in range(PATIENCE * 20):
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return f"did not end in {PATIENCE} s"


def draw(_: World) -> None:
    toy.mini(paths.data() / "mini-test")


def prepare(world: World) -> None:
    own(world.home / "images", "own")


def cache(world: World) -> None:
    world.cache()


def prepare_in_processes(world: World) -> None:
    """As `prepare`, with worker processes, which so few images do not need."""
    with patch.object(workers, "_LEAST", 6), patch.object(os, "cpu_count", lambda: 2):
        prepare(world)


def learn(world: World) -> None:
    folder, found = paths.runs() / "training", world.cache()
    record = world.record(folder, "training")
    train(world.model(), found, TRAINING, folder)
    record.finish()


def judge(world: World) -> None:
    folder, found = paths.runs() / "evaluation", world.cache()
    record = world.record(folder, "evaluation")
    settings = ScoreSettings(sigma=1.0)
    scores = score(world.model(), found, settings, folder / "patch_maps.npy")
    write_scores(folder, scores)
    write_metrics(folder, evaluate(scores, settings), "toy")
    record.finish()


def export(world: World) -> None:
    save_weights(world.backbone, paths.models() / "tiny.safetensors")


STEPS: dict[str, Callable[[World], None]] = {
    "drawing": draw,
    "preparing": prepare,
    "preparing, in processes": prepare_in_processes,
    "caching": cache,
    "training": learn,
    "scoring": judge,
    "exporting": export,
}

MADE = {
    "drawing": Path("data/mini-test"),
    "preparing": Path("data/own"),
    "preparing, in processes": Path("data/own"),
    "caching": Path("cache"),
    "training": Path("runs/training"),
    "scoring": Path("runs/evaluation"),
    "exporting": Path(MODELS, "tiny.safetensors"),
}
"""What each step makes, in the home."""
