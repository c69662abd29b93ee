"""How fast the kit is, against the official order of computation, both measured in one run.

    python -m benchmarks.bench [--large] [--repeat N] [--out FOLDER]

Each row first checks that both sides give the same values, then measures them in turns and reports
medians. `--large` takes the paper's ViT-L/14@336px at 518 pixels (random weights); otherwise a small
CLIP of the same structure.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from sklearn.metrics import average_precision_score, roc_auc_score

from benchmarks import plain
from fap_lib.clip import RANDOM, TINY, Backbone, load_backbone
from fap_lib.config import ModelSettings, TrainSettings
from fap_lib.files import write_json, write_text
from fap_lib.maps import pixel_maps, smooth
from fap_lib.metrics import pixel_metrics
from fap_lib.model import FAPrompt
from fap_lib.training import losses, make_optimiser

SIGMA = 10.0
BATCH = 8

Row = tuple[str, Callable[[], object], Callable[[], object]]
"""Name, official order, kit."""


def median_seconds(functions: list[Callable[[], object]], repeat: int) -> list[float]:
    """Median time of each function, called in turns so that a busy moment of the machine hits all."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(repeat):
        for function, spent in zip(functions, times, strict=True):
            start = time.perf_counter()
            function()
            spent.append(time.perf_counter() - start)
    return [statistics.median(spent) for spent in times]


def method_rows(backbone: Backbone, model: FAPrompt, size: int, vv_blocks: int) -> Iterator[Row]:
    """Scoring one image in two precisions, and a training step from cached features."""
    generator = torch.manual_seed(0)
    pixels = torch.randn(BATCH, 3, size, size, generator=generator)
    one = pixels[:1]

    def kit_score(tower_backbone: Backbone) -> Callable[[], tuple[float, torch.Tensor]]:
        tower = tower_backbone.image_tower(size, vv_blocks)
        with torch.no_grad():
            static = model.static_text()
        fitting = one.to(tower_backbone.visual.conv1.weight.dtype)

        def run() -> tuple[float, torch.Tensor]:
            with torch.no_grad():
                raw = tower(fitting)
                image = F.normalize(raw.image.float(), dim=-1)
                prediction = model(image, F.normalize(raw.tokens[:, 1:].float(), dim=-1), static)
                return float(prediction.score), pixel_maps(prediction.patch_map, size, SIGMA)[0]

        return run

    def plain_score() -> tuple[float, np.ndarray]:
        return plain.score_image(backbone.clip, model, one, vv_blocks, SIGMA)

    def agree(kit: Callable[[], tuple[float, torch.Tensor]], limit: float) -> None:
        (score, maps), (expected, expected_maps) = kit(), plain_score()
        assert abs(score - expected) < limit, (score, expected)
        assert np.abs(maps.numpy() - expected_maps).max() < limit

    full = kit_score(backbone)
    agree(full, 1e-4)
    yield "one image scored, float32", plain_score, full

    settings = TrainSettings()
    label = torch.arange(BATCH) % 2
    mask = torch.zeros(BATCH, size, size)
    mask[1::2, size // 3 : size // 2, size // 3 : size // 2] = 1
    raw = backbone.image_tower(size, vv_blocks)(pixels)
    image, patches = F.normalize(raw.image, dim=-1), F.normalize(raw.tokens[:, 1:], dim=-1)
    optimiser = make_optimiser(model, settings)

    def plain_loss() -> torch.Tensor:
        return plain.training_loss(backbone.clip, model, pixels, label, mask, vv_blocks, settings)

    def kit_loss() -> torch.Tensor:
        static = model.static_text()
        return losses(model(image, patches, static), static, label, mask, settings)["total"]

    def step(loss: Callable[[], torch.Tensor]) -> Callable[[], None]:
        def run() -> None:
            optimiser.zero_grad()
            loss().backward()  # no optimiser.step: the parameters must stay equal for both sides

        return run

    with torch.no_grad():
        expected, found = float(plain_loss()), float(kit_loss())
    assert abs(found - expected) < 1e-4 * abs(expected), (found, expected)
    yield f"training step of {BATCH}, from pixels / from the cache", step(plain_loss), step(kit_loss)

    low = load_backbone(backbone.name, RANDOM).to("cpu", "bfloat16")
    half = kit_score(low)
    agree(half, 2e-2)
    yield "one image scored, bfloat16 / float32", plain_score, half


def metric_rows(count: int = 6, size: int = 518) -> Iterator[Row]:
    """Metrics and smoothing on smooth maps of the paper's size."""
    random = np.random.default_rng(0)
    fields = [gaussian_filter(random.standard_normal((size, size)), 20) for _ in range(count)]
    masks = np.stack([field > 0.02 for field in fields])
    noise = [gaussian_filter(random.standard_normal((size, size)), 10) for _ in range(count)]
    maps = np.stack([2 * m + 30 * n for m, n in zip(masks, noise, strict=True)])
    maps = (1 / (1 + np.exp(-maps))).astype(np.float32)
    tensors = torch.from_numpy(maps), torch.from_numpy(masks)

    def kit() -> dict[str, float | None]:
        return {metric.name: metric.value for metric in pixel_metrics(lambda: iter([tensors]))}

    def aupro() -> float:
        return plain.aupro(masks, maps)

    def ranking() -> tuple[float, float]:
        truth, score = masks.ravel(), maps.ravel()
        return roc_auc_score(truth, score), average_precision_score(truth, score)

    found = kit()
    assert abs(found["aupro_official"] - aupro()) < 1e-12
    assert np.allclose([found["auroc"], found["ap"]], ranking(), atol=1e-5)
    yield f"official AUPRO, {count} maps / all pixel metrics", aupro, kit
    yield f"pixel AUROC and AP by scikit-learn, {count} maps / all pixel metrics", ranking, kit

    def blur() -> np.ndarray:
        return np.stack([gaussian_filter(each, SIGMA) for each in maps])

    def matrices() -> torch.Tensor:
        return smooth(tensors[0], SIGMA)

    assert np.abs(matrices().numpy() - blur()).max() < 1e-5
    yield f"Gaussian smoothing, {count} maps", blur, matrices


def main() -> None:
    """Measure, print and write `bench.json` and `bench.md`."""
    parser = argparse.ArgumentParser(description="The kit against the official order of computation.")
    parser.add_argument("--large", action="store_true", help="ViT-L/14@336px at 518 pixels")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("build/bench"))
    chosen = parser.parse_args()
    name, size, vv_blocks, deep = ("ViT-L-14-336-quickgelu", 518, 19, 8) if chosen.large else (TINY, 98, 2, 2)
    backbone = load_backbone(name, RANDOM)
    torch.manual_seed(0)
    model = FAPrompt(backbone.text_tower, ModelSettings(deep_layers=deep), backbone.patch_width)

    rows = []
    for source in (method_rows(backbone, model, size, vv_blocks), metric_rows()):
        for title, official, kit in source:
            slow, fast = median_seconds([official, kit], chosen.repeat)
            rows.append({"row": title, "official_s": slow, "kit_s": fast, "ratio": slow / fast})
            print(f"{title:64} {slow:9.4f} s  {fast:9.4f} s  {slow / fast:8.1f} x", flush=True)
    threads = torch.get_num_threads()
    head = f"{name} (random weights), {size} px, CPU, {threads} threads, median of {chosen.repeat}"
    lines = [f"| {head} | official order, s | kit, s | ratio |", "|---|---|---|---|"]
    lines += [f"| {r['row']} | {r['official_s']:.4f} | {r['kit_s']:.4f} | {r['ratio']:.1f} |" for r in rows]
    write_json(chosen.out / "bench.json", {"setting": head, "rows": rows})
    write_text(chosen.out / "bench.md", "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
