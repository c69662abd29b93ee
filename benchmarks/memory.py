"""Whether a detector's memory depends on how many images it sees: peak memory after more and more of them.

    python -m benchmarks.memory --images 100000

The tiny CLIP of random weights judges them, because the question is memory and not quality. A hundred
thousand take about five processor minutes. Writes `benchmarks/results/memory.json`; `benchmarks.pages` puts
its line into `docs/detector.md`.
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from benchmarks import pages
from benchmarks.detector_tables import MEMORY
from fap_lib.checkpoints import save_prompts
from fap_lib.clip.backbone import TINY, load_backbone
from fap_lib.core.config import FeatureSettings, ModelSettings
from fap_lib.core.files import write_json
from fap_lib.inference.detector import Detector
from fap_lib.model import FAPrompt
from fap_lib.runs.record import peak_memory_mb

SIDE = 256
"""Pixels of a side of each image."""


def main() -> None:
    """Measure, and write results and pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    chosen = parser.parse_args()
    detector = _detector()
    marks = [chosen.images // 100 * part for part in (5, 25, 50, 100)]
    peaks: dict[int, int] = {}
    start = time.process_time()
    for result in detector.predict(_images(chosen.images)):
        assert result.map.shape == (SIDE, SIDE)
        if result.index + 1 in marks:
            peaks[result.index + 1] = peak_memory_mb()
            seconds = time.process_time() - start
            print(f"{result.index + 1:8} images  {peak_memory_mb()} MiB at most  {seconds:.1f} s", flush=True)
    write_json(MEMORY, {"side": SIDE, "peaks": peaks})
    pages.write_pages()


def _images(count: int) -> Iterator[np.ndarray]:
    random = np.random.default_rng(0)
    for _ in range(count):
        yield np.full((SIDE, SIDE, 3), random.integers(256), np.uint8)


def _detector() -> Detector:
    torch.manual_seed(0)
    backbone = load_backbone(TINY)
    settings = FeatureSettings(backbone=TINY, image_size=42, vv_blocks=2)
    model = FAPrompt(backbone.text_tower, ModelSettings(deep_layers=2, n_patches=5), backbone.patch_width)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "prompts.safetensors"
        save_prompts(path, model, backbone, settings, {})
        return Detector.load(path)


if __name__ == "__main__":
    main()
