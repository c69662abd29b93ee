"""A grid of runs: which prompts are learned on what and tested on what, and the jobs that makes.

A grid is one YAML file (`workflow/grids`), which `fap_lib.grids.settings` reads. Its plan is a list of jobs,
each one papermill run of a notebook in a folder of its own; `fap_lib.grids.snakemake` runs them.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fap_lib.checkpoints import read_header
from fap_lib.core import paths
from fap_lib.core.config import Mode, Profile
from fap_lib.core.files import sha256
from fap_lib.core.fingerprint import fingerprint
from fap_lib.grids.settings import OWN, Grid, Preset, base, chosen, presets, profile_of, read_grid
from fap_lib.official.inspection import check_fits, is_official
from fap_lib.runs import preparation
from fap_lib.runs.notebook import COMPARE, EVALUATE, FEATURES, TRAIN, code_cells
from fap_lib.runs.steps import dataset_digest, weights_digest

RESULTS = "results"
UNTRAINED = "untrained"
"""In place of a training dataset, for hand-written prompts."""

_SECTIONS = {
    "shards": ("features",),
    "features": ("features",),
    "training": ("features", "model", "training"),
    "evaluation": ("features", "model", "training", "scoring"),
}
"""The sections of the settings that a kind of job reads; others may change without it."""

Kind = Literal["shards", "features", "training", "evaluation", "results"]


@dataclass(frozen=True)
class Job:
    """One papermill run (or, without a notebook, a step of `fap_lib.grids.shards`).

    name: its folder below the grid's folder. needs: names of jobs that must be done before.
    facts: what the results say about it. Everything that changes its results is in `parameters`, `code`
    and `inputs`, so a job whose record changed is run again and no other.
    """

    name: str
    kind: Kind
    notebook: str | None
    parameters: dict[str, Any]
    needs: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    threads: int = 1
    code: str = ""


def load_grid(path: Path) -> Grid:
    """A grid from its YAML file, with the files of prompts that it names, checked before anything runs.

    Raises:
        KitError: see `fap_lib.grids.settings.read_grid`; a file of prompts that is absent, useless, or
            another CLIP's.
    """
    grid = read_grid(path)
    for name in grid.prompts.values():
        check_fits(paths.run(name), base(grid).features)
    return grid


def plan(grid: Grid, folder: Path) -> list[Job]:
    """All jobs of a grid, each after the jobs it needs.

    Settings that come to the same (K = 10 where the profile has ten prompts) are run once; the plan then
    names the shared folder for both.
    """
    builder = _Builder(grid, folder)
    for name in grid.used:
        builder.features(name)
    for preset in chosen(grid):
        if preset.given:
            for source, prompts in grid.prompts.items():
                builder.given(preset, source, paths.run(prompts), grid.datasets[source])
            continue
        if preset.wording is not None:
            for target in grid.tests:
                builder.untrained(preset, target)
            continue
        # The modes are FAPrompt's; a baseline has one.
        for mode in grid.modes[:1] if preset.group == "baselines" else grid.modes:
            for source, targets in grid.datasets.items():
                for seed in grid.seeds:
                    builder.trained(preset, mode, source, seed, targets)
    return builder.finish()


class _Builder:
    """Collects the jobs of a plan."""

    def __init__(self, grid: Grid, folder: Path):
        self.grid = grid
        self.folder = folder
        self.jobs: dict[str, Job] = {}
        self.rows: list[dict[str, Any]] = []
        self.trainings: dict[str, str] = {}
        shards = (paths.PACKAGE / "grids" / "shards.py").read_text(encoding="utf-8")
        self.code: dict[str | None, str] = {None: fingerprint([shards])}
        for name in (FEATURES, TRAIN, EVALUATE, COMPARE):
            self.code[name] = fingerprint(code_cells(paths.NOTEBOOKS / f"{name}.ipynb"))
        self.manifests = {name: _manifest(name) for name in grid.used}
        self.plain = (
            profile_of(grid, presets()[OWN], grid.modes[0], grid.seeds[0]) if grid.modes else base(grid)
        )
        self.weights = weights_digest(self.plain.features)

    def features(self, dataset: str) -> None:
        count = self.grid.shards.get(dataset, 1)
        place = f"shards/{dataset}"
        parts = [f"{place}/{number}-of-{count}" for number in range(count)] if count > 1 else []
        for number, name in enumerate(parts):
            self._add(name, "shards", None, dataset, "", self.plain, [], number=number, count=count)
        joined = [f"{place}/joined"] if parts else []
        for name in joined:
            self._add(name, "shards", None, dataset, "", self.plain, parts, number=None, count=count)
        self._add(f"features/{dataset}", "features", FEATURES, dataset, "", self.plain, joined)

    def trained(self, preset: Preset, mode: Mode, source: str, seed: int, targets: list[str]) -> None:
        profile = profile_of(self.grid, preset, mode, seed)
        training = self._training(preset, mode, source, seed, profile)
        place = training.removeprefix("training/")
        for target in targets:
            name = f"evaluation/{place}/{target}"
            if name not in self.jobs:
                prompts = {"prompts": str(self.folder / training / paths.PROMPTS)}
                self._add(name, "evaluation", EVALUATE, target, preset.name, profile, [training], **prompts)
            shown = None if preset.group == "baselines" else mode
            self._row(preset, shown, source, seed, target, name, training)

    def given(self, preset: Preset, source: str, prompts: Path, targets: list[str]) -> None:
        """Evaluations of a file of prompts."""
        mode: Mode = "released" if is_official(prompts) else read_header(prompts)["model"]["mode"]
        for target in targets:
            name = f"evaluation/given/{source}/{target}"
            words = {"prompts": str(prompts)}
            self._add(name, "evaluation", EVALUATE, target, preset.name, self.plain, [], **words)
            self.jobs[name].inputs["prompts"] = sha256(prompts)
            self._row(preset, mode, source, None, target, name, None)
            # It is FAPrompt; the title tells its prompts from trained ones, and those of two sources apart.
            self.rows[-1] |= {"method": OWN, "title": f"{preset.caption} of {source}"}

    def untrained(self, preset: Preset, target: str) -> None:
        name = f"evaluation/{UNTRAINED}/{preset.name}/{target}"
        words = {"wording": preset.wording}
        self._add(name, "evaluation", EVALUATE, target, preset.name, self.plain, [], **words)
        self._row(preset, None, None, None, target, name, None)

    def finish(self) -> list[Job]:
        needs = [job.name for job in self.jobs.values() if job.kind == "evaluation"]
        facts = {"rows": self.rows}
        parameters = {"run": str(self.folder)}
        job = Job(RESULTS, "results", COMPARE, parameters, needs, facts, {}, 1, self.code[COMPARE])
        return [*self.jobs.values(), job]

    def _training(self, preset: Preset, mode: Mode, source: str, seed: int, profile: Profile) -> str:
        """The name of the training that makes these prompts, added unless an equal one is there."""
        same = profile.model_dump()
        same["model"]["mode"] = None  # in all that is computed, a mode is a choice of patches
        same["model"]["selection"] = profile.model.patch_selection if profile.model.prior else None
        key = json.dumps([source, same], sort_keys=True)
        if key not in self.trainings:
            name = f"training/{source}/{preset.name}-{mode}/seed-{seed}"
            self._add(name, "training", TRAIN, source, preset.name, profile, [])
            self.trainings[key] = name
        return self.trainings[key]

    def _add(
        self,
        name: str,
        kind: Kind,
        notebook: str | None,
        dataset: str,
        what: str,
        profile: Profile,
        needs: list[str],
        **more: Any,
    ) -> None:
        parameters = {
            "data": str(paths.dataset(dataset)),
            "profile": self.grid.profile,
            "settings": profile.model_dump(include=set(_SECTIONS[kind])),
            "run": str(self.folder / name),
            "device": self.grid.device,
            **more,
        }
        if kind in ("training", "evaluation"):
            needs = [f"features/{dataset}", *needs]
        facts = {"dataset": dataset, "what": what}
        inputs = {"manifest": self.manifests[dataset], "weights": self.weights}
        code, threads = self.code[notebook], self.grid.threads
        self.jobs[name] = Job(name, kind, notebook, parameters, needs, facts, inputs, threads, code)

    def _row(
        self,
        preset: Preset,
        mode: Mode | None,
        source: str | None,
        seed: int | None,
        dataset: str,
        evaluation: str,
        training: str | None,
    ) -> None:
        self.rows.append(
            {
                "method": preset.name,
                "title": preset.caption,
                "group": preset.group,
                "mode": mode,
                "source": source,
                "dataset": dataset,
                "seed": seed,
                "run": evaluation,
                "training": training,
                "reported": preset.reported,
                "unlike": preset.unlike,
            }
        )


def _manifest(name: str) -> str:
    """A hash of what decides a dataset's content. Of a generated one, its name is enough."""
    return name if preparation.is_generated(name) else dataset_digest(paths.dataset(name))
