"""The mini CLIP's pre-training: its losses, and how often a region finds its own caption.

python -m figures.mini_pretraining [LOG]
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from data_prep.mini.pretrain import RECIPES
from fap_lib.files import atomic
from fap_lib.mini import MINI

LOG = Path(__file__).parent.parent / "benchmarks" / "results" / "pretrain-mini.jsonl"


def main(log: Path = LOG) -> None:
    # Batches differ in how alike their images are; a running mean shows the course.
    lines = pd.read_json(log, lines=True).set_index("step").rolling(15, min_periods=1).mean()
    figure, (losses, found) = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
    for name, title in (("image", "images"), ("region", "regions"), ("kind", "looks, same category")):
        losses.plot(lines.index, lines[name], label=title)
    losses.set(xlabel="step", ylabel="loss, mean of 15 logged steps", ylim=0)
    losses.legend(fontsize=8)
    found.plot(lines.index, 100 * lines["found"], color="black")
    found.set(xlabel="step", ylabel="regions that find their caption, %", ylim=(0, 100))
    recipe, end = RECIPES[MINI], 0.0
    for share, side, _ in recipe.stages:
        for axis in (losses, found):
            axis.axvline(end, color="grey", linewidth=0.6)
        found.text(end + 30, 4, f"{side} px", fontsize=8)
        end += share * recipe.steps
    with atomic(Path(__file__).with_suffix(".png")) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:2]))
