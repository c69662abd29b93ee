"""CAP: compound abnormality prompts (paper section 3.2).

One normal prompt and K abnormality prompts over one set of shared normal tokens V:

    normal          [start] V1 .. VE                  object . [end]
    abnormal k      [start] V1 .. VE  A1 .. AE'  damaged object . [end]      with its own A

Letters: K abnormality prompts, E normal tokens, E' abnormal tokens, L text length, D feature width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CompoundPrompts(nn.Module):
    """The learnable tokens of all prompts.

    Args:
        normal_text: (L, width) embeddings of "[start] object . [end]".
        abnormal_text: (L', width) embeddings of "[start] damaged object . [end]".
        n_prompts: K.
        normal_tokens: E, shared by all prompts.
        abnormal_tokens: E', own ones of each abnormality prompt.
        deep_layers: blocks of the text tower that receive learnable tokens of their own.
        deep_tokens: how many; they take the places of V1, V2, ... so at most E.

    Source: `FAPrompt.py:60-150`; initial standard deviation 0.02 as there.
    """

    start: Tensor
    normal_end: Tensor
    abnormal_end: Tensor

    def __init__(
        self,
        normal_text: Tensor,
        abnormal_text: Tensor,
        *,
        n_prompts: int,
        normal_tokens: int,
        abnormal_tokens: int,
        deep_layers: int,
        deep_tokens: int,
    ):
        super().__init__()
        width = normal_text.shape[-1]
        self.normal = nn.Parameter(0.02 * torch.randn(normal_tokens, width))
        self.abnormal = nn.Parameter(0.02 * torch.randn(n_prompts, abnormal_tokens, width))
        self.deep = nn.Parameter(0.02 * torch.randn(deep_layers, deep_tokens, width))
        # The words are frozen, and every checkpoint of the same CLIP would repeat them.
        self.register_buffer("start", normal_text[:1].detach().clone(), persistent=False)
        self.register_buffer("normal_end", normal_text[1:].detach().clone(), persistent=False)
        self.register_buffer("abnormal_end", abnormal_text[1:].detach().clone(), persistent=False)

    def prefix(self) -> Tensor:
        """What all prompts share: [start] V1 .. VE, (1 + E, width)."""
        return torch.cat([self.start, self.normal])  # (1 + E, width)

    def normal_suffix(self) -> Tensor:
        """object . [end], (1, L, width)."""
        return self.normal_end[None]  # (1, L, width)

    def abnormal_suffix(self, prior: Tensor | None = None) -> Tensor:
        """A1 .. AE' damaged object . [end] of each abnormality prompt.

        Args:
            prior: (B, width) abnormality priors; each is added to all abnormal tokens.

        Returns:
            (K, L, width), or (B, K, L, width) with priors.
        """
        tokens: Tensor = self.abnormal  # (K, E', width)
        if prior is not None:
            tokens = tokens + prior[:, None, None]  # (B, K, E', width)
        return self.ended(tokens)

    def ended(self, tokens: Tensor) -> Tensor:
        """damaged object . [end] behind any abnormal tokens (..., E', width): (..., L, width)."""
        end = self.abnormal_end.expand(*tokens.shape[:-2], -1, -1)  # (..., L - E', width)
        return torch.cat([tokens, end], dim=-2)


def prototype(features: Tensor) -> Tensor:
    """One abnormality prototype from K prompts: (..., K, D) to (..., D), unit length.

    The mean is taken before normalisation, so prompts with long features weigh more
    (ledger: prototype-mean). Source: `train.py:93-96`.
    """
    return F.normalize(features.mean(dim=-2), dim=-1)  # (..., D)


def orthogonality_loss(features: Tensor) -> Tensor:
    """Sum over the K(K-1)/2 pairs of |cos| between abnormality text features (K, D) (paper Eq. 2).

    Range 0 (all orthogonal) to K(K-1)/2 (all parallel). Source: `train.py:85-91`.
    """
    unit = F.normalize(features, dim=-1)  # (K, D)
    return (unit @ unit.T).abs().triu(diagonal=1).sum()
