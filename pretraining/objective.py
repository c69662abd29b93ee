"""The three losses of the pre-training, from one forward pass of both towers."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from data_prep.mini.canvas import SIZE
from fap_lib.clip.plain import CLIP
from pretraining.batches import PATCH, Batch, Vocabulary


def image_features(clip: CLIP, pixels: Tensor, corner: Tensor) -> tuple[Tensor, Tensor]:
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


def text_features(clip: CLIP, tokens: Tensor) -> Tensor:
    """(B, L) rows to (B, D), unit length. The towers run only as far as the longest caption."""
    length = tokens.shape[1]
    x = clip.token_embedding(tokens) + clip.positional_embedding[:length]
    mask = clip.attn_mask[:length, :length]
    for block in clip.transformer.resblocks:
        x = block(x, attn_mask=mask.to(x.dtype))
    x = clip.ln_final(x[torch.arange(len(tokens)), tokens.argmax(1)])
    return F.normalize((x @ clip.text_projection).float(), dim=-1)


def losses(clip: CLIP, batch: Batch, vocabulary: Vocabulary) -> tuple[Tensor, dict[str, float]]:
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
