"""Images, ground truth and maps: the paper's qualitative figures, with failures.

A rule chooses the images, nobody's taste. Categories are ordered by image AUROC; of the best, the worst and
two between them, the defective image with the median score is shown. Then the failures: the defective image
that most normal ones of its category outscore, and the normal image that outscores most defective ones.
Maps are smoothed as in the evaluation, and all on the scale from 0 to 1.

Reads: `runs/demo/mini-test` (`make demo`), or the folder of another evaluation.

    python -m figures.qualitative [--folder runs/NAME/DATASET] [--publish]
"""

from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from sklearn.metrics import roc_auc_score

from fap_lib.core import paths
from fap_lib.data.images import load_image, load_mask, open_image
from fap_lib.data.manifest import MaskRule, read_manifest
from fap_lib.maps import pixel_maps
from fap_lib.pictures.style import COLOURS
from fap_lib.runs.record import read_run, result
from figures import needed, run, save_figure

FOLDER = "runs/demo/mini-test"
SHOWN = 4
"""Categories of which a typical image is shown."""

TITLES = ("image", "ground truth", "static map", "adapted map", "anomaly map")


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation left.

    scores: the columns of `scores.csv`. root: the dataset's folder. masks: (n,) paths or None.
    patches: (n, 2, N) abnormal probabilities, static and adapted. size, sigma: of the maps, in pixels.
    """

    scores: pd.DataFrame
    root: Path
    masks: list[str | None]
    rule: MaskRule
    patches: np.ndarray
    size: int
    sigma: float


def read(folder: Path) -> Evaluation:
    """Read the folder of an evaluation.

    Raises:
        KitError: it, or the dataset that it evaluated, is not there.
    """
    settings = read_run(needed(folder / "run.json", "make demo").parent)
    manifest = read_manifest(paths.dataset(settings["data"]["name"]))
    scores = pd.read_csv(result(folder, "scores.csv"))
    masks = {record.image: record.mask for record in manifest.records("test")}
    return Evaluation(
        scores,
        manifest.root,
        [masks[image] for image in scores["image"]],
        manifest.mask_rule,
        np.load(result(folder, "patch_maps.npy"), mmap_mode="r"),
        settings["settings"]["features"]["image_size"],
        settings["settings"]["scoring"]["sigma"],
    )


def choose(scores: pd.DataFrame) -> list[tuple[int, str]]:
    """Rows of `scores` to show, and why: `typical`, `missed` or `false alarm`. See the module's text.

    Args:
        scores: with the columns category, label (0 or 1) and score.
    """
    groups = dict(list(scores.groupby("category")))
    auroc = {name: roc_auc_score(own["label"], own["score"]) for name, own in groups.items()}
    order = sorted(auroc, key=lambda name: -auroc[name])
    places = np.linspace(0, len(order) - 1, min(SHOWN, len(order))).round().astype(int)
    chosen = []
    for place in places:
        defective = groups[order[place]].query("label == 1").sort_values("score", kind="stable")
        chosen.append((int(defective.index[len(defective) // 2]), "typical"))
    # The share of a category's other class that is on the wrong side of an image.
    wrong = pd.Series(0.0, index=scores.index)
    for own in groups.values():
        for place, row in own.iterrows():
            others = own[own["label"] != row["label"]]["score"]
            wrong[place] = ((others > row["score"]) if row["label"] == 1 else (others < row["score"])).mean()
    for label, why in ((1, "missed"), (0, "false alarm")):
        # Of equally wrong images the one whose score is furthest off.
        own = scores[scores["label"] == label].assign(wrong=wrong)
        own = own.sort_values(["wrong", "score"], ascending=[False, label == 1], kind="stable")
        chosen.append((int(own.index[0]), why))
    return chosen


def pictures(evaluation: Evaluation, place: int) -> list[np.ndarray]:
    """What is shown of an image, in the order of `TITLES`: (H, W, 3) uint8, (H, W) bool, three maps."""
    row, mask = evaluation.scores.loc[place], evaluation.masks[place]
    path, size = evaluation.root / row["image"], evaluation.size
    truth = np.zeros((size, size), dtype=bool)
    if mask:
        truth = load_mask(evaluation.root / mask, evaluation.rule, open_image(path).size, size)
    values = torch.from_numpy(np.array(evaluation.patches[place]))
    static, adapted = pixel_maps(values, size, evaluation.sigma).numpy()
    return [load_image(path, size), truth, static, adapted, (static + adapted) / 2]


def show(axes: np.ndarray, shown: list[np.ndarray]) -> AxesImage:
    """Draw an image's `pictures`, one an axis; the last map's artist is returned for a colour bar."""
    axes[0].imshow(shown[0])
    axes[1].imshow(shown[1], cmap="gray", vmin=0, vmax=1)
    drawn = [
        axis.imshow(map_, cmap=COLOURS, vmin=0, vmax=1)
        for axis, map_ in zip(axes[2:], shown[2:], strict=True)
    ]
    for axis in axes:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    return drawn[-1]


def draw(evaluation: Evaluation) -> Figure:
    """A column an image: itself, its mask, its static, its adapted and its anomaly map."""
    chosen = choose(evaluation.scores)
    rows = len(TITLES)
    figure, axes = plt.subplots(
        rows, len(chosen), figsize=(0.7 + 1.2 * len(chosen), 1.3 * rows), squeeze=False
    )
    for column, (place, why) in zip(axes.T, chosen, strict=True):
        row = evaluation.scores.loc[place]
        last = show(column, pictures(evaluation, place))
        column[0].set_title(f"{why}\n{row['category']}, {row['defect']}\nscore {row['score']:.2f}", size=8)
    for axis, title in zip(axes[:, 0], TITLES, strict=True):
        axis.set_ylabel(title)
    figure.colorbar(last, ax=axes[2:], label="abnormal probability", aspect=30)
    return figure


def main(publish: bool = False, folder: str | None = None) -> list[Path]:
    """Draw images, ground truth and maps of an evaluation."""
    found = paths.run(folder or FOLDER)
    return save_figure(draw(read(found)), "qualitative", "png" if publish else None, dpi=120)


if __name__ == "__main__":
    run(main)
