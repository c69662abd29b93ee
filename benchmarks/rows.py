"""The rows of the table: each thing the kit does, in the official order of computation and in the kit's."""

import copy
import json
import math
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor

from benchmarks import data, plain
from benchmarks.measure import Case, Values, Way
from fap_lib import training
from fap_lib.clip import mini
from fap_lib.clip.backbone import RANDOM, Backbone, load_backbone
from fap_lib.clip.image_tower import ImageTower
from fap_lib.core import paths
from fap_lib.core.config import Profile, load_profile
from fap_lib.data.encoding import decoded, load_pair
from fap_lib.data.features import FeatureCache, features
from fap_lib.data.manifest import Manifest, Record
from fap_lib.data.store import Store
from fap_lib.evaluation.metrics import pixel_metrics
from fap_lib.evaluation.scoring import MEAN, evaluate, score
from fap_lib.maps import pixel_maps, smooth
from fap_lib.model import FAPrompt

BATCH = 8

CEILING = "the image tower is at the ceiling already, and its work is fixed"
FUSED = "torch's fused attention on a CPU multiplies bfloat16 no faster than float32 (row attention)"


SELECTED = 0.1
"""How far maps in bfloat16 may be off: a rounding may put another patch among the M."""


@dataclass(frozen=True)
class Sizes:
    """How much of everything a profile measures.

    encoded, adapted: images a call in the rows of the towers.
    epoch_each, dataset_each: normal and anomalous images a category of the generated datasets. Without the
        first, an epoch is not timed: at the paper's size it would take an hour, or be one step.
    aupro_maps, maps: for the slow official AUPRO, and for the other metrics.
    pictures: image files to decode, times six. megabytes: of cached features.
    """

    encoded: int
    adapted: int
    epoch_each: int
    dataset_each: int
    aupro_maps: int
    maps: int
    pictures: int = 8
    megabytes: int = 64


SIZES = {
    "tiny": Sizes(2, 2, 2, 1, 4, 8, pictures=1, megabytes=1),  # for the tests
    "mini": Sizes(8, 8, 8, 4, 16, 200),
    "paper": Sizes(1, 2, 0, 1, 16, 64),
}


class Subject:
    """What is measured: a profile's backbone with its prompts, on generated data below `folder`."""

    def __init__(self, name: str, folder: Path):
        torch.manual_seed(0)
        self.profile: Profile = load_profile(name)
        self.sizes = SIZES[name]
        self.folder = folder
        self.features = self.profile.features
        self.backbone = backbone_of(self.features.backbone)
        self.visual, self.clip = self.backbone.visual, self.backbone.clip
        self.model = FAPrompt(self.backbone.text_tower, self.profile.model, self.backbone.patch_width)
        self.size, self.vv = self.features.image_size, self.features.vv_blocks
        self.tower = self.backbone.image_tower(self.size, self.vv)
        self.low = ImageTower(copy.deepcopy(self.visual).to(torch.bfloat16), self.size, self.vv)
        self.sigma = self.profile.scoring.sigma

    def dataset(self, each: int) -> Manifest:
        return data.write_dataset(self.folder / f"drawn-{each}", each)

    def pixels(self, count: int) -> Tensor:
        return torch.randn(count, 3, self.size, self.size, generator=torch.manual_seed(1))


def backbone_of(name: str) -> Backbone:
    """The profile's backbone: the mini CLIP with its weights, if they are there; else random weights."""
    if name != mini.MINI:
        return load_backbone(name, RANDOM)
    if (mini.WEIGHTS / "mini.safetensors").is_file():
        return load_backbone(name)
    return load_backbone(name, RANDOM)


def cases(subject: Subject) -> Iterator[Case]:
    """All rows, the model's first."""
    yield image_tower(subject)
    yield attention(subject)
    yield static_text(subject)
    yield adapted_text(subject)
    yield one_image(subject)
    yield training_step(subject)
    if subject.sizes.epoch_each:
        yield one_epoch(subject)
    yield from cache(subject)
    yield from metrics(subject)
    yield smoothing(subject)
    yield decoding(subject.folder, subject.size, subject.sizes.pictures)
    yield whole_dataset(subject)


def image_tower(subject: Subject) -> Case:
    pixels = subject.pixels(subject.sizes.encoded)

    def official() -> Values:
        pairs = [plain.encode_image(subject.clip, each[None], subject.vv) for each in pixels]
        return [torch.cat(each) for each in zip(*pairs, strict=True)]

    def kit(tower: ImageTower, given: Tensor) -> Values:
        return [each.float() for each in tower(given)]

    ways = {
        "official order": Way(official),
        "kit, float32": Way(partial(kit, subject.tower, pixels), 1e-5, share=0.6),
        "kit, bfloat16": Way(partial(kit, subject.low, pixels.bfloat16()), 0.1, precision="bfloat16"),
    }
    return Case(f"image tower, {_count(len(pixels), 'image')}", ways)


def attention(subject: Subject) -> Case:
    """One attention of the image tower. The last way is not the kit's: it shows what was tried."""
    visual = subject.visual
    heads = visual.transformer.resblocks[0].attn.num_heads
    shape = (3, 1, heads, 1 + subject.tower.grid**2, visual.conv1.out_channels // heads)
    full = torch.randn(shape, generator=torch.manual_seed(3))
    low = full.bfloat16()

    def fused(qkv: Tensor) -> Values:
        return [F.scaled_dot_product_attention(*qkv).float()]

    def written(qkv: Tensor) -> list[Tensor]:
        q, k, v = qkv
        return [((q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)).softmax(-1).matmul(v).float()]

    def by_head(qkv: Tensor) -> Values:
        return [torch.cat([written(each)[0] for each in qkv.split(1, dim=2)], dim=1)]

    ways = {
        "official order": Way(partial(written, full)),
        "kit, float32": Way(partial(fused, full), 1e-5),
        "kit, bfloat16": Way(partial(fused, low), 0.02, precision="bfloat16"),
        "tried, not kept: bfloat16, written out head by head": Way(
            partial(by_head, low), 0.02, precision="bfloat16"
        ),
    }
    return Case(f"attention of {shape[3]} tokens", ways)


def static_text(subject: Subject) -> Case:
    @torch.no_grad()
    def official() -> Values:
        normal, abnormal = plain.text_features(subject.clip, subject.model)
        return [F.normalize(normal[0], dim=-1), abnormal]

    @torch.no_grad()
    def kit() -> Values:
        static = subject.model.static_text()
        return [static.normal, static.abnormal]

    return Case("static text features", {"official order": Way(official), "kit": Way(kit, 1e-5, target=10)})


def adapted_text(subject: Subject) -> Case:
    """The prompts of some images, each with its own prior; the normal one does not depend on it."""
    model, count = subject.model, subject.sizes.adapted
    prior = 0.02 * torch.randn(count, model.text_tower.width, generator=torch.manual_seed(2))
    with torch.no_grad():
        static = model.static_text()

    @torch.no_grad()
    def official() -> Values:
        return [torch.stack([plain.text_features(subject.clip, model, each)[1] for each in prior])]

    @torch.no_grad()
    def kit() -> Values:
        return [model.adapted_text(static.prefix, prior)]

    ways = {"official order": Way(official), "kit": Way(kit, 1e-5, target=10)}
    return Case(f"adapted text features, {_count(count, 'image')}", ways)


def one_image(subject: Subject) -> Case:
    pixels = subject.pixels(1)

    def official() -> Values:
        return plain.score_image(subject.clip, subject.model, pixels, subject.vv, subject.sigma)

    ways = {
        "official order": Way(official),
        "kit, float32": Way(_scorer(subject, subject.tower, pixels), 1e-5, target=2, why=CEILING),
        "kit, bfloat16": Way(
            _scorer(subject, subject.low, pixels.bfloat16()),
            SELECTED,
            target=4,
            why=FUSED,
            precision="bfloat16",
        ),
    }
    return Case("one image scored", ways)


def _scorer(subject: Subject, tower: ImageTower, pixels: Tensor) -> Callable[[], Values]:
    """Image score and anomaly map of one image, as the kit computes them; the prompts are encoded once."""
    with torch.no_grad():
        static = subject.model.static_text()

    @torch.no_grad()
    def run() -> Values:
        raw = tower(pixels)
        image, patches = (F.normalize(each.float(), dim=-1) for each in (raw.image, raw.tokens[:, 1:]))
        prediction = subject.model(image, patches, static)
        return float(prediction.score), pixel_maps(prediction.patch_map, subject.size, subject.sigma)[0]

    return run


def story(subject: Subject) -> Case:
    """One image scored, one step of speed after the other; each way holds all steps before it."""
    pixels = subject.pixels(1)

    def official(attend: plain.Attend = plain.explicit, context: int | None = plain.CONTEXT) -> Values:
        return plain.score_image(
            subject.clip, subject.model, pixels, subject.vv, subject.sigma, attend, context
        )

    @torch.no_grad()
    def kit_text(tower: bool) -> Values:
        if tower:
            image, tokens = subject.tower(pixels)
        else:
            image, tokens = plain.encode_image(subject.clip, pixels, subject.vv, plain.fused)
        prediction = subject.model(
            F.normalize(image, dim=-1), F.normalize(tokens[:, 1:], dim=-1), subject.model.static_text()
        )
        maps = pixel_maps(prediction.patch_map, subject.size)[0].numpy()
        return float(prediction.score), gaussian_filter(maps, subject.sigma)

    ways = {
        "official order": Way(official),
        "fused attention": Way(partial(official, plain.fused), 1e-5),
        "prompts end at their end token": Way(partial(official, plain.fused, None), 1e-5),
        "prompts share one prefix": Way(partial(kit_text, tower=False), 1e-5),
        "no repeated work in the image tower": Way(partial(kit_text, tower=True), 1e-5),
        "static prompts once a dataset, smoothing as a matrix": Way(
            _scorer(subject, subject.tower, pixels), 1e-5
        ),
        "bfloat16": Way(_scorer(subject, subject.low, pixels.bfloat16()), SELECTED, precision="bfloat16"),
    }
    return Case("one image scored, step by step", ways)


def training_step(subject: Subject) -> Case:
    """Forward, backward and Adam (with a learning rate of 0, so that all ways keep the same prompts)."""
    manifest = subject.dataset(BATCH // 4)
    cached = features(manifest, "test", subject.backbone, subject.features)
    settings = subject.profile.training
    index = np.arange(BATCH)
    pixels, masks = zip(
        *(load_pair(manifest, record, subject.size) for record in cached.records), strict=True
    )
    batch = subject.backbone.normalise(np.stack(pixels))
    mask, label = torch.from_numpy(np.stack(masks)).float(), torch.tensor(cached.labels)
    optimiser = torch.optim.Adam(subject.model.parameters(), lr=0.0)

    def backward(loss: Tensor) -> Values:
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        norms = [float(p.grad.norm()) for p in subject.model.parameters() if p.grad is not None]
        return [float(loss.detach()), np.array(norms)]

    def official() -> Values:
        loss = plain.training_loss(subject.clip, subject.model, batch, label, mask, subject.vv, settings)
        return backward(loss)

    def not_frozen() -> Values:
        subject.clip.transformer.requires_grad_(True)
        found = official()
        subject.clip.transformer.requires_grad_(False)
        subject.clip.transformer.zero_grad()
        return found

    def from_pixels() -> Values:
        raw = subject.tower(batch)
        static = subject.model.static_text()
        image, patches = F.normalize(raw.image, dim=-1), F.normalize(raw.tokens[:, 1:], dim=-1)
        terms = training.losses(subject.model(image, patches, static), static, label, mask, settings)
        return backward(terms["total"])

    def from_cache() -> Values:
        terms = training.step(subject.model, optimiser, cached, index, settings)
        norms = [float(p.grad.norm()) for p in subject.model.parameters() if p.grad is not None]
        return [terms["total"], np.array(norms)]

    ways = {
        "official order": Way(official),
        "kit, from pixels": Way(from_pixels, 1e-4),
        "kit, from the cache": Way(from_cache, 1e-2, target=50),
    }
    if subject.sizes.epoch_each:  # at the size of the paper it takes minutes
        ways["for comparison, text tower not frozen, as released"] = Way(not_frozen, 1e-4)
    return Case(f"training step, {BATCH} images", ways)


def one_epoch(subject: Subject) -> Case:
    """From image files; the kit reads its cache. Compared: the loss of every step."""
    manifest = subject.dataset(subject.sizes.epoch_each)
    cached = features(manifest, "test", subject.backbone, subject.features)
    settings = subject.profile.training.model_copy(update={"epochs": 1})
    start = copy.deepcopy(subject.model.state_dict())

    def official() -> Values:
        totals = plain.train_epoch(subject.backbone, subject.model, manifest, subject.features, settings)
        subject.model.load_state_dict(start)
        return [np.array(totals)]

    def kit() -> Values:
        folder = subject.folder / "epoch"
        training.train(subject.model, cached, settings, folder)
        subject.model.load_state_dict(start)
        lines = (folder / training.LOG).read_text().splitlines()
        return [np.array([json.loads(line)["total"] for line in lines])]

    ways = {"official order": Way(official), "kit, from the cache": Way(kit, 1e-2)}
    return Case(f"one epoch, {_count(len(cached), 'image')}", ways)


def cache(subject: Subject) -> Iterator[Case]:
    """Features on disk, against one float32 file an image as torch saves it, and against bare bytes."""
    manifest = subject.dataset(subject.sizes.dataset_each)
    made = features(manifest, "test", subject.backbone, subject.features)
    bits = np.packbits(made.masks(np.arange(len(made))).flatten(1).numpy(), axis=1)
    once = {"image": np.asarray(made.image), "patches": np.asarray(made.patches), "masks": bits}
    repeats = math.ceil(1e6 * subject.sizes.megabytes / sum(array.nbytes for array in once.values()))
    arrays = {name: np.concatenate([array] * repeats) for name, array in once.items()}
    count = len(arrays["image"])
    loose, bare, rows = (subject.folder / each for each in ("loose", "bare.bin", "rows"))
    repeated = Manifest(manifest.root, "rows", "nonzero", {"test": manifest.records("test") * repeats})

    def write_loose() -> Values:
        plain.save_features(loose, arrays["image"], arrays["patches"])
        return []

    def write_kit() -> Values:
        rows.mkdir(exist_ok=True)
        patches, width = arrays["patches"].shape[1:]
        store = Store(rows, count, patches, width, subject.size)
        store.allocate()
        with store.writing() as writer:
            for index in range(count):
                writer.put(index, (0, 0, 0, 0), **{name: array[index] for name, array in arrays.items()})
        return []

    def write_bare() -> Values:
        with open(bare, "wb") as file:
            for array in arrays.values():
                file.write(array.data)
            file.flush()
            os.fsync(file.fileno())
        return []

    def read_kit() -> Values:
        opened = FeatureCache(rows, repeated, "test", subject.backbone, subject.features)
        parts = [opened.features(np.arange(i, min(i + BATCH, count))) for i in range(0, count, BATCH)]
        return [torch.cat(each) for each in zip(*parts, strict=True)]

    def read_bare() -> Values:
        values = np.fromfile(bare, dtype=np.float16, count=arrays["image"].size + arrays["patches"].size)
        split = np.split(values, [arrays["image"].size])
        shapes = (arrays["image"].shape, arrays["patches"].shape)
        return [torch.from_numpy(v).view(s).float() for v, s in zip(split, shapes, strict=True)]

    megabytes = sum(array.nbytes for array in arrays.values()) / 1e6
    title = f"{_count(count, 'image')}, {megabytes:.0f} MB"
    writes: dict[str, Callable[[], Values]] = {
        "a file an image": write_loose,
        "kit, with fsync": write_kit,
        "for comparison, bare bytes with fsync": write_bare,
    }
    reads: dict[str, Callable[[], Values]] = {
        "a file an image": partial(plain.load_features, loose, count),
        "kit": read_kit,
        "for comparison, bare bytes": read_bare,
    }
    for verb, ways in (("write", writes), ("read", reads)):
        yield Case(
            f"cache {verb}, {title}", {name: Way(run) for name, run in ways.items()}, megabytes=megabytes
        )


def scene(count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Smooth maps (count, size, size) float32 that find some of the regions of their masks."""
    random = np.random.default_rng(0)
    scale = size / 518
    fields = [gaussian_filter(random.standard_normal((size, size)), 20 * scale) for _ in range(count)]
    masks = np.stack([field > 1.5 * field.std() for field in fields])
    masks[::2] = False
    noise = [gaussian_filter(random.standard_normal((size, size)), 10 * scale) for _ in range(count)]
    maps = np.stack([2 * m + n / n.std() for m, n in zip(masks, noise, strict=True)])
    return (1 / (1 + np.exp(-maps))).astype(np.float32), masks


def metrics(subject: Subject) -> Iterator[Case]:
    """The kit's side always computes all five pixel metrics, in two passes over the maps."""
    maps, masks = scene(subject.sizes.maps, subject.size)

    def kit(count: int, *names: str) -> Values:
        batch = subject.profile.scoring.batch_size
        parts = [torch.from_numpy(each[:count]).split(batch) for each in (maps, masks)]
        found = {
            m.name: m.value for m in pixel_metrics(lambda: zip(*parts, strict=True)) if m.value is not None
        }
        return [found[name] for name in names]

    few, many = subject.sizes.aupro_maps, subject.sizes.maps
    for name, official, count, way in (
        ("aupro_official", plain.aupro, few, Way(partial(kit, few, "aupro_official"), 1e-12, target=60)),
        ("aupro_exact", plain.aupro_exact, many, Way(partial(kit, many, "aupro_exact"), 1e-5)),
        ("pixel AUROC and AP", plain.ranking, many, Way(partial(kit, many, "auroc", "ap"), 1e-5, target=5)),
    ):
        first = "scikit-learn" if official is plain.ranking else "official order"
        run = partial(_listed, official, masks[:count], maps[:count])
        yield Case(f"{name}, {count} maps of {subject.size} px", {first: Way(run), "kit, all five": way})


def _listed(official: Callable[..., float | Values], masks: np.ndarray, maps: np.ndarray) -> Values:
    found = official(masks, maps)
    return [found] if isinstance(found, float) else found


def smoothing(subject: Subject) -> Case:
    maps, _ = scene(16, subject.size)

    def official() -> Values:
        return [np.stack([gaussian_filter(each, subject.sigma) for each in maps])]

    def kit() -> Values:
        return [smooth(torch.from_numpy(maps), subject.sigma)]

    return Case(
        f"smoothing, 16 maps of {subject.size} px",
        {"SciPy, map by map": Way(official), "kit": Way(kit, 1e-5)},
    )


def decoding(folder: Path, size: int, times: int) -> Case:
    """Images of the sizes of MVTec AD's (PNG) and VisA's (JPEG), decoded and resized."""
    folder = folder / "pictures"
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(0)
    names = []
    for index, (suffix, width, height) in enumerate([("png", 1024, 1024), ("jpg", 1500, 1000)] * 3):
        rough = random.integers(0, 255, (height // 16, width // 16, 3), dtype=np.uint8)
        picture = np.asarray(Image.fromarray(rough).resize((width, height), Image.Resampling.BICUBIC))
        grain = random.integers(0, 8, picture.shape, dtype=np.uint8)
        names.append(f"{index}.{suffix}")
        Image.fromarray(np.minimum(picture, 247) + grain).save(folder / names[-1])
    records = [Record(name, None, "picture", "good", 0) for name in names * times]
    manifest = Manifest(folder, "pictures", "nonzero", {"test": records})
    order = list(range(len(records)))
    chunks = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]

    def check(pixels: np.ndarray) -> float:
        return float(zlib.crc32(pixels.data))

    def load(record: Record) -> np.ndarray:
        return load_pair(manifest, record, size)[0]

    def official() -> Values:
        return [check(load(record)) for record in records]

    def kit() -> Values:
        pairs = decoded(manifest, records, size, chunks)
        return [check(pixels) for chunk in pairs for pixels, _ in chunk]

    ways = {
        "one after the other": Way(official),
        "kit, threads": Way(kit),
    }
    return Case(f"decode and resize to {size} px, {len(records)} images", ways, images=len(records))


def whole_dataset(subject: Subject) -> Case:
    """From image files to metrics. Compared: image scores, and the means of the pixel metrics."""
    manifest = subject.dataset(subject.sizes.dataset_each)
    settings = subject.profile.scoring
    names = ("auroc", "ap", "f1_max", "aupro_official")

    def official() -> Values:
        scores, found = plain.score_dataset(
            subject.backbone, subject.model, manifest, subject.features, settings
        )
        return [np.array(scores), *(found[name] for name in names)]

    def kit() -> Values:
        shutil.rmtree(paths.cache(), ignore_errors=True)
        cached = features(manifest, "test", subject.backbone, subject.features)
        scores = score(subject.model, cached, settings, subject.folder / "patches.npy")
        means = [row for row in evaluate(scores, settings) if row["category"] == MEAN]
        found = {row["metric"]: row["value"] for row in means if row["level"] == "pixel"}
        return [scores.image, *(found[name] for name in names)]

    ways = {"official order": Way(official), "kit": Way(kit, 0.05)}  # the cache is float16
    count = len(manifest.records("test"))
    return Case(f"a whole dataset, {_count(count, 'image')}, files to metrics", ways, images=count)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("s" if number != 1 else "")
