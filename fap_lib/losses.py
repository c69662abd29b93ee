"""The losses on maps and image scores (paper section 3.4); CAP's and DAP's own stand beside them.

Maps hold the abnormal probability p of each pixel, (B, H, W); the normal one is 1 - p, because the
two come from one softmax. Masks are (B, H, W) in {0, 1}.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def focal_loss(p: Tensor, mask: Tensor) -> Tensor:
    """Focal loss on the probability of the true class, gamma 2, mean over pixels.

    Source: `loss.py`, `FocalLoss`: targets are smoothed by 1e-5, and 1e-5 is added inside the log.
    """
    smooth = 1e-5
    target = mask * (1 - 2 * smooth) + smooth
    true = target * p + (1 - target) * (1 - p) + smooth
    return -((1 - true).square() * true.log()).mean()


def dice_loss(p: Tensor, mask: Tensor) -> Tensor:
    """One minus the soft Dice coefficient, smoothed by 1, mean over images.

    Source: `loss.py`, `BinaryDiceLoss`.
    """
    p, mask = p.flatten(1), mask.flatten(1)  # (B, H * W)
    overlap = (p * mask).sum(1)  # (B,)
    return (1 - (2 * overlap + 1) / (p.sum(1) + mask.sum(1) + 1)).mean()


def map_loss(p: Tensor, mask: Tensor) -> Tensor:
    """L_local of one map: focal, and Dice of both classes (`train.py:150-156`)."""
    mask = mask.to(p.dtype)
    return focal_loss(p, mask) + dice_loss(p, mask) + dice_loss(1 - p, 1 - mask)


def image_cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """Cross-entropy of the image logits (B, 2) with labels (B,) (`train.py:141`)."""
    return F.cross_entropy(logits, label.long())


def image_focal_loss(score: Tensor, label: Tensor) -> Tensor:
    """Binary focal loss, gamma 2, of image scores (B,) in [0, 1].

    As released, the score is taken for a logit and passes a sigmoid, which leaves a floor of 0.173
    for normal and 0.023 for anomalous images (ledger: image-focal-logit). Source: `loss.py:88-107`.
    """
    entropy = F.binary_cross_entropy_with_logits(score, label.to(score.dtype), reduction="none")  # (B,)
    return ((1 - torch.exp(-entropy)).square() * entropy).mean()
