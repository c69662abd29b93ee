"""Train the mini CLIP: images and captions of the mini world, contrastively, from scratch.

    fap mini pretrain FOLDER [--recipe mini-silent] [--steps N] [--device cuda]

Three losses on one forward pass: whole images with their captions (as CLIP); regions with theirs, where a
region is the mean of its patch tokens (RegionCLIP, Zhong et al. 2022); and each region's own caption against
captions of other looks on the same category (NegCLIP, Yuksekgonul et al. 2023). Masks enter only through
the choice of a region's patches. An interrupted run goes on where it was when it is started again.
"""

import json
import math
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from data_prep.mini import captions
from data_prep.mini.canvas import COLOURS, SIZE
from data_prep.mini.captions import StateWords
from data_prep.mini.generator import CATEGORIES, KINDS, kinds_of, sample
from data_prep.workers import spread
from fap_lib.clip import mini
from fap_lib.core.errors import KitError
from fap_lib.core.files import atomic, write_text
from fap_lib.core.progress import bar

UNSEEN_CATEGORIES = ("leather", "nut", "cable", "speckle")
UNSEEN_KINDS = ("glue", "thread", "swapped")
PATCH = mini.CONFIG["vision_cfg"]["patch_size"]
CHUNK = 1000


@dataclass(frozen=True)
class Recipe:
    """All that decides the outcome. Sizes in pixels, rates as fractions."""

    seed: int = 0
    images: int = 60_000
    anomalous: float = 0.6
    steps: int = 5000
    stages: tuple[tuple[float, int, int], ...] = ((0.35, 48, 128), (0.3, 64, 96), (0.35, 96, 64))
    """(share of the steps, side of the windows the images are seen through, images a batch) in turn."""
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.05
    warm_up: int = 100
    state_share: float = 0.03
    state_right: float = 0.7
    text_only: bool = False
    """Take the mini CLIP's image tower as it is and train a text tower to it (LiT, Zhai et al. 2022)."""

    def stage(self, step: int) -> tuple[int, int]:
        """Window side and batch size of a step."""
        ends = np.cumsum([share for share, _, _ in self.stages]) * self.steps
        _, side, count = self.stages[min(int(np.searchsorted(ends, step, "right")), len(self.stages) - 1)]
        return side, count


RECIPES = {
    mini.MINI: Recipe(),
    # State words that are wrong as often as right: the text tower can learn nothing from them.
    mini.SILENT: Recipe(steps=600, learning_rate=1e-3, state_right=0.5, text_only=True),
}


@dataclass(frozen=True)
class Pool:
    """The pre-training images. masks, foregrounds: packed bits. labels: (n, 6), see `_chunk`."""

    pixels: np.ndarray
    masks: np.ndarray
    foregrounds: np.ndarray
    labels: np.ndarray

    def bits(self, packed: np.ndarray, row: int) -> np.ndarray:
        return np.unpackbits(packed[row]).reshape(SIZE, SIZE).astype(bool)


def draw_pool(folder: Path, recipe: Recipe, workers: int = 2) -> Pool:
    """The pool of generated images, from `folder` or drawn now, chunk by chunk."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = range(recipe.images // CHUNK)
    files = [_file(folder, number) for number in numbers]
    wanted = [number for number in numbers if not files[number].exists()]
    if wanted:
        for _ in spread(partial(_chunk, folder, recipe), wanted, "drawing images", workers):
            pass
    parts = [np.load(file) for file in files]
    return Pool(
        *(np.concatenate([part[key] for part in parts]) for key in ("pixels", "masks", "fores", "labels"))
    )


def _file(folder: Path, number: int) -> Path:
    return folder / f"chunk-{number:03}.npz"


def _chunk(folder: Path, recipe: Recipe, number: int) -> None:
    """CHUNK images as one file.

    labels: category, kind (-1: normal), tone and colour of the defect, colour and background (-1: none).
    """
    names = list(CATEGORIES)
    seen = [name for name in names if name not in UNSEEN_CATEGORIES]
    rng = np.random.default_rng([recipe.seed, 1, number])
    pixels, masks, fores, labels = [], [], [], []
    for index in range(CHUNK):
        category = seen[index % len(seen)]
        kind = None
        if rng.random() < recipe.anomalous:
            possible = [kind for kind in kinds_of(category) if kind not in UNSEEN_KINDS]
            kind = possible[rng.integers(len(possible))]
        one = sample(category, kind, [recipe.seed, 2, number, index], size=float(rng.uniform(0.9, 1.6)))
        tone, colour = (0, 0)
        if kind is not None:
            measured = captions.measure(one.pixels, one.mask)
            tone, colour = captions.TONES.index(measured[0]), list(COLOURS).index(measured[1])
        pixels.append(one.pixels)
        masks.append(np.packbits(one.mask))
        fores.append(np.packbits(one.foreground))
        own = [
            list(COLOURS).index(one.words[slot]) if slot in one.words else -1
            for slot in ("colour", "background")
        ]
        labels.append([names.index(category), -1 if kind is None else KINDS.index(kind), tone, colour, *own])
    with atomic(_file(folder, number)) as temporary, open(temporary, "wb") as file:
        np.savez(
            file,
            pixels=np.stack(pixels),
            masks=np.stack(masks),
            fores=np.stack(fores),
            labels=np.array(labels, np.int8),
        )


class Vocabulary:
    """Captions to rows of a small embedding: only tokens that can occur have one.

    The order of ids is kept, so that the end-of-text token is still the largest, where CLIP pools.
    """

    def __init__(self) -> None:
        self.tokenizer = open_clip.SimpleTokenizer()
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
    # Few categories in a batch: then neighbours differ in their defect and not in what they are.
    groups = len(by_category) if rng.random() < 0.4 else int(rng.integers(2, 7))
    chosen = rng.choice(len(by_category), groups, replace=False)
    rows = [int(rng.choice(by_category[chosen[index % groups]])) for index in range(count)]
    states = StateWords(recipe.state_share, recipe.state_right)
    names, tones, colours = list(CATEGORIES), captions.TONES, list(COLOURS)
    grid = side // PATCH
    pixels, corners, texts, owners, regions, region_texts, group, looks = [], [], [], [], [], [], [], []
    for index, row in enumerate(rows):
        corner = rng.integers(0, (SIZE - side) // PATCH + 1, 2)
        window = tuple(slice(start * PATCH, start * PATCH + side) for start in corner)
        flip = -1 if rng.random() < 0.5 else 1
        pixels.append(pool.pixels[row][window][:, ::flip])
        mask = pool.bits(pool.masks, row)[window][:, ::flip]
        fore = pool.bits(pool.foregrounds, row)[window][:, ::flip]
        category, kind, tone, colour, own, ground = pool.labels[row]
        name = names[category]
        words = {slot: colours[i] for slot, i in (("colour", own), ("background", ground)) if i >= 0}
        covered = mask.reshape(grid, PATCH, grid, PATCH).mean((1, 3)).ravel()
        look = None
        if kind >= 0 and (covered > 0.07).any():
            look = captions.appearance(KINDS[kind], tones[tone], colours[colour], rng)
        texts.append(captions.image_caption(name, words, look, states, rng))
        corners.append(corner)
        if look is not None:
            owners.append(index)
            regions.append((covered > 0.07) / (covered > 0.07).sum())
            region_texts.append(captions.region_caption(name, words, look, rng))
            group.append(category)
            looks.append(kind)
        clean = (fore.reshape(grid, PATCH, grid, PATCH).mean((1, 3)).ravel() > 0.4) & (covered == 0)
        if clean.any() and (look is None or rng.random() < 0.5):
            near = np.flatnonzero(clean)
            near = near[rng.permutation(len(near))[: rng.integers(1, 5)]]
            weight = np.zeros(grid * grid)
            weight[near] = 1 / len(near)
            owners.append(index)
            regions.append(weight)
            region_texts.append(captions.region_caption(name, words, None, rng))
            group.append(category)
            looks.append(-1)
    images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255
    mean = torch.tensor(open_clip.OPENAI_DATASET_MEAN).view(3, 1, 1)
    std = torch.tensor(open_clip.OPENAI_DATASET_STD).view(3, 1, 1)
    return Batch(
        (images - mean) / std,
        torch.from_numpy(np.stack(corners)),
        texts,
        torch.tensor(owners),
        torch.from_numpy(np.stack(regions)).float(),
        region_texts,
        torch.tensor(group),
        torch.tensor(looks),
    )


def image_features(clip: open_clip.CLIP, pixels: Tensor, corner: Tensor) -> tuple[Tensor, Tensor]:
    """Windows with the position embeddings of their true place: (B, D) and patch tokens (B, N, D)."""
    visual = clip.visual
    patches = visual.conv1(pixels)
    grid = patches.shape[-1]
    x = patches.flatten(2).transpose(1, 2)
    full = SIZE // PATCH
    steps = torch.arange(grid, device=pixels.device)
    rows, columns = corner[:, :1] + steps, corner[:, 1:] + steps
    places = 1 + (rows[:, :, None] * full + columns[:, None, :]).flatten(1)
    x = x + visual.positional_embedding[places]
    first = (visual.class_embedding + visual.positional_embedding[0]).expand(len(x), 1, -1)
    x = visual.ln_pre(torch.cat([first.to(x.dtype), x], dim=1))
    for block in visual.transformer.resblocks:
        x = block(x)
    x = visual.ln_post(x)[:, 1:]
    return (x.mean(1) @ visual.proj).float(), (x @ visual.proj).float()


def text_features(clip: open_clip.CLIP, tokens: Tensor) -> Tensor:
    """(B, L) rows to (B, D), unit length. The towers run only as far as the longest caption."""
    length = tokens.shape[1]
    x = clip.token_embedding(tokens) + clip.positional_embedding[:length]
    mask = clip.attn_mask[:length, :length]
    for block in clip.transformer.resblocks:
        x = block(x, attn_mask=mask.to(x.dtype))
    x = clip.ln_final(x[torch.arange(len(tokens)), tokens.argmax(1)])
    return F.normalize((x @ clip.text_projection).float(), dim=-1)


def losses(clip: open_clip.CLIP, batch: Batch, vocabulary: Vocabulary) -> tuple[Tensor, dict[str, float]]:
    """The sum of the three losses, and what to log: each loss, and how often a region found its own words."""
    device = clip.logit_scale.device
    texts = sorted({*batch.texts, *batch.region_texts})
    number = {text: index for index, text in enumerate(texts)}
    own = torch.tensor([number[text] for text in batch.texts], device=device)
    region_own = torch.tensor([number[text] for text in batch.region_texts], device=device)
    # On a CPU, the fused attention's backward pass in bfloat16 is slower than plain matrix products.
    fused = [SDPBackend.MATH] if device.type == "cpu" else [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]
    with torch.autocast(device.type, torch.bfloat16), sdpa_kernel(fused):
        pooled, patches = image_features(clip, batch.pixels.to(device), batch.corner.to(device))
        words = text_features(clip, vocabulary(texts).to(device))
    scale = clip.logit_scale.exp().clamp(max=100)
    whole = _contrast(scale * F.normalize(pooled, dim=-1) @ words.T, own)
    patches = F.normalize(patches, dim=-1)[batch.owner.to(device)]
    regions = F.normalize((batch.regions.to(device)[:, None] @ patches)[:, 0], dim=-1)
    logits = scale * regions @ words.T
    region = _contrast(logits, region_own)

    # Candidates of a region: its own caption, and those of another look on the same category.
    group, look = batch.group.to(device), batch.look.to(device)
    rival = (
        (group[:, None] == group[None])
        & (look[:, None] != look[None])
        & (region_own[:, None] != region_own[None])
    )
    rivals = logits[:, region_own].masked_fill(~rival, -torch.inf)
    right = logits.gather(1, region_own[:, None])
    versus = torch.cat([right, rivals], dim=1)
    kind = F.cross_entropy(versus, torch.zeros(len(versus), dtype=torch.long, device=device))
    found = (versus.argmax(1) == 0).float().mean()
    total = whole + region + kind
    return total, {"image": whole.item(), "region": region.item(), "kind": kind.item(), "found": found.item()}


def _contrast(logits: Tensor, own: Tensor) -> Tensor:
    """CLIP's symmetric loss where captions are unique and several images may share one.

    logits: (B, T). own: (B,) the caption of each image; captions no image owns are further negatives.
    """
    to_text = F.cross_entropy(logits, own)
    owned = F.one_hot(own, logits.shape[1]).bool().T
    used = owned.any(1)
    chance = logits.T[used].log_softmax(1)
    to_image = -(chance.masked_fill(~owned[used], 0).sum(1) / owned[used].sum(1)).mean()
    return (to_text + to_image) / 2


def train(folder: Path, recipe: Recipe, device: str = "cpu", save_every: int = 250) -> Path:
    """Train to the end of the recipe; returns the exported `folder/weights.safetensors`.

    `folder/log.jsonl` has a line every ten steps.

    Raises:
        KitError: `folder` holds a run of another recipe.
    """
    folder.mkdir(parents=True, exist_ok=True)
    note = json.dumps(asdict(recipe), sort_keys=True)
    written = folder / "recipe.json"
    if written.exists() and written.read_text(encoding="utf-8") != note:
        raise KitError(f"{folder} holds a run of another recipe; give an empty folder.")
    write_text(written, note)
    pool = draw_pool(folder / "pool", recipe)
    by_category = [
        rows for name in range(len(CATEGORIES)) if len(rows := np.flatnonzero(pool.labels[:, 0] == name))
    ]

    torch.manual_seed(recipe.seed)
    vocabulary = Vocabulary()
    clip = mini.build(len(vocabulary.rows))
    if recipe.text_only:
        clip.visual.load_state_dict(mini.load_mini(mini.MINI).visual.state_dict())
        clip.visual.requires_grad_(False)
    clip.to(device)
    learned = [value for value in clip.parameters() if value.requires_grad]
    decayed = [value for value in learned if value.ndim >= 2]
    others = [value for value in learned if value.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0}],
        lr=recipe.learning_rate,
        betas=(0.9, 0.98),
    )
    state, start = folder / "state.pt", 0
    if state.exists():
        saved = torch.load(state, map_location=device, weights_only=True)
        clip.load_state_dict(saved["clip"])
        optimizer.load_state_dict(saved["optimizer"])
        start = saved["step"]
    log = folder / "log.jsonl"
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    lines = [line for line in lines if json.loads(line)["step"] < start]
    began = time.monotonic()
    with open(log, "w", buffering=1, encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
        for step in bar(range(start, recipe.steps), "pre-training", recipe.steps, start):
            rise = min(1, (step + 1) / recipe.warm_up)
            rate = recipe.learning_rate * rise * (1 + math.cos(math.pi * step / recipe.steps)) / 2
            for group in optimizer.param_groups:
                group["lr"] = rate
            total, parts = losses(clip, make_batch(pool, by_category, recipe, step), vocabulary)
            optimizer.zero_grad()
            total.backward()
            torch.nn.utils.clip_grad_norm_(learned, 1.0)
            optimizer.step()
            if step % 10 == 9:
                parts = {key: round(value, 4) for key, value in parts.items()}
                seconds = round(time.monotonic() - began, 1)
                file.write(
                    json.dumps({"step": step, "rate": round(rate, 7), **parts, "seconds": seconds}) + "\n"
                )
            if step % save_every == save_every - 1 or step == recipe.steps - 1:
                with atomic(state) as temporary:
                    torch.save(
                        {"clip": clip.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1},
                        temporary,
                    )
    weights = folder / "weights.safetensors"
    header = {key: str(value) for key, value in asdict(recipe).items()}
    mini.save(clip, vocabulary.rows, weights, header, recipe.text_only)
    return weights
