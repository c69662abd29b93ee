"""CLIP features on disk: each image passes the frozen image tower once.

A cache is a folder with three plain arrays (global features, patch features, masks packed to bits),
one row an image, and a table of what each row was made from. A row counts only while its image and
mask are unchanged and its checksum holds; every other row is made again, to the same bits. The folder's
name is a hash of what all rows depend on: weights, preprocessing, image size, blocks, precision, kit code,
records.
"""

import hashlib
import json
import shutil
from copy import copy
from dataclasses import replace
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fap_lib.clip.backbone import Backbone
from fap_lib.clip.image_tower import ImageTower
from fap_lib.core import paths
from fap_lib.core.config import FeatureSettings
from fap_lib.core.errors import KitError
from fap_lib.core.files import disk_errors, locked, write_json
from fap_lib.core.progress import bar
from fap_lib.data import encoding
from fap_lib.data.encoding import BATCH, decoded, encode
from fap_lib.data.manifest import Manifest, Record, Split
from fap_lib.data.store import Stamp, Store, read_rows

COMPLETE = "complete.json"


class FeatureCache:
    """Features, masks and records of one split of a dataset, memory-mapped and read-only.

    image: (n, D) and patches: (n, N, D), float16. grid: patches of a side. backbone, settings: what made
    them.
    """

    def __init__(
        self, folder: Path, manifest: Manifest, split: Split, backbone: Backbone, settings: FeatureSettings
    ):
        self.backbone = backbone
        self.settings = settings
        self.name = manifest.name
        self.root = manifest.root
        self.records = manifest.records(split)
        self.image_size = settings.image_size
        self.digest = folder.name
        self.image = np.load(folder / "image.npy", mmap_mode="r")
        self.patches = np.load(folder / "patches.npy", mmap_mode="r")
        self.grid = isqrt(self.patches.shape[1])
        self._masks = np.load(folder / "masks.npy", mmap_mode="r")

    def __len__(self) -> int:
        return len(self.records)

    @property
    def labels(self) -> list[int | None]:
        return [record.label for record in self.records]

    def features(self, index: np.ndarray, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """Unit global (b, D) and patch (b, N, D) features, float32."""
        image, patches = (torch.from_numpy(read_rows(array, index)) for array in (self.image, self.patches))
        return image.to(device).float(), patches.to(device).float()

    def masks(self, index: np.ndarray) -> Tensor:
        """Masks (b, H, W) bool; all False for normal images and for images without a mask."""
        size = self.image_size
        bits = np.unpackbits(read_rows(self._masks, index), axis=1, count=size * size)
        return torch.from_numpy(bits.reshape(-1, size, size).view(bool))

    def seeds(self, index: np.ndarray) -> list[int]:
        """A number for each of some images, from its path in the dataset: what is drawn for an image turns on
        nothing else."""
        digests = (hashlib.sha256(self.records[i].image.encode()).digest() for i in index)
        return [int.from_bytes(digest[:8], "big") for digest in digests]

    def check_trainable(self) -> None:
        """Refuse a dataset that cannot train prompts.

        Raises:
            KitError: an image has no label, or an anomalous one no mask.
        """
        for record in self.records:
            if record.label is None:
                raise KitError(
                    f"the image {record.image} of {self.name} has no label, so it cannot train prompts; "
                    "put normal images in a folder `good` and prepare it again, or train on another dataset."
                )
            if record.label == 1 and record.mask is None:
                raise KitError(
                    f"the anomalous image {record.image} of {self.name} has no mask, and training needs "
                    "masks; train on a dataset with masks (such as mvtec or visa), and test on this one."
                )

    def part(self, index: np.ndarray) -> "FeatureCache":
        """Some of the images as a cache of their own, in memory; for trying things on a few."""
        few = copy(self)
        few.records = [self.records[i] for i in index]
        few.digest = hashlib.sha256(f"{self.digest} {list(map(int, index))}".encode()).hexdigest()
        few.image, few.patches = read_rows(self.image, index), read_rows(self.patches, index)
        few._masks = read_rows(self._masks, index)
        return few


def features(
    manifest: Manifest, split: Split, backbone: Backbone, settings: FeatureSettings, batch_size: int = BATCH
) -> FeatureCache:
    """Open the cache of a split, after making every row that is missing, outdated or damaged.

    Raises:
        KitError: an image or mask is missing or unreadable, the backbone is in another precision than the
            settings', the disk is full, a feature is not finite, the GPU has no memory left.
    """
    tower = _tower(backbone, settings)
    records = manifest.records(split)
    key = _key(manifest, split, backbone, settings)
    folder = _folder(manifest, split, key)
    with disk_errors(folder):
        if folder.is_file():
            folder.unlink()
        with locked(folder / "lock"):
            store = Store(folder, len(records), tower.grid**2, backbone.patch_width, settings.image_size)
            stamps = [manifest.stamp(record) for record in records]
            stale = store.stale(stamps)
            if len(stale):
                (folder / COMPLETE).unlink(missing_ok=True)
                store.allocate()
                _fill(store, manifest, records, stamps, stale, backbone, tower, settings, batch_size)
            if not (folder / COMPLETE).exists():
                write_json(folder / COMPLETE, {name: key[name] for name in key if name != "records"})
    return FeatureCache(folder, manifest, split, backbone, settings)


def shard(manifest: Manifest, split: Split, number: int, count: int) -> Manifest:
    """Shard `number` (from 0) of `count`: a run of a split's records, of a cache of its own.

    Shards end where batches end, so each image is encoded in the company it has in the whole.

    Raises:
        KitError: fewer batches than shards.
    """
    records = manifest.records(split)
    batches = -(-len(records) // BATCH)
    if count > batches:
        raise KitError(
            f"{manifest.name} has {len(records)} images, which is {batches} batches of {BATCH}; "
            f"it cannot be cut into {count} shards."
        )
    start, end = (BATCH * (batches * place // count) for place in (number, number + 1))
    return replace(manifest, splits={split: records[start:end]})


def join_shards(
    manifest: Manifest, split: Split, backbone: Backbone, settings: FeatureSettings, count: int
) -> FeatureCache:
    """Join the caches of `count` shards into the whole split's, and remove them one by one.

    The disk holds one shard twice at most. A row that no shard has, or a bad one, is made here.
    """
    tower = _tower(backbone, settings)
    folder = _folder(manifest, split, _key(manifest, split, backbone, settings))
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / "lock"):
            total = len(manifest.records(split))
            store = Store(folder, total, tower.grid**2, backbone.patch_width, settings.image_size)
            store.allocate()
            start = 0
            for number in range(count):
                one = shard(manifest, split, number, count)
                source = _folder(one, split, _key(one, split, backbone, settings))
                if source != folder and (source / COMPLETE).exists():
                    store.adopt(source, start)
                    shutil.rmtree(source)
                start += len(one.records(split))
    return features(manifest, split, backbone, settings)


def _tower(backbone: Backbone, settings: FeatureSettings) -> ImageTower:
    if backbone.precision != settings.precision:
        raise KitError(
            f"the settings want features in {settings.precision}, but the image tower of {backbone.name} is "
            f"in {backbone.precision}; call backbone.to(device, {settings.precision!r}) first."
        )
    return backbone.image_tower(settings.image_size, settings.vv_blocks, settings.class_norm)


def _key(manifest: Manifest, split: Split, backbone: Backbone, settings: FeatureSettings) -> dict[str, Any]:
    """All that the rows of a cache depend on."""
    return {
        "code": encoding.code(),
        "weights": backbone.weights_sha256,
        "mask_rule": manifest.mask_rule,
        "image_size": settings.image_size,
        "vv_blocks": settings.vv_blocks,
        "class_norm": settings.class_norm,
        "stored_resize": settings.stored_resize,
        "precision": backbone.precision,
        "root": str(manifest.root),
        "records": [[record.image, record.mask] for record in manifest.records(split)],
    }


def _folder(manifest: Manifest, split: Split, key: dict[str, Any]) -> Path:
    digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]
    return paths.cache() / f"{manifest.name}-{split}-{digest}"


def _fill(
    store: Store,
    manifest: Manifest,
    records: list[Record],
    stamps: list[Stamp],
    stale: np.ndarray,
    backbone: Backbone,
    tower: ImageTower,
    settings: FeatureSettings,
    batch_size: int,
) -> None:
    # Whole batches, always the same: an image's last bits depend on the company it is encoded in.
    first = sorted({index - index % batch_size for index in stale.tolist()})
    chunks = [list(range(start, min(start + batch_size, len(records)))) for start in first]
    wanted = set(stale.tolist())
    title = f"features of {manifest.name}"
    with store.writing() as writer:
        pairs_of_chunks = decoded(manifest, records, tower.image_size, chunks, settings.stored_resize)
        for chunk, pairs in bar(zip(chunks, pairs_of_chunks, strict=True), title, len(chunks)):
            image, patches = encode(backbone, tower, np.stack([pixels for pixels, _ in pairs]))
            for row, index in enumerate(chunk):
                if index in wanted:
                    bits = np.packbits(pairs[row][1])
                    writer.put(index, stamps[index], image=image[row], patches=patches[row], masks=bits)
