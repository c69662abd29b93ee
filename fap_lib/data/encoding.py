"""From image files to the rows of a feature cache: decode, resize, encode."""

import inspect
import sys
import textwrap
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F

from fap_lib.clip import attention, image_tower
from fap_lib.clip.backbone import Backbone
from fap_lib.clip.image_tower import ImageTower
from fap_lib.core.errors import KitError
from fap_lib.core.fingerprint import own_fingerprint
from fap_lib.data import images, store
from fap_lib.data.images import load_mask, open_image, rgb
from fap_lib.data.manifest import Manifest, Record

BATCH = 8
"""Images encoded at once."""

AHEAD = 2
"""Batches decoded while one is encoded."""


@cache
def code() -> str:
    """Fingerprint of the code that makes a row and lays it out on disk."""
    modules = (sys.modules[__name__], image_tower, attention, images, store)
    normalise = textwrap.dedent(inspect.getsource(Backbone.normalise))
    return own_fingerprint([*map(inspect.getsource, modules), normalise])


def decoded(
    manifest: Manifest, records: list[Record], size: int, chunks: list[list[int]], stored: bool = False
) -> Iterator[list[tuple[np.ndarray, np.ndarray]]]:
    """Images and masks (see `load_pair`) of each chunk of records, decoded ahead in threads.

    Threads and no processes: Pillow decodes and resizes outside the interpreter lock, and threads cannot
    outlive what was killed.

    Raises:
        KitError: an image or mask is missing, unreadable, or does not fit the other.
    """
    pool = ThreadPoolExecutor(torch.get_num_threads(), "decode")
    ahead: deque[list[Future[tuple[np.ndarray, np.ndarray]]]] = deque()
    try:
        for chunk in chunks:
            ahead.append([pool.submit(load_pair, manifest, records[index], size, stored) for index in chunk])
            if len(ahead) > AHEAD:
                yield [pair.result() for pair in ahead.popleft()]
        while ahead:
            yield [pair.result() for pair in ahead.popleft()]
    finally:
        pool.shutdown(cancel_futures=True)


def load_pair(
    manifest: Manifest, record: Record, size: int, stored: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Image (size, size, 3) uint8 and mask (size, size) bool of a record; no mask is all False.

    Args:
        stored: see `fap_lib.data.images.rgb`.
    """
    image = open_image(manifest.root / record.image)
    pixels = rgb(image, size, stored)
    if record.mask is None:
        return pixels, np.zeros((size, size), dtype=bool)
    return pixels, load_mask(manifest.root / record.mask, manifest.mask_rule, image.size, size)


def encode(backbone: Backbone, tower: ImageTower, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit features of RGB images (B, H, W, 3) uint8, as float16: global (B, D), patches (B, N, D).

    Raises:
        KitError: the precision overflowed, or the GPU has no memory left.
    """
    try:
        raw = tower(backbone.normalise(images))
    except torch.cuda.OutOfMemoryError as error:
        raise KitError(
            f"the GPU has no memory left to encode {len(images)} images at once; "
            f"set the feature batch size to {max(1, len(images) // 2)}."
        ) from error
    image = F.normalize(raw.image.float(), dim=-1)
    patches = F.normalize(raw.tokens[:, 1:].float(), dim=-1)
    if not bool(image.isfinite().all() and patches.isfinite().all()):
        raise KitError("a CLIP feature is not a finite number; set precision to float32 or bfloat16.")
    return image.half().cpu().numpy(), patches.half().cpu().numpy()
