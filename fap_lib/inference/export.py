"""A detector as one graph for other runtimes: ONNX, and PyTorch's own exported program.

The graph takes RGB images and gives scores and maps. Image tower, static map, choice of patches, prior
network, the text tower's suffix over a fixed prefix, and the smoothing of maps are in it; what the prompts
say before they see an image is constant. Without the prior (DAP) all text is.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fap_lib import __version__
from fap_lib.clip.image_tower import ImageTower
from fap_lib.core.errors import KitError
from fap_lib.core.files import atomic, disk_errors, sha256
from fap_lib.core.sealed import read_sealed, write_sealed
from fap_lib.data.images import rgb
from fap_lib.inference.detector import Detector
from fap_lib.inference.pictures import Picture, decode, name_of
from fap_lib.maps import pixel_maps, resize_matrix, smoothing_matrix

OPSET = 20
"""Of the ONNX operators: onnxruntime reads it since 1.17 (early 2024)."""

MODEL, PROGRAM, ABOUT = "model.onnx", "model.pt2", "model.json"
VARIANTS = {"float16": "model-float16.onnx", "int8": "model-int8.onnx"}
"""Smaller ONNX files of the same graph: all weights in float16; matrix weights in int8, with activations
quantised as they come (dynamic)."""

LIMIT = 2**31
"""Bytes an ONNX file can hold."""


TILES_OUTSIDE = (
    "not in the graph, which scores one image or one tile; cut and merge as docs/large_images.md says: the "
    "thresholds are of the merged scores and maps"
)


class Graph(nn.Module):
    """A detector as one module: images (B, S, S, 3) uint8 to scores (B,) and maps (B, S, S), both in [0, 1].

    Features are rounded to float16 inside, as the kit's cache rounds them, so that the numbers are the kit's.
    """

    pixel_mean: Tensor
    pixel_std: Tensor
    map_matrix: Tensor

    def __init__(self, detector: Detector):
        super().__init__()
        features, size = detector.features, detector.features.image_size
        self.model = detector.model
        # The text tower's parts that run, so that their weights are the graph's; its table of words is not.
        self.blocks, self.ln_final = detector.model.text_tower.blocks, detector.model.text_tower.ln_final
        self.visual = detector.backbone.visual
        self._tower = ImageTower(self.visual, size, features.vv_blocks, features.class_norm)
        self._static = detector.static
        # Short names, such as `mean`, would clash with those the ONNX optimiser gives.
        conventions, grid = detector.backbone.conventions, self._tower.grid
        self.register_buffer("pixel_mean", torch.tensor(conventions.mean).view(3, 1, 1))
        self.register_buffer("pixel_std", torch.tensor(conventions.std).view(3, 1, 1))
        resize = smoothing_matrix(size, detector.sigma) @ resize_matrix(grid, size)
        self.register_buffer("map_matrix", resize.float())

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        pixels = (images.permute(0, 3, 1, 2).float() / 255 - self.pixel_mean) / self.pixel_std
        raw = self._tower(pixels)
        image, patches = (F.normalize(part, dim=-1).half().float() for part in (raw.image, raw.tokens[:, 1:]))
        prediction = self.model(image, patches, self._static)
        grid = self._tower.grid
        return prediction.score, self.map_matrix @ prediction.patch_map.unflatten(
            1, (grid, grid)
        ) @ self.map_matrix.T


def export(detector: Detector, folder: Path, variants: tuple[str, ...] = ()) -> list[Path]:
    """Write `model.onnx`, `model.pt2` and `model.json`, and the wanted variants, into a folder.

    Args:
        detector: on the CPU in float32. variants: names in `VARIANTS`.

    Returns:
        The files.

    Raises:
        KitError: a detector elsewhere or in another precision, prompts that choose patches by chance, a model
            too large for one file, the extra `export` not installed, a full disk.
    """
    need("onnx", "onnxscript", *(["onnxruntime"] if variants else []))
    if detector.device != "cpu" or next(detector.backbone.visual.parameters()).dtype != torch.float32:
        raise KitError('a graph is exported on the CPU in float32; load with device="cpu", dtype="float32".')
    if detector.model.settings.patch_selection == "random":
        raise KitError("prompts with selection = random draw patches by chance, which no graph does.")
    graph = Graph(detector).eval()
    size = sum(part.numel() * part.element_size() for part in graph.parameters())
    if size > LIMIT:
        raise KitError(f"the model has {size / 1e9:.1f} GB, and an ONNX file holds 2; use a smaller CLIP.")
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    side = detector.features.image_size
    example = torch.zeros(2, side, side, 3, dtype=torch.uint8)
    with torch.no_grad():
        program = torch.export.export(
            graph, (example,), dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=4096)},)
        )
    with atomic(folder / PROGRAM) as temporary, open(temporary, "wb") as file:
        torch.export.save(program, file)
    made = torch.onnx.export(
        program,
        dynamo=True,
        opset_version=OPSET,
        input_names=["images"],
        output_names=["score", "map"],
        verbose=False,
    )
    assert made is not None
    with atomic(folder / MODEL) as temporary:
        made.save(temporary, external_data=False)
    for name in variants:
        smaller(folder / MODEL, folder / VARIANTS[name], name)
    files = [folder / name for name in (MODEL, PROGRAM, *(VARIANTS[each] for each in variants))]
    digests = {path.name: sha256(path) for path in files}
    write_sealed(folder / ABOUT, {**describe(detector), "sha256": digests})
    return [*files, folder / ABOUT]


def describe(detector: Detector) -> dict[str, Any]:
    """What a program needs to know to use the graph."""
    limits, tiling = detector.threshold, detector.tiling
    return {
        "kit": __version__,
        "opset": OPSET,
        "input": "images: (batch, image_size, image_size, 3) uint8 RGB, resized by Pillow's bicubic filter",
        "output": "score: (batch,) float32; map: (batch, image_size, image_size) float32; both in [0, 1]",
        "image_size": detector.features.image_size,
        "sigma": detector.sigma,
        "threshold": limits and limits.score.threshold,
        "map_threshold": limits and limits.map.threshold,
        "calibration": limits and asdict(limits.score),
        "tiling": tiling and {**asdict(tiling), "note": TILES_OUTSIDE},
        "backbone": {"name": detector.backbone.name, "weights": detector.backbone.weights_sha256},
        "prompts": detector.about,
    }


def smaller(source: Path, target: Path, variant: str) -> None:
    """Write a variant of an exported model."""
    with atomic(target) as temporary:
        if variant == "float16":
            import onnx
            from onnxruntime.transformers.float16 import convert_float_to_float16

            onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=True), temporary)
        else:
            from onnxruntime.quantization import QuantType, quantize_dynamic

            quantize_dynamic(
                source, temporary, op_types_to_quantize=["MatMul", "Gemm"], weight_type=QuantType.QInt8
            )


@dataclass(frozen=True)
class Difference:
    """How far an exported file is from the detector, over some images; seconds: of one image on this CPU.

    score, map: the largest absolute differences. mean_map: the mean one.
    """

    file: str
    megabytes: float
    score: float
    map: float
    mean_map: float
    seconds: float


def compare(detector: Detector, folder: Path, images: Iterable[Picture]) -> list[Difference]:
    """Run each exported file in a folder, and the detector, on the same images, one at a time.

    Seconds are processor seconds on one thread. The first row is the detector itself.

    Raises:
        KitError: nothing exported there, or not as it was written; no images, one that cannot be read.
    """
    need("onnxruntime")
    files = [folder / name for name in (MODEL, *VARIANTS.values()) if (folder / name).is_file()]
    if not files:
        raise KitError(f"there is no exported model in {folder}; make one with `fap export`.")
    digests = read_sealed(folder / ABOUT, "description of an export", "export it again")["sha256"]
    for path in files:
        if sha256(path) != digests.get(path.name):
            raise KitError(f"{path} has changed since it was exported, or is damaged; export it again.")
    size = detector.features.image_size
    runs: dict[str, Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]] = {
        "detector (PyTorch)": _own(detector)
    }
    runs |= {path.name: partial(run, session(path, threads=1)) for path in files}
    found: dict[str, list[tuple[float, float, float, float]]] = {name: [] for name in runs}
    for index, picture in enumerate(images):
        image = decode(picture, name_of(picture, index))
        pixels = rgb(image, size, detector.features.stored_resize)[None]
        expected = None
        for name, judge in runs.items():
            start = time.process_time()
            score, values = judge(pixels)
            seconds = time.process_time() - start
            expected = expected or (score, values)
            apart = np.abs(values - expected[1])
            found[name].append(
                (float(abs(score - expected[0])[0]), float(apart.max()), float(apart.mean()), seconds)
            )
    if not found["detector (PyTorch)"]:
        raise KitError("there are no images to compare on; give some.")
    rows = []
    for name, all_ in found.items():
        scores, worst, means, times = (np.array(column) for column in zip(*all_, strict=True))
        place = folder / name
        megabytes = place.stat().st_size / 1e6 if place.is_file() else 0.0
        rows.append(
            Difference(
                name,
                megabytes,
                float(scores.max()),
                float(worst.max()),
                float(means.mean()),
                float(np.median(times)),
            )
        )
    return rows


def _own(detector: Detector) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """The detector as `run` is: scores and maps of images at the scored size."""

    def judge(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        prediction = detector.forward(pixels)
        maps = pixel_maps(prediction.patch_map, detector.features.image_size, detector.sigma)
        return prediction.score.numpy(), maps.numpy()

    return judge


def need(*packages: str) -> None:
    """Refuse to go on without packages of the extra `export`.

    Raises:
        KitError: names the missing one and how to get it.
    """
    from importlib.util import find_spec

    for package in packages:
        if find_spec(package) is None:
            raise KitError(
                f"the package {package} is missing; install it with: pip install 'faprompt-kit[export]'."
            )


def session(path: Path, threads: int = 0) -> Any:
    """onnxruntime's session of a model on the CPU; threads: 0 leaves the number to it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run(model: Any, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores (B,) and maps (B, S, S) of images (B, S, S, 3) uint8 by onnxruntime."""
    score, maps = model.run(["score", "map"], {"images": images})
    return score, maps
