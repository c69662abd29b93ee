"""The main job, headless: prepare datasets, extract features, train prompts, evaluate, collect.

Every step is a papermill run of the notebook that teaches it; everything goes into one run folder.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fap_lib.core import arguments, paths
from fap_lib.core.config import load_profile
from fap_lib.core.files import write_text
from fap_lib.runs.notebook import EVALUATE, FEATURES, TRAIN, run_notebook
from fap_lib.runs.preparation import check_job, locate
from fap_lib.runs.report import write_report
from fap_lib.runs.results import table


@dataclass(frozen=True)
class Result:
    """What the main job leaves: its folder, the tidy metrics of all test sets, and what they mean."""

    profile: str
    folder: Path
    metrics: list[dict[str, Any]]
    label: str


def reproduce(
    data: Path,
    train: str,
    tests: list[str],
    profile: str,
    settings: dict[str, Any],
    run: Path | None = None,
    device: str = "auto",
) -> Result:
    """Train prompts on one dataset and evaluate them on others.

    Args:
        data: a folder with prepared datasets (`NAME/meta.json`) or with raw downloads.
        train, tests: dataset names. profile, settings: see `fap_lib.core.config.load_profile`.
        run: the run folder; by default one below `runs/` named after what is run.

    Raises:
        KitError: a dataset cannot be found or prepared, a setting is wrong, or a step refused its input.
    """
    chosen = load_profile(profile, settings)  # a mistake in the settings ends here, before any work
    check_job(train, tests, data)
    roots = {name: locate(name, data) for name in dict.fromkeys([train, *tests])}
    name = f"{train}-to-{'-'.join(tests)}-{profile}-{chosen.model.mode}-seed{chosen.training.seed}"
    folder = arguments.new_folder(run or paths.runs() / name)

    common = {"profile": profile, "settings": settings, "device": device}
    for dataset, root in roots.items():
        place = folder / dataset
        run_notebook(FEATURES, {"data": str(root), "run": str(place / "features"), **common}, place)
    run_notebook(
        TRAIN, {"data": str(roots[train]), "run": str(folder / "training"), **common}, folder / "training"
    )
    prompts = str(folder / "training" / paths.PROMPTS)
    metrics: list[dict[str, Any]] = []
    label = chosen.label
    for dataset in tests:
        place = folder / dataset
        parameters = {"data": str(roots[dataset]), "prompts": prompts, "run": str(place), **common}
        run_notebook(EVALUATE, parameters, place)
        content = json.loads((place / "metrics.json").read_text(encoding="utf-8"))
        metrics += content["metrics"]
        label = content["label"]
    write_text(folder / "metrics.csv", table(metrics))
    write_report(folder, metrics, label)
    return Result(profile, folder, metrics, label)


def demo() -> Result:
    """The main job on the kit's own small world: learn prompts on some categories, find defects on others."""
    return reproduce(paths.data(), "mini-a", ["mini-test"], "mini", {}, paths.runs() / "demo")
