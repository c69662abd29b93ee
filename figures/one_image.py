"""One image, its mask and its maps: what FAPrompt does, in a row.

A rule chooses the image: of all defective ones, that whose gain in pixel AP from the static map to the
anomaly map is the median. It is typical, and not the best.

Reads: `runs/demo/mini-test` (`make demo`), or the folder of another evaluation.

    python -m figures.one_image [--folder runs/NAME/DATASET] [--publish]
"""

from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from sklearn.metrics import average_precision_score

from fap_lib.core import paths
from figures import run, save_figure
from figures.qualitative import FOLDER, TITLES, Evaluation, pictures, read, show


def choose(evaluation: Evaluation) -> int:
    """The row of `evaluation.scores` to show; see the module's text."""
    gains = {}
    for place in evaluation.scores.query("label == 1").index:
        _, truth, static, _, anomaly = pictures(evaluation, place)
        if truth.any():
            before, after = (
                average_precision_score(truth.ravel(), map_.ravel()) for map_ in (static, anomaly)
            )
            gains[place] = after - before
    return sorted(gains, key=lambda place: (gains[place], place))[len(gains) // 2]


def draw(evaluation: Evaluation) -> Figure:
    """A row: the image, its mask, its static, its adapted and its anomaly map."""
    place = choose(evaluation)
    row = evaluation.scores.loc[place]
    figure, axes = plt.subplots(1, len(TITLES), figsize=(10.2, 2.3), layout="constrained")
    last = show(axes, pictures(evaluation, place))
    for axis, title in zip(axes, (f"{row['category']}, {row['defect']}", *TITLES[1:]), strict=True):
        axis.set_title(title, size=11)
    figure.colorbar(last, ax=axes, label="abnormal probability", aspect=18)
    return figure


def main(publish: bool = False, folder: str | None = None) -> list[Path]:
    """Draw one image of an evaluation with its maps."""
    return save_figure(
        draw(read(paths.run(folder or FOLDER))), "one_image", "png" if publish else None, dpi=120
    )


if __name__ == "__main__":
    run(main)
