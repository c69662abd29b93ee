"""What tiles gain, what they cost, and when they hurt: the mini world, drawn large, with small defects.

    python -m benchmarks.tiling         about four minutes on one core

Whole images against tiles, by the prompts that ship with the kit: images of 384 pixels a side (scale 4; the
mini CLIP sees 96), and of 96. Structural faults of objects grow with the image, all other defects do not, so
that they have columns of their own. Then one large photo, for time and memory. Writes
`benchmarks/results/tiling.json`; `python -m benchmarks.pages` puts its tables into `docs/large_images.md`.
"""

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from benchmarks import detector_tables, pages
from benchmarks.detector_tables import GROWN, LAID, TILING
from benchmarks.measure import processor
from data_prep.mini.benchmark import SIZE_FACTOR
from data_prep.mini.canvas import SIZE, STRUCTURAL
from data_prep.mini.generator import KINDS, Sample, kinds_of, sample
from data_prep.mini.sets import SETS
from data_prep.workers import spread
from fap_lib.core.files import write_json
from fap_lib.core.progress import bar
from fap_lib.evaluation.metrics import image_metrics, pixel_metrics
from fap_lib.inference.detector import Detector
from fap_lib.runs.record import peak_memory_mb

GOOD, EACH, EACH_STRUCTURAL = 20, 2, 12
"""Images a category: normal, of each defect, and of each structural fault."""

SEED = 900
"""No dataset's images begin their seeds with it."""

WAYS = ((4, None), (4, 192), (4, 96), (1, None), (1, 48))
"""Scale of the images, and side of the tiles in pixels."""

PHOTOS = ((1500, 1000, 518), (3000, 2000, 518), (6000, 4000, 518))
"""Width, height and tile of the photos whose cost is measured."""


def drawn(scale: int) -> Iterator[tuple[str, str, Sample]]:
    """Category, kind of defect (`good` without one) and image."""
    for place, category in enumerate(SETS["mini-test"].categories):
        counts = [("good", GOOD)]
        counts += [(k, EACH_STRUCTURAL if k in STRUCTURAL else EACH) for k in kinds_of(category)]
        for kind, count in counts:
            which = 0 if kind == "good" else 1 + KINDS.index(kind)
            for index in range(count):
                seed = [SEED, place, which, index]
                defect = None if kind == "good" else kind
                yield category, kind, sample(category, defect, seed, SIZE_FACTOR, scale)


def measure(scale: int, tile: int | None) -> dict[str, Any]:
    """Metrics and processor seconds of one way; means over categories, in per cent."""
    detector = Detector.load("paper", device="cpu", tile=tile)
    found = defaultdict(list)
    seconds = 0.0
    images = list(drawn(scale))
    for category, kind, one in bar(images, f"scale {scale}, tiles {tile}", len(images)):
        start = time.process_time()
        result = detector.predict(one.pixels)
        values = result.map
        seconds += time.process_time() - start
        found[category].append((group(category, kind), result.score, values, one.mask))
    figures = [metrics(rows) for rows in found.values()]
    names = ("image", LAID, *GROWN.values(), "pixel", "aupro")
    means = {name: [each[name] for each in figures if name in each] for name in names}
    return {
        "scale": scale,
        "side": SIZE * scale,
        "tile": tile,
        "tiles": tiles_of(detector, SIZE * scale, SIZE * scale),
        "images": len(images),
        "seconds": seconds / len(images),
        **{name: 100 * float(np.mean(values)) for name, values in means.items() if values},
    }


def group(category: str, kind: str) -> str:
    """Whether an image is good, or how its defect grows."""
    if kind == "good":
        return kind
    return GROWN[category] if kind in STRUCTURAL and category in GROWN else LAID


def metrics(rows: Sequence[tuple[str, float, np.ndarray, np.ndarray]]) -> dict[str, float]:
    """Metrics of one category: image AUROC of all and of each group against the good ones; of pixels at the
    images' own size."""
    groups, scores, maps, masks = zip(*rows, strict=True)
    kinds, values = np.array(groups), np.array(scores)
    figures = {"image": auroc(kinds != "good", values)}
    for name in {*groups} - {"good"}:
        kept = (kinds == "good") | (kinds == name)
        figures[name] = auroc(kinds[kept] != "good", values[kept])
    pixels = torch.from_numpy(np.stack(maps)), torch.from_numpy(np.stack(masks))
    named = {metric.name: metric.value or 0.0 for metric in pixel_metrics(lambda: [pixels])}
    return figures | {"pixel": named["auroc"], "aupro": named["aupro_official"]}


def auroc(labels: np.ndarray, scores: np.ndarray) -> float:
    value = image_metrics(labels.astype(int), scores)[0].value
    assert value is not None
    return value


def cost(size: tuple[int, int, int]) -> dict[str, Any]:
    """Processor seconds and memory of one photo (width, height, tile); run it in a fresh process.

    grown: how much the peak of resident memory rose from one small image to this one, in MiB.
    """
    width, height, tile = size
    torch.set_num_threads(1)
    detector = Detector.load("paper", device="cpu", tile=tile)
    photo = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    _ = detector.predict(photo[:SIZE, :SIZE]).map
    before, start = peak_memory_mb(), time.process_time()
    _ = detector.predict(photo).map
    return {
        "width": width,
        "height": height,
        "tile": tile,
        "tiles": tiles_of(detector, width, height),
        "batch": detector.batch_size,
        "seconds": time.process_time() - start,
        "grown": peak_memory_mb() - before,
    }


def tiles_of(detector: Detector, width: int, height: int) -> int:
    """How many tiles a detector cuts an image into."""
    grid = detector.tiling.grid(width, height) if detector.tiling else None
    return len(grid.boxes()) if grid else 0


def main() -> None:
    """Measure everything and write results and pages."""
    torch.set_num_threads(1)
    photos: list[dict[str, Any]] = []
    for photo in PHOTOS:  # first, while this process is small: a child's peak begins at its parent's
        photos += spread(cost, [photo], "a large photo", 1)
    about = {"cpu": processor(), "torch": torch.__version__}
    write_json(TILING, {"about": about, "ways": [measure(*way) for way in WAYS], "photos": photos})
    pages.write_pages()
    made = detector_tables.tables()
    print(made["tiling quality"], made["tiling cost"], sep="\n\n")


if __name__ == "__main__":
    main()
