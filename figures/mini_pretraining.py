"""The mini CLIP's pre-training: its losses, and how often a region finds its own caption. Not in the paper.

Reads: `benchmarks/results/pretrain-mini.jsonl`, or the log of another run of `fap mini pretrain`.

    python -m figures.mini_pretraining [--log FILE] [--publish]
"""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from fap_lib.clip.mini import MINI
from fap_lib.core import paths
from figures import needed, run, save_figure
from pretraining.recipes import RECIPES

LOG = paths.REPOSITORY / "benchmarks" / "results" / "pretrain-mini.jsonl"


def draw(log: pd.DataFrame) -> Figure:
    """Losses, and the share of regions that find their caption.

    Args:
        log: lines of the log, with the column `step`.
    """
    # Batches differ in how alike their images are; a running mean shows the course.
    lines = log.set_index("step").rolling(15, min_periods=1).mean()
    figure, (losses, found) = plt.subplots(1, 2, figsize=(7.5, 2.8))
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
        found.text(end + 60, 4, f"{side} px", fontsize=8)
        end += share * recipe.steps
    return figure


def main(publish: bool = False, log: str | None = None) -> list[Path]:
    """Draw the course of a pre-training."""
    path = needed(Path(log) if log else LOG, "fap mini pretrain FOLDER")
    return save_figure(
        draw(pd.read_json(path, lines=True)), "mini_pretraining", "png" if publish else None, dpi=110
    )


if __name__ == "__main__":
    run(main)
