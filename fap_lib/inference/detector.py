"""A detector: prompts and their CLIP as one object that takes images and gives scores and maps."""

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, overload

import numpy as np
import torch
from PIL import Image
from pydantic import TypeAdapter

from fap_lib.checkpoints import Checkpoint, read_header, save_prompts
from fap_lib.clip import mini
from fap_lib.clip.backbone import Backbone, device_name, load_backbone
from fap_lib.clip.state_file import is_safetensors
from fap_lib.core import arguments
from fap_lib.core.config import FeatureSettings, Precision, load_profile, profile_of
from fap_lib.core.errors import KitError
from fap_lib.core.untrusted import door
from fap_lib.data.encoding import BATCH, encode
from fap_lib.data.images import as_rgb, rgb
from fap_lib.evaluation.calibration import Calibration, calibrate
from fap_lib.inference.pictures import Picture, decode, is_single, name_of
from fap_lib.inference.result import Evidence, Result, WholeMap
from fap_lib.inference.tiles import OVERLAP, Grid, TiledMap, Tiling
from fap_lib.model import Prediction
from fap_lib.official.checkpoint import open_prompts
from fap_lib.official.inspection import check_fits

SHIPPED = ("paper", "released")
"""Prompts that come with the kit, learned on its own mini CLIP."""

KEPT = "threshold"
"""What a checkpoint's facts call the threshold that `Detector.save` put there."""

TILED = "tiling"
"""What they call the tiling that the threshold belongs to."""

Errors = Literal["raise", "skip"]


class Threshold(NamedTuple):
    """Two limits from the same normal images.

    score: above it an image is flagged. map: above it a pixel is inside the outline.
    """

    score: Calibration
    map: Calibration

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        return {name: asdict(part) for name, part in self._asdict().items()}

    @classmethod
    def parse(cls, plain: dict[str, Any]) -> Self:
        """From what `plain` made.

        Raises:
            ValueError, KeyError, TypeError: it is nothing of the kind.
        """
        known = TypeAdapter(Calibration)
        return cls(*(known.validate_json(json.dumps(plain[name]), strict=True) for name in cls._fields))


class _Seen(NamedTuple):
    """What the model says of a view: an image at the scored size, or one of its tiles."""

    score: float
    probability: float
    map: WholeMap


@dataclass(frozen=True)
class _Ready:
    """A decoded image. whole: (S, S, 3) uint8 at the scored size. image, grid: for the tiles of a large one.

    seen: what was found out so far, the whole's first.
    """

    name: str
    index: int
    width: int
    height: int
    whole: np.ndarray
    image: Image.Image | None
    grid: Grid | None
    seen: list[_Seen] = field(default_factory=list)

    def views(self) -> Iterator[np.ndarray]:
        """What is to be judged, (S, S, 3) uint8 each; tiles are cut as they are asked for."""
        yield self.whole
        if self.image and self.grid:
            yield from self.grid.views(self.image, len(self.whole))

    @property
    def finished(self) -> bool:
        return len(self.seen) == 1 + (len(self.grid.boxes()) if self.grid else 0)


class Predictions(Iterator[Result]):
    """Results in the order of the images, made as they are asked for.

    skipped: with `errors="skip"`, one sentence for each image that could not be read so far.
    """

    def __init__(self, results: Callable[[list[str]], Iterator[Result]]):
        self.skipped: list[str] = []
        self._results = results(self.skipped)

    def __next__(self) -> Result:
        return next(self._results)


class Detector:
    """FAPrompt with one set of prompts, ready for images. Make it with `Detector.load`.

    Scores and maps are those of the notebooks and of `fap evaluate`, to the last rounding of a batch.
    `predict` changes nothing, so that threads may share a detector and call it at the same time; `calibrate`
    replaces the threshold and is not for such a moment.
    """

    def __init__(
        self,
        backbone: Backbone,
        checkpoint: Checkpoint,
        sigma: float,
        device: str,
        batch_size: int = BATCH,
        tiling: Tiling | None = None,
    ):
        """Args:
        sigma: smoothing of maps, in pixels of the scored image. batch_size: images or tiles encoded at once.
        """
        self.backbone = backbone
        self.features = checkpoint.features
        self.about = checkpoint.about
        self.model = checkpoint.model.to(device).eval()
        self.sigma = sigma
        self.device = device
        self.batch_size = batch_size
        self.tiling = tiling
        self.threshold: Threshold | None = None
        self._tower = backbone.image_tower(
            self.features.image_size, self.features.vv_blocks, self.features.class_norm
        )
        with torch.inference_mode():
            self.static = self.model.static_text()

    @classmethod
    def load(
        cls,
        prompts: str | Path = "paper",
        *,
        device: str = "auto",
        dtype: Precision | None = None,
        weights: str | Path | None = None,
        profile: str | None = None,
        batch_size: int = BATCH,
        tile: int | None = None,
        overlap: float = OVERLAP,
    ) -> Self:
        """Load prompts and the CLIP they were learned on.

        Args:
            prompts: `paper` or `released`, which ship with the kit; a file of the kit, with or without a
                threshold (`save`); or the authors' `.pth`.
            device: `auto` (a GPU where there is one), `cpu` or `cuda`. dtype: of the image tower; by default
                as the prompts were learned.
            weights: a file of CLIP's weights; by default what the prompts name, or open_clip's download.
            profile: settings that the file does not hold; by default those of its CLIP, and `paper` for a
                `.pth`.
            tile: cut images that are larger than so many pixels into tiles of this side (`inference.tiles`);
                0 cuts none, None does as the file was saved. overlap: of neighbouring tiles, as a share. A
                saved threshold is of scores made in one way; loaded for another, the detector has none.

        Raises:
            KitError: no such prompts or weights, prompts of another CLIP, a damaged file, an unknown device,
                a tile or overlap that makes no sense.
        """
        device = device_name(device)
        wanted = Tiling(tile, overlap) if tile else None
        path = mini.prompts(str(prompts)) if prompts in SHIPPED else arguments.place(prompts)
        backbone, checkpoint, sigma = _open(path, weights, profile)
        backbone.to(device, dtype or checkpoint.features.precision)
        about = checkpoint.about
        with door(path, "a detector's file"):
            saved = Tiling(**about[TILED]) if about.get(TILED) else None
            threshold = Threshold.parse(about[KEPT]) if about.get(KEPT) else None
        detector = cls(backbone, checkpoint, sigma, device, batch_size, saved if tile is None else wanted)
        if detector.tiling == saved:
            detector.threshold = threshold
        return detector

    @overload
    def predict(self, images: Picture, errors: Errors = "raise") -> Result: ...  # type: ignore[overload-overlap]
    @overload
    def predict(self, images: Iterable[Picture], errors: Errors = "raise") -> Predictions: ...

    def predict(self, images: Picture | Iterable[Picture], errors: Errors = "raise") -> Result | Predictions:
        """Score one image, or many.

        Args:
            images: a path, a Pillow image or an array (H, W, 3) of uint8; or an iterable of them. An iterable
                is read as results are asked for, at most three batches ahead (with tiles, a batch and three
                images), so it may be endless.
            errors: what an unreadable image among many does: `raise`, or `skip`, which leaves it out and adds
                its sentence to `Predictions.skipped`.

        Raises:
            KitError: an image cannot be read; the sentence names it. A device without memory left.
        """
        if errors not in ("raise", "skip"):
            raise KitError(f"errors = {errors!r} is unknown; use raise or skip.")
        if is_single(images):
            return next(Predictions(lambda skipped: self._stream([images], "raise", skipped)))  # type: ignore[list-item]
        if not isinstance(images, Iterable):
            decode(images, name_of(images, 0))  # says what it is, and what would do
        return Predictions(lambda skipped: self._stream(images, errors, skipped))  # type: ignore[arg-type]

    def calibrate(self, normal_images: Iterable[Picture], alpha: float = 0.05) -> Calibration:
        """Choose the threshold above which an image is flagged, from normal images alone.

        Of new images like these, a share of at most `alpha` is flagged, in the mean over such calibrations
        (notebook 10). The level of a map's outline is chosen the same way, from the largest value of each
        normal image's map.

        Raises:
            KitError: too few images for this alpha, or one that cannot be read.
        """
        found = [(result.score, float(result.map.max())) for result in self.predict(normal_images)]
        scores, peaks = np.array(found).reshape(-1, 2).T
        self.threshold = Threshold(calibrate(scores, alpha), calibrate(peaks, alpha))
        return self.threshold.score

    def save(self, path: str | Path) -> None:
        """Write prompts, tiling and threshold as one file, for `load` on any machine with the same CLIP.

        CLIP itself is not in it. It is an ordinary checkpoint: notebooks and commands take it, too.

        Raises:
            KitError: the disk is full or the folder is not writable.
        """
        about = {key: value for key, value in self.about.items() if key not in (KEPT, TILED)}
        if self.tiling:
            about[TILED] = asdict(self.tiling)
        if self.threshold:
            about[KEPT] = self.threshold.plain()
        portable = self.features.model_copy(update={"weights": None})  # a path of this machine
        save_prompts(Path(path), self.model, self.backbone, portable, about)

    def _stream(self, images: Iterable[Picture], errors: Errors, skipped: list[str]) -> Iterator[Result]:
        batch: list[tuple[_Ready, np.ndarray]] = []
        for ready in self._decoded(images):
            if isinstance(ready, KitError):
                if errors == "raise":
                    yield from self._judge(batch)
                    raise ready
                skipped.append(str(ready))
                continue
            for view in ready.views():
                batch.append((ready, view))
                if len(batch) == self.batch_size:
                    yield from self._judge(batch)
                    batch = []
        yield from self._judge(batch)

    def _decoded(self, images: Iterable[Picture]) -> Iterator["_Ready | KitError"]:
        """Images at the scored size, in order; threads decode some ahead of the batch that is judged: two
        batches, or two images where they may be large."""
        ahead = 2 if self.tiling else 2 * self.batch_size
        waiting: deque[Future[_Ready | KitError]] = deque()
        pool = ThreadPoolExecutor(torch.get_num_threads())
        try:
            for index, picture in enumerate(images):
                if isinstance(picture, np.ndarray):
                    picture = picture.copy()  # a camera may write the next frame into the same array
                waiting.append(pool.submit(self._prepare, picture, index))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _prepare(self, picture: Picture, index: int) -> "_Ready | KitError":
        name, size = name_of(picture, index), self.features.image_size
        try:
            image = decode(picture, name)
            grid = self.tiling.grid(image.width, image.height) if self.tiling else None
            large = (image if image.mode == "RGB" else as_rgb(image)) if grid else None
            pixels = rgb(image, size, self.features.stored_resize)
            return _Ready(name, index, image.width, image.height, pixels, large, grid)
        except KitError as error:  # returned, so that it comes in its turn
            return error

    def _judge(self, batch: list[tuple["_Ready", np.ndarray]]) -> Iterator[Result]:
        """Results of the images whose last view is in the batch."""
        if not batch:
            return
        prediction = self.forward(np.stack([view for _, view in batch]))
        patches = torch.stack([prediction.static[..., 1], prediction.adapted[..., 1]], dim=1).cpu().numpy()
        scores, globals_ = prediction.score.tolist(), prediction.image_probability.tolist()
        for (ready, _), score, probability, values in zip(batch, scores, globals_, patches, strict=True):
            map_ = WholeMap(values.copy(), self.features.image_size, self.sigma)
            ready.seen.append(_Seen(score, probability, map_))
            if ready.finished:
                yield self._result(ready)

    def _result(self, ready: "_Ready") -> Result:
        whole, *tiles = ready.seen
        score, probability = whole.score, whole.probability
        evidence: Evidence = whole.map
        if ready.grid:
            top = max(tiles, key=lambda tile: tile.score)
            score, probability = (score + top.score) / 2, (probability + top.probability) / 2
            evidence = TiledMap(whole.map, [tile.map for tile in tiles], ready.grid)
        limits = self.threshold
        return Result(
            image=ready.name,
            index=ready.index,
            score=score,
            probability=probability,
            flagged=None if limits is None else score > limits.score.threshold,
            width=ready.width,
            height=ready.height,
            level=None if limits is None else limits.map.threshold,
            evidence=evidence,
        )

    def forward(self, pixels: np.ndarray) -> Prediction:
        """What the model says about RGB images (B, S, S, 3) uint8 of the scored size.

        Features are rounded as the notebooks' cache rounds them, so that both give the same numbers. Where
        the prior sees random patches, an image's pixels draw them, for it has no path in a dataset.

        Raises:
            KitError: the device has no memory left, or the precision overflowed.
        """
        image, patches = (
            torch.from_numpy(part).to(self.device).float()
            for part in encode(self.backbone, self._tower, pixels)
        )
        by_chance = self.model.settings.patch_selection == "random"
        seeds = [_seed(each) for each in pixels] if by_chance else None
        with torch.inference_mode():
            return self.model(image, patches, self.static, seeds)


def _seed(pixels: np.ndarray) -> int:
    """A number that an image's pixels alone decide."""
    return int.from_bytes(hashlib.sha256(pixels.tobytes()).digest()[:8], "big")


def _open(path: Path, weights: str | Path | None, profile: str | None) -> tuple[Backbone, Checkpoint, float]:
    """The CLIP a file of prompts names, the prompts, and the smoothing of maps.

    Raises:
        KitError: as `Detector.load`.
    """
    if path.is_file() and not is_safetensors(path):  # the authors', which name no CLIP
        chosen = load_profile(profile or "paper")
        check_fits(path, chosen.features)  # before weights are fetched for what is no checkpoint
        backbone = load_backbone(chosen.features.backbone, weights or chosen.features.weights)
        return backbone, open_prompts(path, backbone, chosen.features), chosen.scoring.sigma
    features = FeatureSettings.parse(read_header(path)["features"])
    own = profile_of(features.backbone)
    if profile not in (None, own):
        raise KitError(f"the prompts {path} belong to the profile {own} and not to {profile}; leave it out.")
    chosen = load_profile(own)
    here = features.weights if features.weights and Path(features.weights).is_file() else None
    backbone = load_backbone(features.backbone, weights or here)
    return backbone, open_prompts(path, backbone), chosen.scoring.sigma
