"""A threshold from normal images keeps its promise, and says when it cannot."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fap_lib.core.errors import KitError
from fap_lib.evaluation.calibration import Calibration, calibrate, needed, repeated

ALPHAS = st.integers(1, 99).map(lambda percent: percent / 100)


def test_by_hand():
    scores = np.array([0.9, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
    found = calibrate(scores, 0.2)  # the 8th smallest of 9
    assert found == Calibration(0.8, 0.2, 8, 9)
    assert found.promised == 0.2
    assert found.flags(np.array([0.8, 0.81])).tolist() == [False, True]
    assert calibrate(scores, 0.1).threshold == 0.9  # the largest, with the fewest images for it
    assert calibrate(np.arange(9.0), 0.7).rank == 3  # 10 * (1 - 0.7) is above 3 in binary numbers


@given(alpha=ALPHAS, extra=st.integers(0, 60), pool=st.lists(st.integers(0, 9), min_size=1, max_size=9))
@settings(deadline=None)
def test_the_promise_holds_over_all_orders(alpha: float, extra: int, pool: list[int]):
    """Each of n + 1 exchangeable scores is the new one equally often; at most alpha of them are flagged."""
    count = needed(alpha) + extra
    scores = np.resize(np.array(pool, dtype=float), count + 1)
    flagged = [calibrate(np.delete(scores, new), alpha).flags(scores[new]) for new in range(count + 1)]
    assert np.mean(flagged) <= alpha + 1e-12


@given(alpha=ALPHAS, extra=st.integers(0, 60))
@settings(deadline=None)
def test_it_is_the_smallest_threshold_that_can_promise_so(alpha: float, extra: int):
    """Without ties exactly the promised share is flagged, and one rank lower would be too many."""
    count = needed(alpha) + extra
    scores = np.arange(count + 1.0)
    found = calibrate(np.delete(scores, 0), alpha)
    flagged = [calibrate(np.delete(scores, new), alpha).flags(scores[new]) for new in range(count + 1)]
    assert np.mean(flagged) == pytest.approx(found.promised)
    assert found.promised <= alpha + 1e-12 < found.promised + 1 / (count + 1) + 2e-12


@given(alpha=ALPHAS)
def test_needed_is_enough_and_not_one_more(alpha: float):
    least = needed(alpha)
    assert calibrate(np.zeros(least), alpha).rank == least
    with pytest.raises(KitError, match=f"needs at least {least} normal images"):
        calibrate(np.zeros(least - 1), alpha)


def test_repeated_calibrations_spread_as_the_beta_distribution_says():
    scores = np.random.default_rng(0).random(400)
    rates, last = repeated(scores, 99, 0.05, times=2000)
    assert (last.rank, last.images, last.promised) == (95, 99, 0.05)
    assert rates.mean() == pytest.approx(0.05, abs=0.002)
    expected = stats.betabinom(301, 5, 95)
    assert (301 * rates).std() == pytest.approx(expected.std(), rel=0.1)
    low, high = last.spread(0.9, of=301)
    assert 0.88 < np.mean((rates >= low) & (rates <= high)) < 0.95
    assert last.spread(0.9) == pytest.approx(tuple(stats.beta(5, 95).interval(0.9)))


@pytest.mark.parametrize(
    ("scores", "alpha", "message"),
    [
        ([0.5] * 18, 0.05, "alpha = 0.05 needs at least 19 normal images, but there are 18; add some"),
        ([0.5], 0.05, "there is 1;"),
        ([], 0.5, "needs at least 1 normal images, but there are 0"),
        ([0.1, float("nan")], 0.5, "one finite score"),
        ([[0.1], [0.2]], 0.5, "one finite score"),
        ([0.5] * 30, 0.0, "alpha = 0.0 must be between 0 and 1"),
        ([0.5] * 30, 5, "alpha = 5 must be between 0 and 1, such as 0.05"),
        ([0.5] * 30, float("nan"), "must be between 0 and 1"),
    ],
)
def test_what_cannot_be_promised_is_said(scores: list, alpha: float, message: str):
    with pytest.raises(KitError, match=message):
        calibrate(np.array(scores), alpha)


def test_nothing_left_to_measure_on():
    with pytest.raises(KitError, match="30 images to calibrate on leave none of 30"):
        repeated(np.zeros(30), 30, 0.05, 1)
