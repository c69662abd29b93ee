"""FAPrompt in the official order of computation: the reference that the kit is measured against.

Plain on purpose: full sequences of 77 tokens, explicit softmax attention, one image at a time at test,
the static prompts encoded again for every image, one text pass per image in training, SciPy's blur,
AUPRO by 200 thresholds over region properties. It reads the kit's parameters, so that both must give
the same values.
"""

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from skimage import measure
from sklearn.metrics import auc
from torch import Tensor

from fap_lib.config import TrainSettings
from fap_lib.image_tower import resize_positions
from fap_lib.model import FAPrompt

CONTEXT = 77


def project(block, x: Tensor) -> Tensor:
    """Queries, keys and values of (B, L, width) in one projection: (3, B, heads, L, width / heads)."""
    qkv = F.linear(x, block.attn.in_proj_weight, block.attn.in_proj_bias)
    return qkv.unflatten(-1, (3, block.attn.num_heads, -1)).permute(2, 0, 3, 1, 4)


def attend(block, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attention with the matrix of weights written out."""
    weights = (q @ k.transpose(-2, -1)) * q.shape[-1] ** -0.5
    if mask is not None:
        weights = weights + mask
    return block.attn.out_proj((weights.softmax(-1) @ v).transpose(1, 2).flatten(2))


@torch.no_grad()
def encode_image(clip: open_clip.CLIP, pixels: Tensor, vv_blocks: int) -> tuple[Tensor, Tensor]:
    """Global (B, D) and dense (B, 1 + N, D) features."""
    visual = clip.visual
    x = visual.conv1(pixels).flatten(2).transpose(1, 2)
    x = torch.cat([visual.class_embedding.expand(len(x), 1, -1), x], dim=1)
    grid = round((x.shape[1] - 1) ** 0.5)
    x = visual.ln_pre(x + resize_positions(visual.positional_embedding, grid))
    dense = x
    blocks = list(visual.transformer.resblocks)
    for index, block in enumerate(blocks):
        if index == len(blocks) - vv_blocks:
            dense = x
        q, k, v = project(block, block.ln_1(x))
        if index >= len(blocks) - vv_blocks:
            dense = dense + attend(block, v, v, v)
        x = x + attend(block, q, k, v)
        x = x + block.mlp(block.ln_2(x))
    return x[:, 0] @ visual.proj, visual.ln_post(dense) @ visual.proj


def encode_prompts(clip: open_clip.CLIP, tokens: Tensor, deep: Tensor, end: int) -> Tensor:
    """Text features (S, D) of prompts (S, 77, width) whose end token stands at `end`."""
    x = tokens + clip.positional_embedding
    for index, block in enumerate(clip.transformer.resblocks):
        if 1 <= index <= len(deep):
            own = deep[index - 1].expand(len(x), -1, -1)
            x = torch.cat([x[:, :1], own, x[:, 1 + own.shape[1] :]], dim=1)
        x = x + attend(block, *project(block, block.ln_1(x)), clip.attn_mask)
        x = x + block.mlp(block.ln_2(x))
    return clip.ln_final(x)[:, end] @ clip.text_projection


def text_features(clip: open_clip.CLIP, model: FAPrompt, bias: Tensor | float = 0.0) -> tuple[Tensor, Tensor]:
    """Normal (1, D) and abnormal (K, D) features of all prompts, encoded at full length."""
    prompts = model.prompts
    padding = clip.token_embedding(torch.zeros(CONTEXT, dtype=torch.long))
    normal = torch.cat([prompts.start, prompts.normal, prompts.normal_end])
    normal_end = len(normal) - 1
    normal = torch.cat([normal, padding[len(normal) :]])[None]
    rows = []
    for own in prompts.abnormal + bias:
        row = torch.cat([prompts.start, prompts.normal, own, prompts.abnormal_end])
        abnormal_end = len(row) - 1
        rows.append(torch.cat([row, padding[len(row) :]]))
    return (
        encode_prompts(clip, normal, prompts.deep, normal_end),
        encode_prompts(clip, torch.stack(rows), prompts.deep, abnormal_end),
    )


def pair(normal: Tensor, abnormal: Tensor) -> Tensor:
    """Unit text features (2, D) of normal and of the mean abnormal prompt."""
    return F.normalize(torch.cat([normal, abnormal.mean(0, keepdim=True)]), dim=-1)


def predict(clip: open_clip.CLIP, model: FAPrompt, image: Tensor, tokens: Tensor, size: int):
    """Forward pass of a batch; the adapted prompts image by image, as in training and at test."""
    tau = model.settings.temperature
    image, patches = F.normalize(image, dim=-1), F.normalize(tokens[:, 1:], dim=-1)
    normal, abnormal = text_features(clip, model)
    static = (patches @ pair(normal, abnormal).T / tau).softmax(-1)
    adapted_text, priors = [], []
    for index in range(len(image)):
        top = static[index, :, 1].topk(model.settings.n_patches).indices
        if model.settings.patch_selection == "first":
            top = torch.arange(len(top))
        prior = model.prior_network(patches[index, top][None])[0]
        adapted_text.append(pair(*text_features(clip, model, prior)))
        priors.append(prior)
    text = torch.stack(adapted_text)
    adapted = (patches @ text.transpose(1, 2) / tau).softmax(-1)
    logits = (image[:, None] @ text.transpose(1, 2))[:, 0] / tau
    maps = [upsample(value, size) for value in (static, adapted)]
    largest = (2 * static[..., 1].amax(1) + adapted[..., 1].amax(1)) / 3
    score = 0.5 * (logits.softmax(-1)[:, 1] + largest)
    return maps, logits, score, abnormal, torch.stack(priors)


def upsample(probability: Tensor, size: int) -> Tensor:
    """(B, N, 2) to (B, 2, size, size)."""
    grid = round(probability.shape[1] ** 0.5)
    planes = probability.transpose(1, 2).unflatten(-1, (grid, grid))
    return F.interpolate(planes, (size, size), mode="bilinear")


@torch.no_grad()
def score_image(
    clip: open_clip.CLIP, model: FAPrompt, pixels: Tensor, vv_blocks: int, sigma: float
) -> tuple[float, np.ndarray]:
    """Image score and smoothed anomaly map (H, W) of one image (1, 3, H, W)."""
    size = pixels.shape[-1]
    (one, two), _, score, _, _ = predict(clip, model, *encode_image(clip, pixels, vv_blocks), size)
    mean = (one[0, 1] + 1 - one[0, 0] + two[0, 1] + 1 - two[0, 0]) / 4
    return float(score), gaussian_filter(mean.numpy(), sigma)


def training_loss(
    clip: open_clip.CLIP,
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
