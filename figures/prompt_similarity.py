"""How alike the prompts are: cosines of the text features, as in the paper's analysis of its prompts.

The normal prompt and the K abnormality prompts, as learned (static) and as adapted to one image, which is the
defective one with the highest score.

Reads: `data/mini-test` (`make demo`) and the prompts that ship with the kit, or others.

    python -m figures.prompt_similarity [--prompts released]
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from fap_lib.core import paths
from fap_lib.lessons.lesson import Lesson, open_lesson
from fap_lib.model import Prediction
from fap_lib.pictures.prompts import SIGNED
from fap_lib.runs.parameters import LessonRun
from figures import needed, run, save_figure

DATA = "mini-test"


def cosines(lesson: Lesson) -> tuple[Tensor, Tensor, int]:
    """Cosines (1 + K, 1 + K) of the normal and the abnormality prompts, static and adapted; and the image.

    The image is the defective one of the dataset with the highest score.
    """
    cache, model = lesson.cache, lesson.model
    with torch.inference_mode():
        static = model.static_text()
        defective = np.array([place for place, label in enumerate(cache.labels) if label == 1])
        batches = np.array_split(defective, max(1, len(defective) // 32))

        def predict(index: np.ndarray) -> Prediction:
            return model(*cache.features(index, lesson.device), static, cache.seeds(index))

        chosen = int(defective[int(torch.cat([predict(part).score for part in batches]).argmax())])
        prediction = predict(np.array([chosen]))
        found = [static.abnormal, static.abnormal]
        if prediction.prior is not None:
            found[1] = model.adapted_text(static.prefix, prediction.prior)[0]
    unit = [F.normalize(torch.cat([static.normal[None], each]), dim=-1).cpu() for each in found]
    before, after = (each @ each.T for each in unit)
    return before, after, chosen


def draw(lesson: Lesson) -> Figure:
    """Two matrices on the scale -1 to 1."""
    *both, chosen = cosines(lesson)
    record = lesson.cache.records[chosen]
    names = ["normal", *(str(number + 1) for number in range(len(both[0]) - 1))]
    figure, axes = plt.subplots(1, 2, figsize=(7.5, 3.7))
    titles = ("static", f"adapted to one image\n({record.category}, {record.defect})")
    for axis, values, title in zip(axes, both, titles, strict=True):
        shown = axis.imshow(values.numpy(), cmap=SIGNED, vmin=-1, vmax=1)
        axis.set(title=title, xticks=range(len(names)), yticks=range(len(names)), xlabel="prompt")
        axis.set_xticklabels(names, size=7)
        axis.set_yticklabels(names, size=7)
        axis.tick_params(axis="x", labelrotation=45)
        for (row, column), value in np.ndenumerate(values.numpy()):
            dark = abs(value) > 0.6
            axis.text(
                column,
                row,
                f"{round(float(value), 1) + 0.0:.1f}",
                ha="center",
                va="center",
                size=5.5,
                color="white" if dark else "black",
            )
    figure.colorbar(shown, ax=axes, label="cosine", shrink=0.85)
    return figure


def main(prompts: str | None = None) -> list[Path]:
    """Draw how alike the prompts are."""
    needed(paths.dataset(DATA) / "meta.json", "make demo")
    lesson = open_lesson(LessonRun(data=DATA, prompts=prompts or "paper"))
    return save_figure(draw(lesson), "prompt_similarity")


if __name__ == "__main__":
    run(main)
