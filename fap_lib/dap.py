"""DAP: the data-dependent abnormality prior (paper section 3.3).

The M patches of an image that look most abnormal pass a small network; its output, the prior, is
added to the abnormal tokens, so that the prompts fit this image.

Letters: B images, N patches, M chosen patches, D feature width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fap_lib.core.config import PatchSelection
from fap_lib.core.errors import KitError


def select_patches(
    patches: Tensor,
    abnormal: Tensor,
    count: int,
    selection: PatchSelection,
    seeds: Sequence[int] | None = None,
) -> tuple[Tensor, Tensor]:
    """Choose M patches of each image.

    Args:
        patches: (B, N, D) unit patch features.
        abnormal: (B, N) static abnormal probabilities in [0, 1].
        count: M, at most N.
        seeds: one an image, from which `random` draws (`FeatureCache.seeds`); the others need none.

    Returns:
        (B, M, D) features and (B, M) their raster indices.

    Raises:
        KitError: `random` without seeds.

    Source: `train.py:103-109`, `test.py:112-118`.
    """
    if selection == "first":
        index = torch.arange(count).expand(patches.shape[0], -1)  # (B, M)
    elif selection == "random":
        index = _drawn(seeds, patches.shape[1])[:, :count]  # (B, M)
    else:
        index = abnormal.topk(count, dim=1).indices  # (B, M)
    index = index.to(patches.device)
    return patches.gather(1, index[..., None].expand(-1, -1, patches.shape[-1])), index


def _drawn(seeds: Sequence[int] | None, count: int) -> Tensor:
    """A random order (B, N) of each image's patches: the same on every machine and in every batch."""
    if seeds is None:
        raise KitError("selection = random draws an image's patches from its seed; pass `seeds`.")
    return torch.stack([torch.randperm(count, generator=torch.Generator().manual_seed(s)) for s in seeds])


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
        hidden = self.linear1(patches.flatten(1)).relu()  # (B, M * D) to (B, M * D / 16)
        return self.linear2(hidden)


def prior_loss(prior: Tensor, label: Tensor) -> Tensor:
    """Push the prior of normal images to zero: mean square over the width, summed over normal images.

    The sum makes its strength depend on how many normal images a batch holds (ledger:
    prior-loss-sum). Zero for a batch without normal images. Source: `train.py:126-129`.

    Args:
        prior: (B, width). label: (B,) 0 normal, 1 anomalous.
    """
    size = prior.square().mean(dim=-1)  # (B,)
    return (size * (label == 0)).sum()
