"""Prompts that are there already, on any datasets: metrics and maps without a training."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fap_lib.clip.backbone import device_name
from fap_lib.core import arguments, paths
from fap_lib.core.config import load_profile
from fap_lib.core.errors import KitError
from fap_lib.core.files import read_json, write_text
from fap_lib.official.inspection import check_fits, learned_on, profile_of
from fap_lib.runs.notebook import EVALUATE, FEATURES
from fap_lib.runs.preparation import check_job, locate
from fap_lib.runs.record import result
from fap_lib.runs.report import write_report
from fap_lib.runs.results import METRICS, table
from fap_lib.runs.steps import StepRunner, steps_in


@dataclass(frozen=True)
class Result:
    """What a run leaves: its folder, the tidy metrics of all test sets, and what they mean."""

    profile: str
    folder: Path
    metrics: list[dict[str, Any]]
    label: str


def evaluate_prompts(
    prompts: Path,
    data: Path,
    tests: list[str],
    profile: str | None,
    settings: dict[str, Any],
    run: Path | None = None,
    device: str = "auto",
) -> Result:
    """Evaluate a file of prompts on some datasets.

    Args:
        prompts: a checkpoint of the kit, or the authors' `.pth`.
        data: a folder with prepared datasets (`NAME/meta.json`) or with raw downloads. tests: their names.
        profile: by default the one the prompts belong to. settings: see `fap_lib.core.config.load_profile`.
        run: the run folder; by default one below `runs/` named after what is run.

    Returns:
        Its folder has, for each dataset, `metrics.csv`, `scores.csv`, `patch_maps.npy`, `heatmaps.png` and
        the executed notebook; and for all of them `metrics.csv` and `report.html`.

    Raises:
        KitError: prompts that cannot be read or belong to another CLIP, a dataset that cannot be found or
            prepared, a wrong setting.
    """
    profile = profile or profile_of(prompts)
    check_fits(prompts, load_profile(profile, settings).features)
    device_name(device)
    check_job(None, tests, data)
    if (source := learned_on(prompts)) in tests:
        raise KitError(f"the prompts of {prompts.name} were learned on {source}; take it out of the tests.")
    roots = {name: locate(name, data) for name in dict.fromkeys(tests)}
    name = f"evaluate-{prompts.stem}-on-{'-'.join(tests)}"
    folder = arguments.new_folder(run or paths.runs() / name)
    common = {"profile": profile, "settings": settings, "device": device}
    with steps_in(folder, 2 * len(roots)) as steps:
        extract_each(steps, folder, roots, common)
        metrics, label = evaluate_each(steps, folder, roots, prompts, common)
    write_report(folder, metrics, label, f"FAPrompt, prompts of {prompts.name}", folder / tests[0])
    return Result(profile, folder, metrics, label)


def extract_each(steps: StepRunner, folder: Path, roots: dict[str, Path], common: dict[str, Any]) -> None:
    """Extract the features of each dataset in `roots`."""
    for dataset, root in roots.items():
        place = folder / dataset
        parameters = {"data": str(root), "run": str(place / "features"), **common}
        steps.run(f"features of {dataset}", FEATURES, parameters, place)


def evaluate_each(
    steps: StepRunner, folder: Path, roots: dict[str, Path], prompts: Path, common: dict[str, Any]
) -> tuple[list[dict[str, Any]], str]:
    """Run the evaluation of each dataset in `roots` below `folder`, and write their metrics together.

    Returns:
        The tidy metrics of all, and what they mean.
    """
    metrics: list[dict[str, Any]] = []
    labels = []
    for dataset, root in roots.items():
        place = folder / dataset
        parameters = {"data": str(root), "prompts": str(prompts), "run": str(place), **common}
        steps.run(f"testing on {dataset}", EVALUATE, parameters, place, prompts)
        content = read_json(result(place, f"{METRICS}.json"), "metrics")
        metrics += content["metrics"]
        labels.append(content["label"])
    write_text(folder / f"{METRICS}.csv", table(metrics))
    return metrics, "; ".join(dict.fromkeys(labels))
