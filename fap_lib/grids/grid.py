"""A grid of runs: which prompts are learned on what and tested on what, and the jobs that makes.

A grid is one YAML file (`workflow/grids`). Its plan is a list of jobs, each one papermill run of a notebook
in a folder of its own; `fap_lib.grids.snakemake` runs them.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from fap_lib.checkpoints import read_header
from fap_lib.core import arguments, paths
from fap_lib.core.arguments import SEED
from fap_lib.core.config import Mode, Profile, Settings, load_profile, load_yaml
from fap_lib.core.errors import KitError, nearest, shown
from fap_lib.core.files import sha256
from fap_lib.core.fingerprint import fingerprint
from fap_lib.official.inspection import check_fits, is_official
from fap_lib.runs import preparation
from fap_lib.runs.notebook import COMPARE, EVALUATE, FEATURES, TRAIN, code_cells
from fap_lib.runs.steps import dataset_digest, weights_digest

RESULTS = "results"
OWN = "faprompt"
"""The preset that is the method itself."""

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


class Preset(Settings):
    """One entry of `workflow/presets.yaml`: a method as a change of FAPrompt's settings."""

    title: ClassVar[str] = "preset"
    name: str
    caption: str
    group: str
    model: dict[str, Any] = Field(default_factory=dict)
    training: dict[str, Any] = Field(default_factory=dict)
    wording: str | None = None
    """Hand-written prompts; nothing is trained."""
    reported: str | None = None
    """The method's name in the table of reported values."""
    unlike: str = ""
    """Why its figures must not be compared with the reported ones; empty where they may."""
    given: bool = False
    """Its prompts are the files that a grid names."""


class Grid(Settings):
    """What to run: the content of a grid's YAML file."""

    title: ClassVar[str] = "grid"
    profile: str
    datasets: dict[str, Annotated[list[str], Field(min_length=1)]] = Field(min_length=1)
    """Each auxiliary dataset with the datasets its prompts are tested on."""
    seeds: list[Annotated[int, Field(ge=0, le=SEED)]] = Field(default=[111], min_length=1)
    modes: list[Mode] = Field(default=["paper"])
    """FAPrompt and its ablations are trained in each of these; none: nothing is trained."""
    prompts: dict[str, str] = Field(default_factory=dict)
    """Files of prompts that are there already (the kit's, or the authors' `.pth`), by the auxiliary dataset
    they were learned on; a relative path starts at `paths.home()`."""
    baselines: list[str] = Field(default_factory=list)
    ablations: list[str] = Field(default_factory=list)
    """Names of presets, or the beginning that several share (`k` for k-1, k-2, ...), or `all`."""
    settings: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Changes of the profile for all runs, such as backbone and image size."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    shards: dict[str, Annotated[int, Field(gt=0, le=100_000)]] = Field(default_factory=dict)
    """In how many jobs the features of a large dataset are extracted."""
    threads: int = Field(1, gt=0, le=1024)
    """Of each job. Figures may differ in the last digits between numbers of threads."""

    @property
    def tests(self) -> list[str]:
        """All tested datasets, each once."""
        return list(dict.fromkeys(name for names in self.datasets.values() for name in names))

    @property
    def used(self) -> list[str]:
        """All datasets, each once; those that prompts were learned on only if the grid itself trains."""
        return list(dict.fromkeys([*(self.datasets if self.modes else ()), *self.tests]))


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
    """A grid from its YAML file, checked to the last name before anything runs.

    Raises:
        KitError: unknown name (the message has the nearest valid one), wrong type, setting out of range.
    """
    grid = Grid.parse(load_yaml(path, "grid"))
    for name in grid.used:
        _check_dataset(name)
    for name in grid.shards:
        if name not in grid.used:
            raise KitError(f"the grid cuts {name!r} into shards, but does not use it; it uses {grid.used}.")
    for source, targets in grid.datasets.items():
        if source in targets:
            raise KitError(f"{source} is among the datasets its own prompts are tested on; take it out.")
    for what in ("seeds", "modes"):
        values = getattr(grid, what)
        if len(set(values)) < len(values):
            raise KitError(f"the grid names one of its {what} twice: {values}.")
    for preset in chosen(grid):
        for mode in grid.modes:
            profile_of(grid, preset, mode, grid.seeds[0])
    _check_prompts(grid)
    return grid


def _check_prompts(grid: Grid) -> None:
    """Refuse a grid without any prompts, and files of prompts that are absent, useless, or another CLIP's."""
    if not grid.modes and not grid.prompts:
        raise KitError("the grid names neither modes to train in nor files of prompts; give one of them.")
    features = base(grid).features
    for source, name in grid.prompts.items():
        if source not in grid.datasets:
            raise KitError(
                f"the grid has prompts learned on {source!r}, but no datasets to test them on; it has "
                f"datasets for {', '.join(grid.datasets)}."
            )
        check_fits(paths.run(name), features)
    for preset in chosen(grid):
        if not grid.modes and not preset.given and preset.wording is None:
            raise KitError(f"the grid trains nothing (its modes are empty), but {preset.name} is learned.")


def presets() -> dict[str, Preset]:
    """All presets by name, in the order of the file."""
    content = load_yaml(paths.WORKFLOW / "presets.yaml", "list of presets")
    found = {}
    for group, entries in content.items():
        for name, entry in entries.items():
            caption = entry.pop("title")
            found[name] = Preset.parse({"name": name, "group": group, "caption": caption, **entry})
    return found


def chosen(grid: Grid) -> list[Preset]:
    """FAPrompt with prompts that are given and with learned ones, then the grid's baselines and ablations.

    Raises:
        KitError: an unknown name.
    """
    by_name = presets()
    names = [*(["given"] if grid.prompts else []), *([OWN] if grid.modes else [])]
    for group, wanted in (("baselines", grid.baselines), ("ablations", grid.ablations)):
        own = [name for name, preset in by_name.items() if preset.group == group]
        for word in wanted:
            hits = [name for name in own if word in (name, "all") or name.startswith(f"{word}-")]
            if not hits:
                raise KitError(
                    f"unknown name {shown(word)} among the grid's {group}; the nearest is "
                    f"{nearest(word, own)!r} (known: {', '.join(own)}, the beginning of several, or all)."
                )
            names += hits
    return [by_name[name] for name in dict.fromkeys(names)]


def base(grid: Grid) -> Profile:
    """The settings of all that is not trained here: the profile's, changed by the grid."""
    return load_profile(grid.profile, {section: dict(values) for section, values in grid.settings.items()})


def profile_of(grid: Grid, preset: Preset, mode: Mode, seed: int) -> Profile:
    """The complete settings of a preset's run: the profile's, changed by the grid, then by the preset."""
    changes = {section: dict(values) for section, values in grid.settings.items()}
    changes["model"] = {**changes.get("model", {}), "mode": mode, **preset.model}
    changes["training"] = {**changes.get("training", {}), "seed": seed, **preset.training}
    return load_profile(grid.profile, changes)


def check_prepared(grid: Grid) -> None:
    """Refuse a grid with a dataset that is neither prepared nor generated.

    Raises:
        KitError: with the command that prepares it.
    """
    for name in grid.used:
        manifest = paths.dataset(name) / "meta.json"
        if not preparation.is_generated(name) and not manifest.is_file():
            raise KitError(
                f"the dataset {name} is not prepared (there is no {manifest}); prepare it with: "
                f"fap data prepare {name} (and --from PATH if you have the download)."
            )


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


def _check_dataset(name: str) -> None:
    arguments.name(name, "dataset")
    known = preparation.known()
    prepared = (paths.data() / name / "meta.json").is_file()
    if name in known or preparation.is_generated(name) or prepared:
        return
    raise KitError(
        f"unknown dataset {shown(name)}; the nearest is {nearest(name, known)!r} (known: {', '.join(known)}, "
        f"and whatever is prepared in {paths.data()})."
    )


def _manifest(name: str) -> str:
    """A hash of what decides a dataset's content. Of a generated one, its name is enough."""
    return name if preparation.is_generated(name) else dataset_digest(paths.dataset(name))
