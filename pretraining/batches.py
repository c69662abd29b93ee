"""Batches: windows of images with their captions, and regions of them with theirs."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from data_prep.mini import captions
from data_prep.mini.canvas import COLOURS, SIZE
from data_prep.mini.captions import StateWords
from data_prep.mini.generator import CATEGORIES, KINDS
from fap_lib.clip import mini
from fap_lib.clip.conventions import OPENAI_MEAN, OPENAI_STD
from fap_lib.clip.tokenizer import Tokenizer
from pretraining.pool import Pool
from pretraining.recipes import Recipe

PATCH = mini.CONFIG["vision_cfg"]["patch_size"]


class Vocabulary:
    """Captions to rows of a small embedding: only tokens that can occur have one.

    The order of ids is kept, so that the end-of-text token is still the largest, where CLIP pools.
    """

    def __init__(self) -> None:
        self.tokenizer = Tokenizer()
        tokens = {token for text in captions.vocabulary() for token in self.tokenizer.encode(text)}
        self.rows = sorted(tokens | {self.tokenizer.sot_token_id, self.tokenizer.eot_token_id})
        self._row = {token: row for row, token in enumerate(self.rows)}
        self._known: dict[str, list[int]] = {}

    def __call__(self, texts: list[str]) -> Tensor:
        """(B,) captions to (B, L) rows, padded with 0 to the longest."""
        encoded = []
        for text in texts:
            if text not in self._known:
                inner = [self._row[token] for token in self.tokenizer.encode(text)]
                self._known[text] = [self._row[self.tokenizer.sot_token_id], *inner, len(self.rows) - 1]
            encoded.append(self._known[text])
        longest = max(map(len, encoded))
        return torch.tensor([row + [0] * (longest - len(row)) for row in encoded])


@dataclass(frozen=True)
class Batch:
    """pixels: (B, 3, S, S). corner: (B, 2) first patch row and column. regions: (R, N) weights over patch
    tokens of image `owner` (R,). group, look: (R,) category and kind of each region."""

    pixels: Tensor
    corner: Tensor
    texts: list[str]
    owner: Tensor
    regions: Tensor
    region_texts: list[str]
    group: Tensor
    look: Tensor


def make_batch(pool: Pool, by_category: list[np.ndarray], recipe: Recipe, step: int) -> Batch:
    """The batch of a step: the same for the same recipe and step, whatever ran before."""
    rng = np.random.default_rng([recipe.seed, 3, step])
    side, count = recipe.stage(step)
    states = StateWords(recipe.state_share, recipe.state_right)
    views = [_look(pool, row, side, states, rng) for row in _rows(by_category, count, rng)]
    regions = [(owner, region) for owner, view in enumerate(views) for region in view.regions]
    images = torch.from_numpy(np.stack([view.pixels for view in views])).permute(0, 3, 1, 2).float() / 255
    mean = torch.tensor(OPENAI_MEAN).view(3, 1, 1)
    std = torch.tensor(OPENAI_STD).view(3, 1, 1)
    return Batch(
        (images - mean) / std,
        torch.from_numpy(np.stack([view.corner for view in views])),
        [view.text for view in views],
        torch.tensor([owner for owner, _ in regions]),
        torch.from_numpy(np.stack([region.weights for _, region in regions])).float(),
        [region.text for _, region in regions],
        torch.tensor([region.category for _, region in regions]),
        torch.tensor([region.kind for _, region in regions]),
    )


@dataclass(frozen=True)
class _Region:
    """weights: (N,) over the patch tokens of its image. kind: -1 for a normal one."""

    weights: np.ndarray
    text: str
    category: int
    kind: int


@dataclass(frozen=True)
class _View:
    """pixels: (S, S, 3) uint8, the window of one image. corner: its first patch row and column."""

    pixels: np.ndarray
    corner: np.ndarray
    text: str
    regions: list[_Region]


def _rows(by_category: list[np.ndarray], count: int, rng: np.random.Generator) -> list[int]:
    """Numbers of `count` images. Few categories in a batch: then neighbours differ in their defect and not in
    what they are."""
    groups = len(by_category) if rng.random() < 0.4 else int(rng.integers(2, 7))
    chosen = rng.choice(len(by_category), groups, replace=False)
    return [int(rng.choice(by_category[chosen[index % groups]])) for index in range(count)]


def _look(pool: Pool, row: int, side: int, states: StateWords, rng: np.random.Generator) -> _View:
    """One image through a window of `side` pixels, with its caption and its regions: the defect, if it shows,
    and some clean patches of the object."""
    corner = rng.integers(0, (SIZE - side) // PATCH + 1, 2)
    window = tuple(slice(start * PATCH, start * PATCH + side) for start in corner)
    flip = -1 if rng.random() < 0.5 else 1
    covered = _covered(pool.bits(pool.masks, row)[window][:, ::flip])
    fore = _covered(pool.bits(pool.foregrounds, row)[window][:, ::flip])
    category, kind, tone, colour, own, ground = pool.labels[row]
    name, colours = list(CATEGORIES)[category], list(COLOURS)
    words = {slot: colours[i] for slot, i in (("colour", own), ("background", ground)) if i >= 0}
    look = None
    if kind >= 0 and (covered > 0.07).any():
        look = captions.appearance(KINDS[kind], captions.TONES[tone], colours[colour], rng)
    text = captions.image_caption(name, words, look, states, rng)
    regions = []
    if look is not None:
        weights = (covered > 0.07) / (covered > 0.07).sum()
        regions.append(_Region(weights, captions.region_caption(name, words, look, rng), category, kind))
    clean = np.flatnonzero((fore > 0.4) & (covered == 0))
    if len(clean) and (look is None or rng.random() < 0.5):
        near = clean[rng.permutation(len(clean))[: rng.integers(1, 5)]]
        weights = np.zeros(len(covered))
        weights[near] = 1 / len(near)
        regions.append(_Region(weights, captions.region_caption(name, words, None, rng), category, -1))
    return _View(pool.pixels[row][window][:, ::flip], corner, text, regions)


def _covered(mask: np.ndarray) -> np.ndarray:
    """(S, S) bool to the share of each patch that is covered, (N,)."""
    grid = mask.shape[0] // PATCH
    return mask.reshape(grid, PATCH, grid, PATCH).mean((1, 3)).ravel()
