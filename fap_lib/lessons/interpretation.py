"""What learned prompts mean: how alike they are, which words lie near them, and what each answers to.

Letters: n images, N patches, K abnormality prompts, D width of CLIP's joint space.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from fap_lib.clip.backbone import Backbone
from fap_lib.data.features import FeatureCache
from fap_lib.model import StaticText

NORMAL = "normal"
"""The normal prompt's name in tables; abnormality prompts are named P1 to PK."""


def names(count: int) -> list[str]:
    """P1 .. PK."""
    return [f"P{number}" for number in range(1, count + 1)]


def prompt_features(static: StaticText) -> Tensor:
    """(1 + K, D) unit text features: the normal prompt, then the abnormality prompts."""
    return torch.cat([static.normal[None], F.normalize(static.abnormal, dim=-1)])


def cosines(features: Tensor) -> pd.DataFrame:
    """Cosine similarity of every pair of `prompt_features`, in [-1, 1]."""
    labels = [NORMAL, *names(len(features) - 1)]
    return pd.DataFrame((features @ features.T).cpu().numpy(), index=labels, columns=labels)


def nearest_tokens(backbone: Backbone, vectors: Tensor, known: Iterable[str] = ()) -> pd.DataFrame:
    """The token of the vocabulary nearest to each learned token (n, width), by cosine.

    Args:
        known: texts whose tokens alone are searched; none means the whole vocabulary.

    Returns:
        Columns: `token`, its `id`, and the `cosine` in [-1, 1].
    """
    table = backbone.clip.token_embedding.weight
    ids = torch.arange(len(table))
    if wanted := list(known):
        ids = torch.tensor(sorted({token for text in wanted for token in backbone.tokenizer.encode(text)}))
    found = F.normalize(vectors, dim=-1) @ F.normalize(table[ids.to(table.device)], dim=-1).T
    best = found.max(dim=1)
    chosen = ids[best.indices.cpu()].tolist()
    tokens = [backbone.tokenizer.decode([token]).strip() for token in chosen]
    return pd.DataFrame({"token": tokens, "id": chosen, "cosine": best.values.tolist()})


def sentence_features(backbone: Backbone, sentences: list[str]) -> Tensor:
    """(n, D) unit text features of sentences."""
    device = next(backbone.clip.parameters()).device
    with torch.no_grad():
        return backbone.clip.encode_text(backbone.tokenizer(sentences).to(device))


def nearest_sentences(features: Tensor, sentences: list[str], known: Tensor, count: int) -> pd.DataFrame:
    """The sentences nearest to each of `features` (n, D), by cosine: a row each, `rank` from 1.

    Args:
        known: (s, D) unit features of the sentences.
    """
    best = (features @ known.T).topk(count, dim=1)
    return pd.DataFrame(
        [
            {"prompt": row, "rank": rank + 1, "sentence": sentences[int(place)], "cosine": float(value)}
            for row in range(len(features))
            for rank, (value, place) in enumerate(zip(best.values[row], best.indices[row], strict=True))
        ]
    )


def looks_like(features: Tensor, known: Tensor, about: list[str], kinds: Iterable[str]) -> pd.DataFrame:
    """Cosine of prompts (K, D) with the mean sentence about a kind of defect: rows kinds, columns P1 .. PK.

    Args:
        known: (s, D) unit features of sentences. about: (s,), what each is about.
    """
    rows = {}
    for kind in kinds:
        members = torch.tensor([name == kind for name in about])
        rows[kind] = (features @ F.normalize(known[members].mean(0), dim=-1)).tolist()
    return pd.DataFrame.from_dict(rows, orient="index", columns=names(len(features)))


def by_defect(
    maps: np.ndarray, cache: FeatureCache, anomalous: np.ndarray, half: int | None = None
) -> pd.DataFrame:
    """Patch AUROC of each map for each kind of defect: rows kinds, columns P1 .. PK.

    The anomalous patches of one kind against all patches of normal images of the same category; mean over the
    categories that have the kind.

    Args:
        maps: (n, K, N), of any range. anomalous: (n, N) bool.
        half: 0 or 1 takes every second image of a category and kind, so that two tables share no image.
    """
    groups: dict[tuple[str, str], list[int]] = {}
    for position, record in enumerate(cache.records):
        groups.setdefault((record.category, record.defect), []).append(position)
    if half is not None:
        groups = {key: own[half::2] for key, own in groups.items()}
    normal = {
        category: np.sort(maps[own].transpose(1, 0, 2).reshape(maps.shape[1], -1))
        for (category, kind), own in groups.items()
        if kind == "good" and own
    }
    found: dict[str, list[list[float]]] = {}
    for (category, kind), own in groups.items():
        if kind != "good" and category in normal and anomalous[own].any():
            hits = maps[own].transpose(1, 0, 2)[:, anomalous[own]]  # (K, anomalous patches)
            pairs = zip(hits, normal[category], strict=True)
            found.setdefault(kind, []).append([_auroc(*pair) for pair in pairs])
    rows = {kind: np.mean(values, axis=0) for kind, values in sorted(found.items())}
    return pd.DataFrame.from_dict(rows, orient="index", columns=names(maps.shape[1]))


def _auroc(hits: np.ndarray, normal: np.ndarray) -> float:
    """Share of pairs in which a hit exceeds a normal value, ties half; `normal` is sorted."""
    below, up_to = (np.searchsorted(normal, hits, side) for side in ("left", "right"))
    return float((below + up_to).mean() / 2 / len(normal))


def interaction(table: pd.DataFrame) -> pd.DataFrame:
    """What is left of a table without the means of its rows and of its columns.

    Of `by_defect`: some kinds are easy for all prompts, and some prompts are good for all kinds; a specialist
    shows in what neither explains.
    """
    rows, columns = table.mean(axis=1), table.mean(axis=0)
    return table.sub(rows, axis=0).sub(columns, axis=1) + float(rows.mean())


def shares(table: pd.DataFrame) -> dict[str, float]:
    """How much of a table's variance lies between `rows`, between `columns`, and in what neither explains."""
    total = float(((table - table.to_numpy().mean()) ** 2).to_numpy().mean())
    parts = {
        "rows": table.mean(axis=1).var(ddof=0) / total,
        "columns": table.mean(axis=0).var(ddof=0) / total,
    }
    return {**parts, "interaction": float((interaction(table) ** 2).to_numpy().mean()) / total}


def match(
    words: pd.DataFrame, answers: pd.DataFrame, draws: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Do prompts answer to what their words say? Correlation of two tables' interactions, in [-1, 1], and the
    share of random re-orderings of the prompts that reach it (a permutation test)."""
    random = np.random.default_rng(seed)
    left, right = interaction(words).to_numpy(), interaction(answers).to_numpy()

    def correlation(order: np.ndarray) -> float:
        return float(np.corrcoef(left[:, order].ravel(), right.ravel())[0, 1])

    found = correlation(np.arange(left.shape[1]))
    chance = [correlation(random.permutation(left.shape[1])) for _ in range(draws)]
    return found, float(np.mean([value >= found for value in chance]))


def plane(features: np.ndarray, fit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`features` (n, D) on the first two principal axes of `fit` (m, D): (n, 2), and the axes' shares of
    its variance (2,)."""
    centre = fit.mean(axis=0)
    _, singular, axes = np.linalg.svd(fit - centre, full_matrices=False)
    return (features - centre) @ axes[:2].T, (singular**2 / (singular**2).sum())[:2]
