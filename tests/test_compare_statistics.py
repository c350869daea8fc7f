"""Simulations: a model against itself is called different in at most 5 % of cases, and intervals have 95 % coverage."""

import numpy as np
import pytest
from scipy import stats

from yolo_lite.compare import significance

TRIALS = 20_000


def simulate(seeds, models, difference=0.0, seed=0):
    """Draw metrics as training gives them: a spread over seeds, part of which all models share.

    Returns:
        (np.ndarray, np.ndarray): Models (TRIALS, models, seeds) and their baseline (TRIALS, 1, seeds).
    """
    rng = np.random.default_rng(seed)
    shared = rng.normal(0, 0.005, (TRIALS, 1, seeds))
    baseline = 0.5 + shared + rng.normal(0, 0.01, (TRIALS, 1, seeds))
    return 0.5 + difference + shared + rng.normal(0, 0.01, (TRIALS, models, seeds)), baseline


def is_rate(hits, rate, alternative):
    """Tell whether a count out of all trials fits a rate: binomial test at 0.1 %."""
    return stats.binomtest(int(hits), TRIALS, rate, alternative=alternative).pvalue > 0.001


@pytest.mark.parametrize("seeds", [3, 6])
def test_a_model_against_itself(seeds):
    _, _, _, p = significance.paired(*simulate(seeds, 1))
    wrong = (p < 0.05).sum()
    assert is_rate(wrong, 0.05, "greater"), wrong / TRIALS
    assert is_rate(wrong, 0.05, "less"), f"{wrong / TRIALS} is too careful"


@pytest.mark.parametrize("seeds", [3, 6])
def test_any_of_five_models_that_are_the_baseline_itself(seeds):
    _, _, _, p = significance.paired(*simulate(seeds, 5))
    wrong = p.min(-1) * 5 < 0.05  # whether Holm's method calls any of them different
    assert ((significance.holm(p) < 0.05).any(-1) == wrong).all()
    assert is_rate(wrong.sum(), 0.05, "greater"), wrong.mean()
    assert not is_rate((p < 0.05).any(-1).sum(), 0.05, "greater")  # without adjustment, many more are


def test_holm_is_that_of_statsmodels():
    multipletests = pytest.importorskip("statsmodels.stats.multitest").multipletests
    p = np.random.default_rng(0).uniform(0, 0.2, (50, 7))
    p[:10, 2], p[10:20, :3] = p[:10, 5], 0.0  # ties and zeros
    p[20:30] *= 8
    p = p.clip(max=1)
    expected = np.stack([multipletests(row, method="holm")[1] for row in p])
    assert np.allclose(significance.holm(p), expected, rtol=0, atol=1e-15) and (expected == 1).any()
    assert significance.holm(p.reshape(5, 10, 7)).shape == (5, 10, 7)
    assert significance.holm([]).tolist() == [] and significance.holm([0.03]).tolist() == [0.03]


@pytest.mark.parametrize("seeds", [3, 6])
def test_intervals_cover_a_known_difference(seeds):
    mean, low, high, _ = significance.paired(*simulate(seeds, 1, difference=0.013))
    covered = ((low <= 0.013) & (high >= 0.013)).sum()
    assert is_rate(covered, 0.95, "two-sided"), covered / TRIALS
    assert abs(mean.mean() - 0.013) < 0.0005


@pytest.mark.parametrize("seeds", [3, 6])
def test_the_check_notices_a_percentile_bootstrap(seeds):
    """What a bootstrap over so few seeds would cover: far less, and the check above says so."""
    ours, baseline = simulate(seeds, 1)
    gaps = (ours - baseline)[:4000, 0]
    drawn = np.random.default_rng(1).integers(0, seeds, (200, seeds))
    low, high = np.percentile(gaps[:, drawn].mean(-1), [2.5, 97.5], axis=1)
    covered = ((low <= 0) & (high >= 0)).mean() * TRIALS
    assert covered / TRIALS < 0.9 and not is_rate(covered, 0.95, "two-sided")


def test_a_real_difference_is_found():
    ours, baseline = simulate(6, 1, difference=0.05)
    mean, *_, p = significance.paired(ours, baseline)
    assert (p < 0.05).mean() > 0.95 and (mean > 0).all()


def test_differences_pair_common_seeds_and_adjust():
    values = {
        "base": {0: 0.50, 1: 0.51, 2: 0.52, 3: 0.90},
        "same": {0: 0.50, 1: 0.51, 2: 0.52},
        "less": {2: 0.42, 0: 0.401, 1: 0.409},
        "noisy": {0: 0.6, 1: 0.4, 2: 0.55},
        "single": {0: 0.7},
        "none": {7: 0.7},
    }
    found = significance.differences(values, {name: "base" for name in values if name != "base"})
    assert list(found) == ["same", "less", "noisy", "single"]
    assert found["same"][:4] == (0, 0, 0, 1) and found["same"].verdict == "no difference shown"
    gaps = np.array([-0.099, -0.101, -0.100])
    low, high = stats.t.interval(0.95, 2, gaps.mean(), stats.sem(gaps))
    assert found["less"][:3] == pytest.approx((-0.1, low, high)) and found["less"].seeds == [0, 1, 2]
    assert found["less"].adjusted == pytest.approx(3 * found["less"].p) and found["less"].verdict == "worse"
    assert found["noisy"].verdict == "no difference shown" and found["noisy"].p > 0.05
    assert found["single"].low is None and found["single"].verdict == "one seed, no verdict"


def test_an_interval_may_leave_out_0_where_no_difference_is_shown():
    """Holm over many models is stricter than each interval by itself."""
    rng = np.random.default_rng(0)
    values = {"base": {seed: 0.5 for seed in range(4)}}
    values |= {f"m{i}": {seed: 0.5 + 0.001 * rng.normal() for seed in range(4)} for i in range(8)}
    values["m0"] = {0: 0.501, 1: 0.502, 2: 0.503, 3: 0.5015}
    found = significance.differences(values, {name: "base" for name in values if name != "base"})["m0"]
    assert found.low > 0 and found.p < 0.05 < found.adjusted and found.verdict == "no difference shown"
