"""A threshold from normal images alone, and what it promises (split conformal prediction).

Letters: n calibration images, all normal; alpha, the share of normal images one accepts to flag by mistake;
k, the rank of the threshold among the n scores.

If a new normal image comes from where the n came from (they are *exchangeable*), its score is as likely to
take any of the n + 1 places in the ranking as any other, so it lies above the k-th smallest of the n with a
probability of at most (n + 1 - k) / (n + 1). The smallest k for which that is at most alpha is
ceil((n + 1)(1 - alpha)).

Source: Vovk, Gammerman, Shafer, *Algorithmic Learning in a Random World* (2005); no part of FAPrompt.
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from fap_lib.core.errors import KitError


@dataclass(frozen=True)
class Calibration:
    """A threshold, and where it comes from.

    threshold: an image is flagged where its score is above it; in the scores' unit.
    alpha: the false positive rate asked for, in (0, 1). rank: k, from 1. images: n.
    """

    threshold: float
    alpha: float
    rank: int
    images: int

    @property
    def promised(self) -> float:
        """The most that the false positive rate is in expectation, over calibration images and new ones: at
        most alpha, and exactly this value where no two scores are equal."""
        return (self.images + 1 - self.rank) / (self.images + 1)

    def flags(self, scores: np.ndarray) -> np.ndarray:
        """Which scores are above the threshold, bool of the same shape."""
        return np.asarray(scores) > self.threshold

    def spread(self, level: float = 0.9, of: int | None = None) -> tuple[float, float]:
        """Where the false positive rate of *one* calibration lies with probability `level`: (low, high).

        Args:
            of: measured on so many new normal images (beta-binomial); None means on endlessly many, where it
                follows Beta(n + 1 - k, k).
        """
        from scipy import stats  # slow to import, and nothing else here needs it

        a, b = self.images + 1 - self.rank, self.rank
        if of is None:
            low, high = stats.beta(a, b).interval(level)
        else:
            low, high = (count / of for count in stats.betabinom(of, a, b).interval(level))
        return float(low), float(high)


def needed(alpha: float) -> int:
    """The fewest normal images from which a threshold can promise `alpha`: 1 / alpha - 1, rounded up.

    Raises:
        KitError: alpha is not between 0 and 1.
    """
    return -int(-1 // _fraction(alpha)) - 1


def check_count(count: int, alpha: float) -> None:
    """Refuse to choose a threshold from too few normal images.

    Raises:
        KitError: `count` is less than `needed(alpha)`, or alpha is not between 0 and 1.
    """
    least = needed(alpha)
    if count < least:
        raise KitError(
            f"alpha = {alpha} needs at least {least} normal images, but there {_are(count)}; add some, or "
            "use a larger alpha."
        )


def calibrate(scores: np.ndarray, alpha: float) -> Calibration:
    """The threshold that flags a new normal image with a probability of at most `alpha`.

    Args:
        scores: (n,) scores of normal images that were used for nothing else.

    Raises:
        KitError: alpha is not between 0 and 1, a score is not a number, or there are too few of them.
    """
    scores = np.asarray(scores, dtype=float)
    count = scores.size
    if scores.ndim != 1 or not np.isfinite(scores).all():
        raise KitError("a threshold needs one finite score for each normal image; check the images.")
    check_count(count, alpha)
    rank = count + 1 - int((count + 1) * _fraction(alpha))
    return Calibration(float(np.sort(scores)[rank - 1]), alpha, rank, count)


def repeated(
    scores: np.ndarray, images: int, alpha: float, times: int, seed: int = 0
) -> tuple[np.ndarray, Calibration]:
    """Calibrate on `images` random ones of `scores`, measure on the others; again and again.

    Args:
        scores: (m,) scores of normal images, more than `images`.

    Returns:
        The false positive rates (times,) on the images left out, and the last calibration.

    Raises:
        KitError: too few images.
    """
    if len(scores) <= images:
        raise KitError(f"{images} images to calibrate on leave none of {len(scores)} to measure on.")
    random = np.random.default_rng(seed)
    rates = np.empty(times)
    for time in range(times):
        order = random.permutation(scores)
        calibration = calibrate(order[:images], alpha)
        rates[time] = calibration.flags(order[images:]).mean()
    return rates, calibration


def _fraction(alpha: float) -> Fraction:
    """`alpha` as it is written: 0.1 is a tenth, and not the binary number nearest to it."""
    if not 0 < alpha < 1:
        raise KitError(f"alpha = {alpha} must be between 0 and 1, such as 0.05.")
    return Fraction(str(float(alpha)))


def _are(count: int) -> str:
    return "is 1" if count == 1 else f"are {count}"
