"""Scaling: laws that are known beforehand, gradients by differences, the criterion by hand, and coverage by simulation."""

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, optimize, stats

from trm.errors import UserError
from trm.scaling import laws as scaling
from trm.scaling.experiments import summarise

SIZES = np.repeat(np.geomspace(1e3, 1e6, 6), 3)  # six sizes, three seeds
GRID = np.stack(np.meshgrid(np.geomspace(1e6, 1e9, 4), np.geomspace(1e8, 1e11, 4)), -1).reshape(-1, 2)


def noisy(y, spread, seed):
    return y * np.exp(spread * np.random.default_rng(seed).standard_normal(len(y)))


def floored(x):
    return 0.3 + 20 * x**-0.4


def test_a_power_law_is_recovered():
    law = scaling.fit(SIZES, floored(SIZES))
    assert law.params == pytest.approx({"E": 0.3, "A": 20, "alpha": 0.4}, rel=1e-3)
    assert law.predict([1e8]) == pytest.approx(floored(1e8), rel=1e-3)


def test_chinchilla_is_recovered():
    """The published constants (arXiv 2203.15556, equation 10)."""
    published = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}
    law = scaling.fit(GRID, 1.69 + 406.4 * GRID[:, 0] ** -0.34 + 410.7 * GRID[:, 1] ** -0.28)
    assert law.params == pytest.approx(published, rel=5e-3)
    assert law.predict([[70e9, 1.4e12]]) == pytest.approx(1.69 + 406.4 * 70e9**-0.34 + 410.7 * 1.4e12**-0.28, rel=1e-3)


@pytest.mark.parametrize("form", scaling.FORMS)
@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("delta", [1e-3, 0.3, 100.0])
def test_gradient_against_finite_differences(form, k, delta):
    rng = np.random.default_rng(k)
    for _ in range(5):
        z, log_y = rng.standard_normal((9, k)), rng.standard_normal(9)
        theta = rng.standard_normal(len(scaling.NAMES[form, k]))
        gradient = scaling.objective(theta, z, log_y, form, delta)[1]
        steps = 1e-6 * np.eye(len(theta))
        ahead, back = ([scaling.objective(theta + s * d, z, log_y, form, delta)[0] for d in steps] for s in (1, -1))
        np.testing.assert_allclose(gradient, (np.array(ahead) - back) / 2e-6, rtol=1e-4, atol=1e-4 / delta)


def test_log_linear_is_a_median_fit_for_small_delta_and_least_squares_for_large():
    """Against the linear program of least absolute deviations, and against polyfit."""
    y = noisy(20 * SIZES**-0.2, 0.1, 0)
    n, design = len(y), np.column_stack((np.ones(len(y)), -np.log(SIZES)))
    constraints = {"A_eq": np.column_stack((design, np.eye(n), -np.eye(n))), "b_eq": np.log(y)}
    bounds = [(None, None)] * 2 + [(0, None)] * 2 * n
    program = optimize.linprog(np.r_[0, 0, np.ones(2 * n)], **constraints, bounds=bounds)
    law = scaling.fit(SIZES, y, "log-linear", 1e-4)
    assert np.abs(np.log(law.predict(SIZES) / y)).sum() == pytest.approx(program.fun, abs=n * 1e-4)
    slope, intercept = np.polyfit(np.log(SIZES), np.log(y), 1)
    squares = scaling.fit(SIZES, y, "log-linear", 1e3)
    assert squares.params == pytest.approx({"a": intercept, "b": -slope}, rel=1e-6)
    both = scaling.fit(GRID, 3 * GRID[:, 0] ** -0.1 * GRID[:, 1] ** 0.2, "log-linear").params
    assert both == pytest.approx({"a": np.log(3), "b": 0.1, "c": -0.2}, rel=1e-4)


def test_a_constant_is_the_median_or_the_geometric_mean():
    y = np.array([1.0, 2.0, 3.0, 5.0, 80.0])
    assert scaling.fit(y, y, "constant").params["E"] == pytest.approx(3, rel=1e-3)
    assert scaling.fit(y, y, "constant", 1e3).params["E"] == pytest.approx(stats.gmean(y), rel=1e-6)


def test_one_failed_run_moves_the_law_little():
    y = noisy(floored(SIZES), 0.01, 3)
    y[-1] *= 10
    assert scaling.fit(SIZES, y).params["alpha"] == pytest.approx(0.4, abs=0.04)
    assert scaling.fit(SIZES, y, delta=1e3).params["alpha"] > 0.5  # least squares is carried away


@pytest.mark.parametrize("form", scaling.FORMS)
def test_aicc_by_hand_where_the_likelihood_is_gaussian_or_laplace(form):
    y, n = noisy(floored(SIZES), 0.1, 4), len(SIZES)
    q = {"constant": 2, "log-linear": 3, "power law": 4}[form]  # with the spread
    correction = 2 * q + 2 * q * (q + 1) / (n - q - 1)
    gaussian = scaling.fit(SIZES, y, form, 1e3)
    variance = np.mean(np.log(gaussian.predict(SIZES) / y) ** 2)
    assert gaussian.aicc == pytest.approx(n * np.log(2 * np.pi * variance) + n + correction, abs=1e-4)
    laplace = scaling.fit(SIZES, y, form, 1e-6)
    width = np.mean(np.abs(np.log(laplace.predict(SIZES) / y)))
    assert laplace.aicc == pytest.approx(2 * n * np.log(2 * width) + 2 * n + correction, abs=1e-2)


def test_aicc_between_the_two_by_quadrature():
    delta = 0.1
    y, n = noisy(floored(SIZES), 0.1, 5), len(SIZES)
    law = scaling.fit(SIZES, y, "log-linear", delta)
    residuals = np.log(law.predict(SIZES) / y)

    def huber(r):
        return np.where(np.abs(r) < delta, r * r / 2, delta * (np.abs(r) - delta / 2))

    def minus_twice_log_likelihood(tau):
        area = 2 * integrate.quad(lambda r: np.exp(-huber(r) / tau), 0, 5, points=[delta])[0]
        return 2 * (n * np.log(area) + huber(residuals).sum() / tau)

    best = min(minus_twice_log_likelihood(tau) for tau in np.geomspace(1e-3, 1e-1, 200))
    assert law.aicc == pytest.approx(best + 6 + 24 / (n - 4), abs=1e-2)


def test_aicc_needs_runs_to_spare():
    x, y = SIZES[::3], noisy(floored(SIZES[::3]), 0.1, 0)  # six runs
    assert np.isfinite(scaling.fit(x, y).aicc) and np.isinf(scaling.fit(x[:5], y[:5]).aicc)


@pytest.mark.slow
def test_flat_runs_seldom_look_like_a_law():
    """12 flat data sets: AICc lets a needless parameter in by chance about once in ten, a floor with a slope hardly."""
    fooled = {"log-linear": 0, "power law": 0}
    for seed in range(12):
        y = noisy(np.ones(len(SIZES)), 0.1, seed)
        aicc = {form: scaling.fit(SIZES, y, form).aicc for form in scaling.FORMS}
        for form in fooled:
            fooled[form] += aicc["constant"] - aicc[form] > 2
    assert fooled["power law"] <= 2 and fooled["log-linear"] <= stats.binom(12, 0.1).ppf(0.999)


@pytest.mark.slow
@pytest.mark.parametrize("form, law, name, truth, coverage", [
    ("power law", floored, "alpha", 0.4, 0.9),
    ("log-linear", lambda x: 20 * x**-0.2, "b", 0.2, 0.5),
])  # fmt: skip
def test_intervals_cover_the_truth_as_often_as_they_say(form, law, name, truth, coverage):
    sets, hits = 40, 0
    for seed in range(sets):
        y = noisy(law(SIZES), 0.05, 100 + seed)
        row = scaling.bootstrap(scaling.fit(SIZES, y, form), SIZES, y, coverage, resamples=30, seed=seed).loc[name]
        hits += row["low"] <= truth <= row["high"]
    low, high = stats.binom(sets, coverage).interval(0.999)
    assert low <= hits <= high


def test_one_resample_by_hand():
    """A search that starts from the law finds what a search from the whole grid finds."""
    y = noisy(floored(SIZES), 0.05, 6)
    rows = np.random.default_rng(9).integers(len(y), size=len(y))
    row = scaling.bootstrap(scaling.fit(SIZES, y), SIZES, y, resamples=1, seed=9)
    assert row["low"].to_dict() == row["high"].to_dict()
    assert row["low"].to_dict() == pytest.approx(scaling.fit(SIZES[rows], y[rows]).params, rel=1e-2)


def test_intervals_repeat_and_widen_with_coverage():
    y = noisy(20 * SIZES**-0.2, 0.05, 7)
    law = scaling.fit(SIZES, y, "log-linear")
    narrow, again, wide = (scaling.bootstrap(law, SIZES, y, c, 30, seed=1) for c in (0.5, 0.5, 0.95))
    pd.testing.assert_frame_equal(narrow, again)
    assert (wide["low"] < narrow["low"]).all() and (wide["high"] > narrow["high"]).all()
    assert narrow["estimate"].to_dict() == law.params


def test_the_largest_point_is_held_out():
    y = floored(SIZES)
    y[-3:] *= [1.0, 1.1, 1.21]  # geometric mean 1.1
    held = scaling.hold_out(SIZES, y)
    assert held["observed"] == pytest.approx(1.1 * floored(1e6))
    assert held["predicted"] == pytest.approx(floored(1e6), rel=1e-3)
    assert held["log_error"] == pytest.approx(-np.log(1.1), abs=1e-3)
    isoflop = np.array([(1, 1), (2, 1), (1, 2), (2, 2), (4, 2), (2, 4), (4, 4), (8, 2), (2, 8)], dtype=float)
    y = 5 * isoflop[:, 0] ** -0.2
    assert scaling.hold_out(isoflop, y, "log-linear")["observed"] == pytest.approx(stats.gmean(y[-3:]))  # N D = 16


def test_studies_of_laws_that_are_known():
    law, row = scaling.study(SIZES, noisy(floored(SIZES), 0.02, 0), resamples=20)
    assert law.form == row["form"] == "power law" and row["runs"] == 18 and row["doubts"] == ""
    assert row["alpha"].startswith(f"{law.params['alpha']:.3g} (") and abs(row["log_error"]) < 0.05
    gaps = dict(part.rsplit(" ", 1) for part in row["AICc behind"].split(", "))
    assert set(gaps) == {"constant", "log-linear"} and min(map(float, gaps.values())) > 2

    law, row = scaling.study(SIZES, noisy(20 * SIZES**-0.2, 0.02, 0), resamples=20)
    assert law.form == "log-linear" and row["doubts"] == ""

    law, row = scaling.study(SIZES, np.full(len(SIZES), 2.0), resamples=20)  # no spread at all
    assert law.form == "constant" and row["doubts"] == "no trend"
    law, row = scaling.study(SIZES, np.tile([1.0, 1.1, 0.9], 6), resamples=20)
    assert law.form == "constant" and "no trend" in row["doubts"] and "b" in row  # the interval of the slope

    y = noisy(1.69 + 406.4 * GRID[:, 0] ** -0.34 + 410.7 * GRID[:, 1] ** -0.28, 0.005, 1)
    law, row = scaling.study(GRID, y, resamples=5)
    assert law.form == "power law" and row["beta"].startswith(f"{law.params['beta']:.3g} (")


def test_a_form_that_fails_is_not_called_a_law():
    """A floor above the last mean and a held-out size that is missed, as in the committed runs of width."""
    y = noisy(0.2 + (SIZES / 4e3) ** -6.0, 0.05, 1)
    y[-3:] *= 0.7
    law, row = scaling.study(SIZES, y, resamples=20)
    assert law.form == "power law" and law.params["E"] > row["observed"]
    for doubt in ("the floor is above an observed mean", "the held-out size is missed", "alpha is hardly determined"):
        assert doubt in row["doubts"]


@pytest.mark.parametrize("draw, open_slope", [(5, True), (12, True), (1, False), (7, False)])
def test_a_slope_that_may_be_zero_is_no_law(draw, open_slope):
    x = np.repeat(np.arange(1.0, 6), 5)
    law, row = scaling.study(x, noisy(x**-0.2, 0.3, draw), resamples=100)
    low, high = (float(word) for word in row["b"].split("(")[1].rstrip(")").split(" to "))
    assert law.form == "log-linear" and (low < 0 < high) is open_slope
    assert ("b may be 0" in row["doubts"]) is open_slope


def test_a_difference_below_two_is_none():
    """The slope is made as large as it may be before log-linear is two ahead; the constant still stands."""
    shape = noisy(np.ones(len(SIZES)), 0.1, 1)
    for slope in np.linspace(0, -0.1, 101):
        y = shape * (SIZES / 3e4) ** slope
        constant, line = (scaling.fit(SIZES, y, form).aicc for form in scaling.FORMS[:2])
        if 0.2 < constant - line < 2:
            break
    law, row = scaling.study(SIZES, y, resamples=20)
    assert law.form == "constant" and f"constant {constant - line:.1f}" in row["AICc behind"]


def test_too_little_is_said():
    two = scaling.study(SIZES[:6], floored(SIZES[:6]))[1]["doubts"]
    assert "too few points for log-linear: 2 distinct, and it takes 3" in two
    assert "too few runs for log-linear: 4" in scaling.study([1, 2, 3, 4], [4, 3, 2, 1])[1]["doubts"]
    law, row = scaling.study(SIZES[:12], noisy(floored(SIZES[:12]), 0.02, 0), resamples=20)
    assert law.form == "log-linear" and "too few points for power law: 4 distinct, and it takes 5" in row["doubts"]
    row = scaling.study(SIZES[:9], noisy(floored(SIZES[:9]), 0.02, 0), resamples=20)[1]
    assert "nothing was held out: too few points for log-linear: 2" in row["doubts"] and "observed" not in row


@pytest.mark.parametrize("x, y, message", [
    ([1, 2, 3], [1, np.nan, 2], "y is not positive and finite in 1 places"),
    ([1, 2, 3], [1, 0, 2], "y is not positive"),
    ([0, 2, 3], [1, 1, 2], "x is not positive"),
    ([1, 2, 3], [1, 2], r"x must be \(n,\)"),
    ([], [], "n of 1 or more"),
    (np.ones((4, 3)), np.ones(4), r"or \(n, 2\)"),
    ([1, 2, 3, 3], [3, 2, 1, 1], "too few points for power law: 3 distinct, and it takes 4"),
    (GRID[GRID[:, 0] < 1e8], np.arange(8) + 1.0, "N takes 2 values, D 4"),
    (np.geomspace(1, 9, 8)[:, None] * [1, 20], np.arange(8) + 1.0, "D is a power of N"),
])  # fmt: skip
def test_what_cannot_be_fitted(x, y, message):
    with pytest.raises(UserError, match=message):
        scaling.fit(x, y)


def test_what_cannot_be_asked():
    law = scaling.fit(SIZES, floored(SIZES), "log-linear")
    with pytest.raises(UserError, match="0 of 20 draws of the runs have points enough"):
        scaling.bootstrap(law, np.ones(3), [1, 2, 3], resamples=1)
    with pytest.raises(UserError, match="one size only"):
        scaling.hold_out(np.ones(3), [1, 2, 3])


SHARED = np.concatenate([np.repeat(np.geomspace(5e3, 4e4, 6), 5), np.full(25, 1e4)])  # a cross: six sizes, five depths
TIMES = np.concatenate([np.full(30, 9.0), np.repeat([6.0, 12, 15, 18, 21], 5)])


def recurrent(phi):
    return 0.05 + 2000 * (1000 + TIMES**phi * SHARED) ** -0.7


@pytest.mark.parametrize("phi", [0.0, 0.46, 1.0])
def test_the_exponent_of_recurrence_is_recovered(phi):
    once = np.full(55, 1000.0)
    exact = scaling.recurrence_exponent(once, SHARED, TIMES, recurrent(phi), resamples=5)
    assert exact["estimate"].to_dict() == pytest.approx(
        {"E": 0.05, "A": 2000, "alpha": 0.7, "phi": phi}, rel=1e-3, abs=1e-6
    )
    y = noisy(recurrent(phi), 0.03, 0)
    one, more = (scaling.recurrence_exponent(once, SHARED, k * TIMES, y, resamples=60).loc["phi"] for k in (1, 3))
    assert one["low"] < phi < one["high"] and one["high"] - one["low"] < 0.3
    assert more["estimate"] == pytest.approx(
        one["estimate"], abs=0.05
    )  # nearly all parameters are shared: a unit of them is free


def test_an_exponent_of_recurrence_needs_sizes_and_depths():
    for shared, times in ((np.ones(6), np.arange(1, 7)), (np.arange(1, 7), [1, 2] * 3)):
        with pytest.raises(UserError, match="three sizes and three numbers"):
            scaling.recurrence_exponent(np.ones(6), shared, times, np.arange(1, 7))


def test_summary_over_seeds():
    runs = pd.DataFrame({"size": [2, 1, 2, 1, 3], "seed": [0, 0, 1, 1, 0], "loss": [4.0, 1, 6, 2, 9]})
    table = summarise(runs, "size", "loss")
    assert list(table.index) == [2, 1, 3] and list(table["n"]) == [2, 2, 1] and list(table["mean"]) == [5, 1.5, 9]
    assert table["std"].tolist() == pytest.approx([2**0.5, 0.5**0.5, np.nan], nan_ok=True)
    for values in ([0.1] * 3, [0.1] * 10, [1e17 / 3] * 7):  # equal values have exactly that mean
        runs = pd.DataFrame({"arm": "a", "seed": range(len(values)), "cost": values})
        assert summarise(runs, "arm", "cost")["mean"].tolist() == values[:1]
