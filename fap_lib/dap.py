"""DAP: the data-dependent abnormality prior (paper section 3.3).

The M patches of an image that look most abnormal pass a small network; its output, the prior, is
added to the abnormal tokens, so that the prompts fit this image.

Letters: B images, N patches, M chosen patches, D feature width.
"""

import torch
from torch import Tensor, nn

from fap_lib.core.config import PatchSelection


def select_patches(
    patches: Tensor, abnormal: Tensor, count: int, selection: PatchSelection
) -> tuple[Tensor, Tensor]:
    """Choose M patches of each image.

    Args:
        patches: (B, N, D) unit patch features.
        abnormal: (B, N) static abnormal probabilities in [0, 1].
        count: M, at most N.

    Returns:
        (B, M, D) features and (B, M) their raster indices.

    Source: `train.py:103-109`, `test.py:112-118`.
    """
    if selection == "first":
        index = torch.arange(count, device=patches.device).expand(len(patches), -1)
    else:
        key = abnormal if selection == "most_abnormal" else _noise(patches)
        index = key.topk(count, dim=1).indices
    return patches.gather(1, index[..., None].expand(-1, -1, patches.shape[-1])), index


def _noise(patches: Tensor) -> Tensor:
    """Pseudo-random numbers (B, N) that depend on the image alone, not on the batch or on any state."""
    return (patches.float().sum(-1) * 43758.5453).sin().mul(12345.678).frac().abs()


class PriorNetwork(nn.Module):
    """psi: M patch features to one prior in the space of token embeddings.

    Two linear layers with a ReLU; the hidden width is a sixteenth of the input (`FAPrompt.py:75-79`).
    """

    def __init__(self, n_patches: int, patch_width: int, token_width: int):
        super().__init__()
        width = n_patches * patch_width
        self.linear1 = nn.Linear(width, max(1, width // 16))
        self.linear2 = nn.Linear(max(1, width // 16), token_width)

    def forward(self, patches: Tensor) -> Tensor:
        """(B, M, D) patch features to priors (B, token width)."""
        return self.linear2(self.linear1(patches.flatten(1)).relu())


def prior_loss(prior: Tensor, label: Tensor) -> Tensor:
    """Push the prior of normal images to zero: mean square over the width, summed over normal images.

    The sum makes its strength depend on how many normal images a batch holds (ledger:
    prior-loss-sum). Zero for a batch without normal images. Source: `train.py:126-129`.

    Args:
        prior: (B, width). label: (B,) 0 normal, 1 anomalous.
    """
    return (prior.square().mean(dim=-1) * (label == 0)).sum()
