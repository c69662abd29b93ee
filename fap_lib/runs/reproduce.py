"""The main job, headless: prepare datasets, extract features, train prompts, evaluate, collect.

Every step is a papermill run of the notebook that teaches it; everything goes into one run folder.
"""

from pathlib import Path
from typing import Any

from fap_lib.clip.backbone import device_name
from fap_lib.core import arguments, paths
from fap_lib.core.config import load_profile
from fap_lib.runs.evaluate import Result, evaluate_each, extract_each
from fap_lib.runs.notebook import TRAIN
from fap_lib.runs.preparation import check_job, locate
from fap_lib.runs.report import write_report
from fap_lib.runs.steps import steps_in


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
    device_name(device)
    check_job(train, tests, data)
    roots = {name: locate(name, data) for name in dict.fromkeys([train, *tests])}
    name = f"{train}-to-{'-'.join(tests)}-{profile}-{chosen.model.mode}-seed{chosen.training.seed}"
    folder = arguments.new_folder(run or paths.runs() / name)

    common = {"profile": profile, "settings": settings, "device": device}
    with steps_in(folder, len(roots) + 1 + len(tests)) as steps:
        extract_each(steps, folder, roots, common)
        training = folder / "training"
        parameters = {"data": str(roots[train]), "run": str(training), **common}
        steps.run(f"training on {train}", TRAIN, parameters, training)
        tested = {name: roots[name] for name in tests}
        metrics, label = evaluate_each(steps, folder, tested, training / paths.PROMPTS, common)
    write_report(folder, metrics, label, f"FAPrompt, trained on {train}", folder / "training")
    return Result(profile, folder, metrics, label)


def demo() -> Result:
    """The main job on the kit's own small world: learn prompts on some categories, find defects on others."""
    return reproduce(paths.data(), "mini-a", ["mini-test"], "mini", {}, paths.runs() / "demo")
