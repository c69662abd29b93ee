"""How far exported graphs are from PyTorch, how large, and how fast: the shipped prompts on generated images.

    python -m benchmarks.export         about a minute

Writes `benchmarks/results/export.json`; `python -m benchmarks.pages` puts its table into `docs/export.md`.
`fap export --check` makes the same comparison on images of your own.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from benchmarks import detector_tables, pages
from benchmarks.detector_tables import EXPORT
from benchmarks.measure import processor
from data_prep.mini.benchmark import SIZE_FACTOR
from data_prep.mini.generator import kinds_of, sample
from fap_lib.core.files import write_json
from fap_lib.inference.detector import Detector
from fap_lib.inference.export import VARIANTS, compare, export

DRAWN = ("leather", "pill", "nut")
"""Categories of `mini-test`: a surface, and objects with and without print."""

SEED = 901
"""No dataset's images begin their seeds with it."""


def images() -> Iterator[np.ndarray]:
    """A normal image of each category, and one of each of its defects."""
    for place, category in enumerate(DRAWN):
        for number, kind in enumerate((None, *kinds_of(category))):
            yield sample(category, kind, [SEED, place, number], SIZE_FACTOR).pixels


def main() -> None:
    """Export, compare, and write results and pages."""
    import onnxruntime

    torch.set_num_threads(1)
    detector = Detector.load("paper", device="cpu", dtype="float32")
    drawn = list(images())
    with tempfile.TemporaryDirectory() as name:
        export(detector, Path(name), tuple(VARIANTS))
        rows = [asdict(row) for row in compare(detector, Path(name), drawn)]
    about = {
        "cpu": processor(),
        "torch": torch.__version__,
        "onnxruntime": onnxruntime.__version__,
        "images": len(drawn),
        "categories": DRAWN,
    }
    write_json(EXPORT, {"about": about, "rows": rows})
    pages.write_pages()
    print(detector_tables.tables()["export"])


if __name__ == "__main__":
    main()
