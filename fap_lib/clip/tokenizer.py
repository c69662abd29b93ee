"""CLIP's byte-pair tokenizer, with the vocabulary that open_clip brings along.

The same ids as open_clip's `SimpleTokenizer` (a test compares them), without open_clip's import.
"""

import gzip
import html
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import regex
import torch
from torch import Tensor

VOCABULARY = 49408
"""Tokens: 256 bytes, the same at a word's end, merges of two, and the start and the end of a text."""

_SPECIAL = ("<start_of_text>", "<end_of_text>")
_END = "</w>"
"""What marks a token at the end of a word."""

_WORDS = regex.compile(
    "|".join(_SPECIAL) + r"|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+", regex.IGNORECASE
)


class Tokenizer:
    """Texts to ids and back.

    encoder, decoder: tokens to ids, ids to tokens. context_length: ids of a text in `__call__`.
    """

    def __init__(self, context_length: int = 77):
        self.context_length = context_length
        self.encoder, self._ranks = _vocabulary()
        self.decoder = {number: token for token, number in self.encoder.items()}
        self.sot_token_id, self.eot_token_id = (self.encoder[token] for token in _SPECIAL)
        self._bytes = {sign: number for number, sign in _signs().items()}
        self._known = {token: [self.encoder[token]] for token in _SPECIAL}

    def __call__(self, texts: list[str]) -> Tensor:
        """(S, context_length) ids: start, text, end, zeros. A text that is too long is cut before its end."""
        ids = torch.zeros(len(texts), self.context_length, dtype=torch.long)
        for row, text in zip(ids, texts, strict=True):
            found = self.encode(text)[: self.context_length - 2]
            row[: len(found) + 2] = torch.tensor([self.sot_token_id, *found, self.eot_token_id])
        return ids

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without start and end."""
        signs = _signs()
        words = ("".join(signs[byte] for byte in word.encode()) for word in _WORDS.findall(_cleaned(text)))
        return [number for word in words for number in self._ids(word)]

    def decode(self, ids: list[int]) -> str:
        """The text of ids; every word ends in a space."""
        joined = "".join(self.decoder[number] for number in ids)
        return bytes(self._bytes[sign] for sign in joined).decode(errors="replace").replace(_END, " ")

    def _ids(self, word: str) -> list[int]:
        """The tokens of one word: pairs are merged, those first that the vocabulary learned first."""
        if word not in self._known:
            parts = [*word[:-1], word[-1] + _END]
            while len(parts) > 1:
                pairs = list(pairwise(parts))
                best = min(pairs, key=lambda pair: self._ranks.get(pair, len(self._ranks)))
                if best not in self._ranks:
                    break
                parts = _merged(parts, best)
            self._known[word] = [self.encoder[part] for part in parts]
        return self._known[word]


def _merged(parts: list[str], pair: tuple[str, str]) -> list[str]:
    """`parts` with every occurrence of a pair as one."""
    joined: list[str] = []
    place = 0
    while place < len(parts):
        found = tuple(parts[place : place + 2]) == pair
        joined.append("".join(pair) if found else parts[place])
        place += 1 + found
    return joined


def _cleaned(text: str) -> str:
    """Mended, without entities, single-spaced, in lower case."""
    if not (text.isascii() and text.isprintable()) or "&" in text:
        import ftfy  # slow to import, and plain text has nothing to mend

        text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split()).lower()


@cache
def _signs() -> dict[int, str]:
    """A printable sign for each byte: its own, or one from 256 on."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {byte: chr(256 + i) for i, byte in enumerate(others)}


@cache
def _vocabulary() -> tuple[dict[str, int], dict[tuple[str, str], int]]:
    """Tokens by id, and pairs by the order in which they merge."""
    found = find_spec("open_clip")  # finds the package, and does not import it
    assert found is not None
    assert found.origin is not None
    with gzip.open(
        Path(found.origin).parent / "bpe_simple_vocab_16e6.txt.gz", "rt", encoding="utf-8"
    ) as file:
        lines = file.read().split("\n")
    signs = list(_signs().values())
    count = VOCABULARY - 2 * len(signs) - len(_SPECIAL)
    merges = [(one, other) for one, other in (line.split() for line in lines[1 : count + 1])]
    tokens = [*signs, *(sign + _END for sign in signs), *map("".join, merges), *_SPECIAL]
    return {token: i for i, token in enumerate(tokens)}, {pair: i for i, pair in enumerate(merges)}
