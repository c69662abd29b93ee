"""The frozen CLIP text tower over prompt embeddings, without computing anything twice.

All prompts of FAPrompt begin with the same tokens (start, V1..VE), and attention in the text tower
is causal: what follows cannot change them. So the shared prefix is run once, its keys and values are
kept, and each prompt runs only its own suffix. Sequences end at their end token: CLIP reads its
feature there, and the 60-odd padding tokens behind it cannot change it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fap_lib.clip.attention import attend, project_qkv
from fap_lib.clip.plain import CLIP
from fap_lib.clip.tokenizer import Tokenizer


class Prefix(NamedTuple):
    """Keys and values of the shared prefix, per layer (1, heads, P, d), and its length P."""

    keys: list[Tensor]
    values: list[Tensor]
    length: int


class TextTower(nn.Module):
    """The text half of a `CLIP`, frozen.

    Args:
        clip: the model; its text weights are used as they are (shared, not copied).
    """

    def __init__(self, clip: CLIP, tokenizer: Tokenizer):
        super().__init__()
        self.blocks = clip.transformer.resblocks
        self.token_embedding = clip.token_embedding
        self.positions = clip.positional_embedding
        self.ln_final = clip.ln_final
        self.projection = clip.text_projection
        self.tokenizer = tokenizer
        self.width = self.positions.shape[1]
        self.requires_grad_(False)

    def embed(self, text: str) -> Tensor:
        """Token embeddings (L, width) of `text` between its start and end token, both included."""
        ids = self.tokenizer([text])[0]  # (77,)
        length = int((ids == self.tokenizer.eot_token_id).nonzero()[0]) + 1
        return self.token_embedding(ids[:length].to(self.positions.device))

    def prompts(self, shared: Tensor, deep: Tensor, suffixes: Sequence[Tensor]) -> tuple[Prefix, Tensor]:
        """Run the tokens that all prompts share, and some prompts, as one sequence.

        A mask keeps the prompts apart: each sees the shared tokens and its own. So the tower's weights are
        read once, which is most of the work for so few tokens.

        Args:
            shared: (P, width), the start token and the shared normal tokens.
            deep: (layers, tokens, width), learnable tokens that replace positions 1..tokens at the input of
                blocks 1..layers; block 0 sees the prompt itself. They are fewer than P.
            suffixes: S of them, (L, width) each, what continues the shared tokens; the last one is the end
                token. With the shared ones these are T tokens in all.

        Returns:
            The prefix, and text features (S, D) of the prompts, not normalised.

        Source: `AnomalyCLIP_lib/AnomalyCLIP.py:237-249`.
        """
        length = len(shared)
        parts = [shared + self.positions[:length]]
        parts += [each + self.positions[length : length + len(each)] for each in suffixes]
        sizes = torch.tensor([len(part) for part in parts], device=shared.device)  # (1 + S,)
        owner = torch.arange(len(parts), device=shared.device).repeat_interleave(sizes)  # (T,), 0: shared
        mask = ((owner[:, None] == owner) | (owner == 0)).tril()  # (T, T)
        ends = sizes.cumsum(0)[1:] - 1  # (S,)

        x = torch.cat(parts)[None]  # (1, T, width)
        keys, values = [], []
        for index, block in enumerate(self.blocks):
            if 1 <= index <= len(deep):
                replaced = deep[index - 1][None]  # (1, tokens, width)
                x = torch.cat([x[:, :1], replaced, x[:, 1 + replaced.shape[1] :]], dim=1)  # (1, T, width)
            q, k, v = project_qkv(block.attn, block.ln_1(x))  # (1, heads, T, d) each
            keys.append(k[:, :, :length])
            values.append(v[:, :, :length])
            if index == len(self.blocks) - 1:  # features are read at the end tokens only
                x, q, mask = x[:, ends], q[:, :, ends], mask[ends]  # (1, S, width), (1, heads, S, d), (S, T)
            x = x + block.ls_1(attend(block.attn, q, k, v, mask))
            x = x + block.ls_2(block.mlp(block.ln_2(x)))
        return Prefix(keys, values, length), self.ln_final(x[0]) @ self.projection  # (S, D)

    def suffix(self, prefix: Prefix, tokens: Tensor) -> Tensor:
        """Text features (S, D), not normalised, of S prompts that continue `prefix`.

        Args:
            tokens: (S, L, width) token embeddings; the last one is the end token.
        """
        count, length, _ = tokens.shape
        x = tokens + self.positions[prefix.length : prefix.length + length]  # (S, L, width)
        own = torch.ones(length, length, dtype=torch.bool, device=x.device).tril()
        mask = torch.cat([own.new_ones(length, prefix.length), own], dim=1)  # (L, P + L)
        for index, block in enumerate(self.blocks):
            q, k, v = project_qkv(block.attn, block.ln_1(x))  # (S, heads, L, d) each
            k = torch.cat([prefix.keys[index].expand(count, -1, -1, -1), k], dim=2)  # (S, heads, P + L, d)
            v = torch.cat([prefix.values[index].expand(count, -1, -1, -1), v], dim=2)
            if index == len(self.blocks) - 1:  # the feature is read at the end token only
                x, q, mask = x[:, -1:], q[:, :, -1:], mask[-1:]  # (S, 1, width), (S, heads, 1, d), (1, P + L)
            x = x + block.ls_1(attend(block.attn, q, k, v, mask))
            x = x + block.ls_2(block.mlp(block.ln_2(x)))
        return self.ln_final(x[:, 0]) @ self.projection  # (S, D)
