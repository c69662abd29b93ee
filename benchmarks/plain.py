"""FAPrompt in the official order of computation: the reference that the kit is measured against.

Plain on purpose: full sequences of 77 tokens, explicit softmax attention, one image at a time at test,
the static prompts encoded again for every image, one text pass per image in training, SciPy's blur,
AUPRO by 200 thresholds over region properties. It reads the kit's parameters, so that both must give
the same values. `attend` and `context` leave the official order for the story's single steps only.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from skimage import measure
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_auc_score
from torch import Tensor

from fap_lib.clip.backbone import Backbone
from fap_lib.clip.image_tower import resize_positions
from fap_lib.clip.plain import CLIP, ResidualAttentionBlock
from fap_lib.core.config import FeatureSettings, ScoreSettings, TrainSettings
from fap_lib.data.encoding import load_pair
from fap_lib.data.manifest import Manifest
from fap_lib.model import FAPrompt
from fap_lib.training import batches, make_optimiser

CONTEXT = 77
FPR_LIMIT = 0.3

Attend = Callable[..., Tensor]


def project(block: ResidualAttentionBlock, x: Tensor) -> Tensor:
    """Queries, keys and values of (B, L, width) in one projection: (3, B, heads, L, width / heads)."""
    qkv = F.linear(x, block.attn.in_proj_weight, block.attn.in_proj_bias)
    return qkv.unflatten(-1, (3, block.attn.num_heads, -1)).permute(2, 0, 3, 1, 4)


def explicit(
    block: ResidualAttentionBlock, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> Tensor:
    """Attention with the matrix of weights written out."""
    weights = (q @ k.transpose(-2, -1)) * q.shape[-1] ** -0.5
    if mask is not None:
        weights = weights + mask
    return block.attn.out_proj((weights.softmax(-1) @ v).transpose(1, 2).flatten(2))


def fused(
    block: ResidualAttentionBlock, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> Tensor:
    """The same by torch's fused kernel, which never holds the matrix of weights."""
    heads = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return block.attn.out_proj(heads.transpose(1, 2).flatten(2))


@torch.no_grad()
def encode_image(
    clip: CLIP, pixels: Tensor, vv_blocks: int, attend: Attend = explicit
) -> tuple[Tensor, Tensor]:
    """Global (B, D) and dense (B, 1 + N, D) features."""
    visual = clip.visual
    x = visual.conv1(pixels).flatten(2).transpose(1, 2)
    x = torch.cat([visual.class_embedding.expand(len(x), 1, -1), x], dim=1)
    grid = round((x.shape[1] - 1) ** 0.5)
    x = visual.ln_pre(x + resize_positions(visual.positional_embedding, grid))
    dense = None
    blocks = list(visual.transformer.resblocks)
    for index, block in enumerate(blocks):
        if index == len(blocks) - vv_blocks:
            dense = x
        q, k, v = project(block, block.ln_1(x))
        if dense is not None:
            dense = dense + attend(block, v, v, v)
        x = x + attend(block, q, k, v)
        x = x + block.mlp(block.ln_2(x))
    tokens = visual.ln_post(x if dense is None else dense) @ visual.proj
    if visual.pool_type == "avg":  # the mini CLIP
        return (visual.ln_post(x) @ visual.proj)[:, 1:].mean(1), tokens
    return x[:, 0] @ visual.proj, tokens


def encode_prompts(clip: CLIP, tokens: Tensor, deep: Tensor, end: int, attend: Attend) -> Tensor:
    """Text features (S, D) of prompts (S, L, width) whose end token stands at `end`."""
    length = tokens.shape[1]
    x = tokens + clip.positional_embedding[:length]
    mask = clip.attn_mask[:length, :length]
    for index, block in enumerate(clip.transformer.resblocks):
        if 1 <= index <= len(deep):
            own = deep[index - 1].expand(len(x), -1, -1)
            x = torch.cat([x[:, :1], own, x[:, 1 + own.shape[1] :]], dim=1)
        x = x + attend(block, *project(block, block.ln_1(x)), mask)
        x = x + block.mlp(block.ln_2(x))
    return clip.ln_final(x)[:, end] @ clip.text_projection


def text_features(
    clip: CLIP,
    model: FAPrompt,
    bias: Tensor | float = 0.0,
    attend: Attend = explicit,
    context: int | None = CONTEXT,
) -> tuple[Tensor, Tensor]:
    """Normal (1, D) and abnormal (K, D) features of all prompts, padded to `context` tokens (None: not)."""
    prompts = model.prompts
    padding = clip.token_embedding(torch.zeros(CONTEXT, dtype=torch.long))

    def encode(rows: list[Tensor]) -> Tensor:
        end = len(rows[0]) - 1
        padded = torch.stack([torch.cat([row, padding[len(row) : context]]) for row in rows])
        if context is None:
            padded = padded[:, : end + 1]
        return encode_prompts(clip, padded, prompts.deep, end, attend)

    shared = [prompts.start, prompts.normal]
    abnormal = [torch.cat([*shared, own, prompts.abnormal_end]) for own in prompts.abnormal + bias]
    return encode([torch.cat([*shared, prompts.normal_end])]), encode(abnormal)


def pair(normal: Tensor, abnormal: Tensor) -> Tensor:
    """Unit text features (2, D) of normal and of the mean abnormal prompt."""
    return F.normalize(torch.cat([normal, abnormal.mean(0, keepdim=True)]), dim=-1)


class Forward(NamedTuple):
    """maps: static and adapted, (B, C, size, size) each. logits: (B, C). score: (B,). abnormal: (K, D) static
    text features. priors: (B, width)."""

    maps: list[Tensor]
    logits: Tensor
    score: Tensor
    abnormal: Tensor
    priors: Tensor


def predict(
    clip: CLIP,
    model: FAPrompt,
    image: Tensor,
    tokens: Tensor,
    size: int,
    attend: Attend = explicit,
    context: int | None = CONTEXT,
) -> Forward:
    """Forward pass of a batch; the adapted prompts image by image, as in training and at test."""
    assert model.prior_network is not None
    tau = model.settings.temperature
    image, patches = F.normalize(image, dim=-1), F.normalize(tokens[:, 1:], dim=-1)
    normal, abnormal = text_features(clip, model, 0.0, attend, context)
    static = (patches @ pair(normal, abnormal).T / tau).softmax(-1)
    adapted_text, priors = [], []
    for index in range(len(image)):
        top = static[index, :, 1].topk(model.settings.n_patches).indices
        if model.settings.patch_selection == "first":
            top = torch.arange(len(top))
        prior = model.prior_network(patches[index, top][None])[0]
        adapted_text.append(pair(*text_features(clip, model, prior, attend, context)))
        priors.append(prior)
    text = torch.stack(adapted_text)
    adapted = (patches @ text.transpose(1, 2) / tau).softmax(-1)
    logits = (image[:, None] @ text.transpose(1, 2))[:, 0] / tau
    maps = [upsample(value, size) for value in (static, adapted)]
    largest = (2 * static[..., 1].amax(1) + adapted[..., 1].amax(1)) / 3
    score = 0.5 * (logits.softmax(-1)[:, 1] + largest)
    return Forward(maps, logits, score, abnormal, torch.stack(priors))


def upsample(probability: Tensor, size: int) -> Tensor:
    """(B, N, 2) to (B, 2, size, size)."""
    grid = round(probability.shape[1] ** 0.5)
    planes = probability.transpose(1, 2).unflatten(-1, (grid, grid))
    return F.interpolate(planes, (size, size), mode="bilinear")


@torch.no_grad()
def score_image(
    clip: CLIP,
    model: FAPrompt,
    pixels: Tensor,
    vv_blocks: int,
    sigma: float,
    attend: Attend = explicit,
    context: int | None = CONTEXT,
) -> tuple[float, np.ndarray]:
    """Image score and smoothed anomaly map (H, W) of one image (1, 3, H, W)."""
    size = pixels.shape[-1]
    features = encode_image(clip, pixels, vv_blocks, attend)
    (one, two), _, score, _, _ = predict(clip, model, *features, size, attend, context)
    mean = (one[0, 1] + 1 - one[0, 0] + two[0, 1] + 1 - two[0, 0]) / 4
    return float(score), gaussian_filter(mean.numpy(), sigma)


def training_loss(
    clip: CLIP,
    model: FAPrompt,
    pixels: Tensor,
    label: Tensor,
    mask: Tensor,
    vv_blocks: int,
    settings: TrainSettings,
) -> Tensor:
    """Total loss of a batch, from pixels."""
    features = encode_image(clip, pixels, vv_blocks)
    maps, logits, score, abnormal, priors = predict(clip, model, *features, pixels.shape[-1])
    total = settings.image_ce_weight * F.cross_entropy(logits, label)
    entropy = F.binary_cross_entropy_with_logits(score, label.float(), reduction="none")
    total = total + settings.image_focal_weight * ((1 - (-entropy).exp()) ** 2 * entropy).mean()
    weights = (settings.pixel_static_weight, settings.pixel_adapted_weight)
    for weight, probability in zip(weights, maps, strict=True):
        target = torch.stack([1 - mask, mask], dim=1).clamp(1e-5, 1 - 1e-5)
        true = (target * probability).sum(1) + 1e-5
        loss = -((1 - true) ** 2 * true.log()).mean()
        for channel, wanted in ((1, mask), (0, 1 - mask)):
            p, m = probability[:, channel].flatten(1), wanted.flatten(1)
            loss = loss + (1 - (2 * (p * m).sum(1) + 1) / (p.sum(1) + m.sum(1) + 1)).mean()
        total = total + weight * loss
    for i in range(len(abnormal)):
        for j in range(i + 1, len(abnormal)):
            cosine = torch.dot(abnormal[i], abnormal[j]) / (abnormal[i].norm() * abnormal[j].norm())
            total = total + settings.orthogonal_weight * cosine.abs()
    for prior, anomalous in zip(priors, label, strict=True):
        if anomalous == 0:
            total = total + settings.prior_weight * prior.square().mean()
    return total


def aupro(masks: np.ndarray, maps: np.ndarray) -> float:
    """AUPRO in the official definition: every threshold, every map, every region."""
    low, high = maps.min(), maps.max()
    above = np.zeros_like(maps, dtype=bool)
    pros, fprs = [], []
    for threshold in np.arange(low, high, (high - low) / 200):
        above[maps <= threshold], above[maps > threshold] = 0, 1
        pro = []
        for binary, mask in zip(above, masks, strict=True):
            for region in measure.regionprops(measure.label(mask)):
                pro.append(binary[region.coords[:, 0], region.coords[:, 1]].sum() / region.area)
        fprs.append(np.logical_and(~masks, above).sum() / (~masks).sum())
        pros.append(np.mean(pro))
    pro_curve, fpr_curve = np.array(pros), np.array(fprs)
    kept = fpr_curve < 0.3
    scaled = fpr_curve[kept]
    scaled = (scaled - scaled.min()) / (scaled.max() - scaled.min())
    return float(auc(scaled, pro_curve[kept]))


def aupro_exact(masks: np.ndarray, maps: np.ndarray) -> float:
    """AUPRO over all thresholds: sort every pixel, sum from the top, cut at a false positive rate of 0.3."""
    overlap = np.zeros(masks.shape)
    regions = 0
    for weight, mask in zip(overlap, masks, strict=True):
        for region in measure.regionprops(measure.label(mask)):
            weight[region.coords[:, 0], region.coords[:, 1]] = 1 / region.area
            regions += 1
    order = np.argsort(-maps, axis=None, kind="stable")
    score = maps.ravel()[order]
    last = np.r_[score[1:] != score[:-1], True]  # equal scores fall under one threshold
    fpr = np.r_[0, np.cumsum(~masks.ravel()[order])[last] / (~masks).sum()]
    pro = np.r_[0, np.cumsum(overlap.ravel()[order])[last] / regions]
    kept = fpr <= FPR_LIMIT
    fpr, pro = np.r_[fpr[kept], FPR_LIMIT], np.r_[pro[kept], np.interp(FPR_LIMIT, fpr, pro)]
    return float(auc(fpr, pro)) / FPR_LIMIT


def ranking(masks: np.ndarray, maps: np.ndarray) -> tuple[float, float]:
    """Pixel AUROC and average precision by scikit-learn."""
    truth, score = masks.ravel(), maps.ravel()
    return roc_auc_score(truth, score), average_precision_score(truth, score)


def train_epoch(
    backbone: Backbone,
    model: FAPrompt,
    manifest: Manifest,
    features: FeatureSettings,
    settings: TrainSettings,
) -> list[float]:
    """One epoch from image files; the total loss of each step."""
    records = manifest.records("test")
    optimiser = make_optimiser(model, settings)
    totals = []
    for _, _, index in batches(len(records), settings):
        pixels, masks = zip(
            *(load_pair(manifest, records[i], features.image_size) for i in index), strict=True
        )
        label = torch.tensor([records[i].label for i in index])
        mask = torch.from_numpy(np.stack(masks)).float()
        batch = backbone.normalise(np.stack(pixels))
        loss = training_loss(backbone.clip, model, batch, label, mask, features.vv_blocks, settings)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        totals.append(float(loss.detach()))
    return totals


def score_dataset(
    backbone: Backbone,
    model: FAPrompt,
    manifest: Manifest,
    features: FeatureSettings,
    settings: ScoreSettings,
) -> tuple[list[float], dict[str, float]]:
    """Image scores, and the means over categories of the pixel metrics, from image files."""
    scores: list[float] = []
    categories: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for record in manifest.records("test"):
        image, mask = load_pair(manifest, record, features.image_size)
        pixels = backbone.normalise(image[None])
        score, anomaly = score_image(backbone.clip, model, pixels, features.vv_blocks, settings.sigma)
        scores.append(score)
        categories.setdefault(record.category, []).append((mask, anomaly))
    metrics: dict[str, list[float]] = {}
    for pairs in categories.values():
        masks, maps = (np.stack(each) for each in zip(*pairs, strict=True))
        precision, recall, _ = precision_recall_curve(masks.ravel(), maps.ravel())
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
        auroc, ap = ranking(masks, maps)
        found = {"auroc": auroc, "ap": ap, "f1_max": f1.max(), "aupro_official": aupro(masks, maps)}
        for name, value in found.items():
            metrics.setdefault(name, []).append(float(value))
    return scores, {name: float(np.mean(values)) for name, values in metrics.items()}


def save_features(folder: Path, image: np.ndarray, patches: np.ndarray) -> None:
    """Features of each image (n, D), (n, N, D) in a float32 file of its own, as torch saves it."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(len(image)):
        parts = (torch.from_numpy(each[index].astype(np.float32)) for each in (image, patches))
        torch.save(tuple(parts), folder / f"{index}.pt")


def load_features(folder: Path, count: int) -> tuple[Tensor, Tensor]:
    """What `save_features` wrote."""
    pairs = [torch.load(folder / f"{index}.pt", weights_only=True) for index in range(count)]
    return torch.stack([image for image, _ in pairs]), torch.stack([patches for _, patches in pairs])
