"""What a grid's YAML file may say. Nothing slow is imported, so that a mistake in it is said at once."""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from fap_lib.core import arguments, paths
from fap_lib.core.config import Mode, Profile, Settings, load_profile
from fap_lib.core.documents import load_yaml
from fap_lib.core.errors import KitError, nearest, shown
from fap_lib.core.numbers import SEED
from fap_lib.runs import preparation

OWN = "faprompt"
"""The preset that is the method itself."""


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


def read_grid(path: Path) -> Grid:
    """A grid from its YAML file, checked to the last name; of the files of prompts it names nothing is read.

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
    """Refuse a grid without any prompts, and prompts that nothing is tested with."""
    if not grid.modes and not grid.prompts:
        raise KitError("the grid names neither modes to train in nor files of prompts; give one of them.")
    base(grid)
    for source in grid.prompts:
        if source not in grid.datasets:
            raise KitError(
                f"the grid has prompts learned on {source!r}, but no datasets to test them on; it has "
                f"datasets for {', '.join(grid.datasets)}."
            )
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
