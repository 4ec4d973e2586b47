"""Scaling: does a loss fall with size as a power law, how fast, to what floor - or is there no trend at all?

Three forms of y > 0 in one variable x > 0, or in two (model size N and data D), are fitted in the same way and compared:

    constant     y = E
    log-linear   log y = a - b log x              log y = a - b log N - c log D
    power law    y = E + A x^-alpha               y = E + A N^-alpha + B D^-beta     (alpha, beta from 0 to 10)

The last is Chinchilla's (arXiv 2203.15556, approach 3), and so is the fit: Huber's loss of the residuals of log y, summed (as
arXiv 2404.10102 advises) and minimised by L-BFGS from a grid of starts. Rows are runs, taken as independent. All logs are
natural. `recurrence_exponent` asks what it is worth to apply parameters again: as many others, or none.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import optimize, special

from trm.errors import UserError

FORMS = ("constant", "log-linear", "power law")  # from the simplest
# Parameters by form and number of variables.
NAMES = {("constant", 1): ["E"], ("log-linear", 1): ["a", "b"], ("power law", 1): ["E", "A", "alpha"], ("constant", 2): ["E"],
         ("log-linear", 2): ["a", "b", "c"], ("power law", 2): ["E", "A", "B", "alpha", "beta"]}  # fmt: skip
DELTA = 1e-3  # where Huber's loss turns from square to straight, in log y
STEEPEST = 10.0  # bound of alpha and beta: beyond it the law is a step between two sizes
DEEPEST = 7.0  # a term e^-7 of the smallest y counts as gone; further down the gradient would vanish
SPREAD = 1e-8  # residuals below this are rounding: forms that fit so well are compared by their parameters alone
MISSED = 0.2  # error of a held-out size, in log, above which a form has failed


@dataclass(frozen=True)
class Fit:
    """A fitted form."""

    form: str
    theta: np.ndarray  # (p,) what was searched: logs of E, A, B, then exponents, with log x counted from `centre`
    centre: np.ndarray  # (k,)
    loss: float  # sum of Huber's losses of the residuals of log y, in units of delta^2
    runs: int  # n
    delta: float

    @property
    def params(self) -> dict[str, float]:
        """Parameters by name, in the units of y and x; E, A and B themselves, not their logs."""
        k, t = len(self.centre), self.theta
        if self.form == "constant":
            values = np.exp(t)
        elif self.form == "log-linear":
            values = [t[0] + t[1:] @ self.centre, *t[1:]]
        else:
            values = [np.exp(t[0]), *np.exp(t[1 : 1 + k] + t[1 + k :] * self.centre), *t[1 + k :]]
        return dict(zip(NAMES[self.form, k], map(float, values)))

    def predict(self, x: ArrayLike) -> np.ndarray:
        """y at x. (n,) or (n, k) -> (n,)."""
        x = np.asarray(x, dtype=float)
        return np.exp(_log_law(self.theta, np.log(x[:, None] if x.ndim == 1 else x) - self.centre, self.form)[0])

    @property
    def aicc(self) -> float:
        """Akaike's criterion with the small-sample correction (Hurvich and Tsai 1989); less is better.

        -2 log likelihood + 2 q + 2 q (q + 1) / (n - q - 1), q = parameters + 1 for the scale tau; infinite where n <= q + 1.
        The likelihood is the one that the Huber fit maximises: residuals of log y with density exp(-huber(r) / tau) / Z(tau).
        """
        n, q = self.runs, len(self.theta) + 1
        loss = max(self.loss, n * (SPREAD / self.delta) ** 2 / 2)

        def minus_log_likelihood(log_tau: float) -> float:
            tau = np.exp(log_tau)  # in units of delta^2
            z = np.sqrt(2 * np.pi * tau) * special.erf(1 / np.sqrt(2 * tau)) + 2 * tau * np.exp(-0.5 / tau)
            return n * np.log(self.delta * z) + loss / tau

        best = optimize.minimize_scalar(minus_log_likelihood, bounds=(-60, 60), options={"xatol": 1e-9}).fun
        return 2 * best + 2 * q + 2 * q * (q + 1) / (n - q - 1) if n > q + 1 else np.inf


def _log_law(theta: np.ndarray, z: np.ndarray, form: str) -> tuple[np.ndarray, np.ndarray]:
    """log y (n,) and its derivatives (n, p) at z = log x - centre (n, k)."""
    if form != "power law":  # linear; the constant has no slopes
        jacobian = np.column_stack((np.ones(len(z)), -z))[:, : len(theta)]
        return jacobian @ theta, jacobian
    k = z.shape[1]
    terms = np.column_stack((np.full(len(z), theta[0]), theta[1 : 1 + k] - theta[1 + k :] * z))  # logs of E, A x^-alpha
    log_y = np.logaddexp.reduce(terms, axis=1)
    share = np.exp(terms - log_y[:, None])
    return log_y, np.column_stack((share, -share[:, 1:] * z))


def objective(theta: np.ndarray, z: np.ndarray, log_y: np.ndarray, form: str, delta: float) -> tuple[float, np.ndarray]:
    """Sum of Huber's losses of the residuals over delta, and its gradient (p,). theta (p,), z (n, k), log_y (n,)."""
    predicted, jacobian = _log_law(theta, z, form)
    u = (predicted - log_y) / delta
    return float(special.huber(1.0, u).sum()), np.clip(u, -1, 1) @ jacobian / delta


def _starts(z: np.ndarray, log_y: np.ndarray, form: str) -> list[np.ndarray]:
    """Where the search begins: one place for the convex forms, else a grid of floors and exponents."""
    if form == "constant":
        return [np.array([np.median(log_y)])]
    if form == "log-linear":
        return [np.linalg.lstsq(np.column_stack((np.ones(len(z)), -z)), log_y, rcond=None)[0]]
    k, low = z.shape[1], log_y.min()
    starts = []
    for floor in (0.02, 0.5, 0.9):  # E as a share of the smallest y; the terms divide what is left in the middle
        rest = np.log(max(np.exp(np.median(log_y) - low) - floor, 0.01) / k) + low
        for exponents in itertools.product([0.1, 0.4, 1.5], repeat=k):
            starts.append(np.array([np.log(floor) + low, *[rest] * k, *exponents]))
    return starts


def _search(starts: list[np.ndarray], z: np.ndarray, log_y: np.ndarray, form: str, delta: float) -> tuple:
    """(loss, theta) of the best of the searches."""
    k = z.shape[1]
    bounds = [(log_y.min() - DEEPEST, None)] * (1 + k) + [(0.0, STEEPEST)] * k if form == "power law" else None
    settings = {"jac": True, "bounds": bounds, "options": {"ftol": 1e-12, "gtol": 1e-9, "maxiter": 400, "maxls": 50}}
    found = [optimize.minimize(objective, t, (z, log_y, form, delta), "L-BFGS-B", **settings) for t in starts]
    best = min(found, key=lambda result: result.fun)
    return best.fun, best.x


def checked(x: ArrayLike, y: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """x (n, k) and y (n,) as arrays that can be fitted."""
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    x = x[:, None] if x.ndim == 1 else x
    if y.ndim != 1 or x.ndim != 2 or x.shape[1] not in (1, 2) or len(x) != len(y) or not len(y):
        raise UserError(f"x must be (n,) or (n, 2) and y (n,), with n of 1 or more; they are {x.shape} and {y.shape}")
    for name, values in (("x", x), ("y", y)):
        if bad := np.sum(~(np.isfinite(values) & (values > 0))):
            raise UserError(f"{name} is not positive and finite in {bad} places")
    return x, y


def too_few(x: np.ndarray, form: str, spare: int = 1) -> str:
    """Why there is too little to fit `form` at x (n, k), "" where there is enough: distinct points must outnumber the
    parameters by `spare`, and in two variables each must vary, and not as a power of the other."""
    points = np.unique(x, axis=0)
    k = points.shape[1]
    needed = len(NAMES[form, k]) + spare
    if form == "constant":
        return ""
    if len(points) < needed:
        return f"too few points for {form}: {len(points)} distinct, and it takes {needed}"
    if k == 2:
        values, logs = [len(np.unique(column)) for column in points.T], np.log(points)
        if min(values) < (3 if form == "power law" else 2):
            return f"too few sizes for {form}: N takes {values[0]} values, D {values[1]}"
        if np.linalg.matrix_rank(logs - logs.mean(0), rtol=1e-3) < 2:
            return f"D is a power of N in all runs, so {form} cannot separate their effects"
    return ""


def fit(x: ArrayLike, y: ArrayLike, form: str = "power law", delta: float = DELTA) -> Fit:
    """The law of a form that is nearest to the runs. x (n,) or (n, 2) for N and D, y (n,), all positive. Raises UserError for
    values that are not, and for too few points."""
    x, y = checked(x, y)
    if reason := too_few(x, form):
        raise UserError(reason)
    centre = np.log(x).mean(0)
    z, log_y = np.log(x) - centre, np.log(y)
    loss, theta = _search(_starts(z, log_y, form), z, log_y, form, delta)
    return Fit(form, theta, centre, loss, len(y), delta)


def bootstrap(
    law: Fit, x: ArrayLike, y: ArrayLike, coverage: float = 0.95, resamples: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Percentile intervals of the parameters of `law` (Efron): n of the n runs are drawn with replacement and fitted again,
    from `law` on. Draws with too few points are rejected. Returns one row per parameter: estimate, low, high."""
    x, y = checked(x, y)
    z, log_y, rng = np.log(x) - law.centre, np.log(y), np.random.default_rng(seed)
    start = law.theta.copy()
    if law.form == "power law":  # terms that had vanished are raised a little so that they can come back
        logs = 1 + len(law.centre)
        start[:logs] = np.maximum(start[:logs], log_y.min() - 2)
    draws = []
    for _ in range(20 * resamples):
        rows = rng.integers(len(y), size=len(y))
        if not too_few(x[rows], law.form):
            loss, theta = _search([start], z[rows], log_y[rows], law.form, law.delta)
            draws.append(Fit(law.form, theta, law.centre, loss, len(y), law.delta).params)
        if len(draws) == resamples:
            break
    else:
        raise UserError(f"only {len(draws)} of {20 * resamples} draws of the runs have points enough; run more")
    tail = (1 - coverage) / 2
    limits = pd.DataFrame(draws).quantile([tail, 1 - tail]).T.set_axis(["low", "high"], axis=1)
    return pd.concat([pd.Series(law.params, name="estimate"), limits], axis=1)


def hold_out(x: ArrayLike, y: ArrayLike, form: str = "power law") -> dict[str, float]:
    """What a fit without the largest point (all runs at the largest x, or at the largest N D) predicts for it: predicted and
    observed y (geometric means over these runs), and log_error = log(predicted / observed)."""
    x, y = checked(x, y)
    size = np.log(x).sum(1)
    out = size > size.max() - 1e-9
    if out.all():
        raise UserError("there is one size only, so none can be held out")
    predicted = float(np.log(fit(x[~out], y[~out], form).predict(x[out])).mean())
    observed = float(np.log(y[out]).mean())
    return {"predicted": np.exp(predicted), "observed": np.exp(observed), "log_error": predicted - observed}


def study(
    x: ArrayLike, y: ArrayLike, coverage: float = 0.95, resamples: int = 1000, seed: int = 0
) -> tuple[Fit, dict[str, Any]]:
    """The form that runs support: the simplest within 2 of the lowest AICc, with intervals and the largest size held out.

    Returns the fit and a row for a table: form, runs, AICc behind (of the forms with a higher one), parameters with their
    intervals (the log-linear ones where no trend is supported), what `hold_out` returns, and doubts: why the form is not
    called a law. A law has none. x (n,) or (n, 2), y (n,); the others as in `bootstrap`.
    """
    x, y = checked(x, y)
    fits, doubts = {"constant": fit(x, y, "constant")}, []
    for form, spare in (("log-linear", 1), ("power law", 2)):
        needed = len(NAMES[form, x.shape[1]]) + 3
        if reason := too_few(x, form, spare):
            doubts.append(reason)
        elif len(y) < needed:
            doubts.append(f"too few runs for {form}: {len(y)}, and AICc takes {needed}")
        else:
            fits[form] = fit(x, y, form)
    lowest = min(found.aicc for found in fits.values())
    behind = {form: found.aicc - lowest for form, found in fits.items()}
    best = next(found for form, found in fits.items() if not behind[form] > 2)
    row = {"form": best.form, "runs": len(y)}
    row["AICc behind"] = ", ".join(f"{form} {gap:.1f}" for form, gap in behind.items() if gap > 0)
    shown = best
    if best.form == "constant":
        doubts.insert(0, "no trend")
        shown = fits.get("log-linear")
    for r in bootstrap(shown, x, y, coverage, resamples, seed).itertuples() if shown else ():
        row[r.Index] = f"{r.estimate:.3g} ({r.low:.3g} to {r.high:.3g})"
        if r.Index in ("alpha", "beta") and (r.high - r.low > r.estimate or r.high > STEEPEST / 2):
            doubts.append(f"{r.Index} is hardly determined")
        if r.Index in ("b", "c") and best.form == "log-linear" and r.low <= 0 <= r.high:
            doubts.append(f"{r.Index} may be 0")
    least = np.exp(pd.DataFrame(x).assign(log_y=np.log(y)).groupby(list(range(x.shape[1])))["log_y"].mean().min())
    if best.form == "power law" and best.params["E"] > least:
        doubts.append(f"the floor is above an observed mean, {least:.3g}")
    try:
        row |= hold_out(x, y, best.form)
        if abs(row["log_error"]) > MISSED:
            doubts.append("the held-out size is missed")
    except UserError as reason:
        doubts.append(f"nothing was held out: {reason}")
    return best, row | {"doubts": "; ".join(doubts)}


def recurrence_exponent(
    once: ArrayLike,
    shared: ArrayLike,
    recurrences: ArrayLike,
    y: ArrayLike,
    coverage: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """phi of y = E + A (once + recurrences^phi shared)^-alpha (arXiv 2604.21106): 0 if to apply the shared parameters again
    brings nothing, 1 if it brings as much as that many more of them.

    Parameters
    ----------
    once, shared : (n,) parameters that are applied once, and again and again
    recurrences : (n,) how often the latter are applied
    y : (n,) losses, positive

    Returns one row per parameter, E, A, alpha and phi: estimate, low, high (percentiles of a bootstrap over the runs). The loss
    is that of `fit`. Raises UserError for values that are not positive, and for fewer than three sizes or recurrences.
    """
    x, y = checked(np.column_stack((shared, recurrences)), y)
    once = np.asarray(once, dtype=float)
    if min(len(np.unique(column)) for column in x.T) < 3:
        raise UserError("an exponent of recurrence takes three sizes and three numbers of recurrences, or more")
    log_y = np.log(y)

    def log_size(phi: float) -> np.ndarray:
        return np.log(once + x[:, 1] ** phi * x[:, 0])

    def residuals(theta: np.ndarray, rows: np.ndarray) -> np.ndarray:
        log_E, log_middle, alpha, phi = theta  # the middle: A size^-alpha of a run of the mean size
        size = log_size(phi)
        return (np.logaddexp(log_E, log_middle - alpha * (size - size.mean())) - log_y)[rows]

    def search(starts: list[list[float]], rows: np.ndarray, deltas: Sequence[float]) -> np.ndarray:
        bounds = [log_y.min() - DEEPEST, -np.inf, 0.0, -2.0], [np.inf, np.inf, STEEPEST, 3.0]
        for delta in deltas:
            settings = {"bounds": bounds, "loss": "huber", "f_scale": delta, "args": (rows,)}
            found = [optimize.least_squares(residuals, start, **settings) for start in starts]
            starts = [min(found, key=lambda result: result.cost).x]
        return starts[0]

    def named(theta: np.ndarray) -> list[float]:
        return [np.exp(theta[0]), np.exp(theta[1] + theta[2] * log_size(theta[3]).mean()), *theta[2:]]

    every, rng = np.arange(len(y)), np.random.default_rng(seed)
    grid = itertools.product([0.1, 0.7], [0.3, 1.5], [0.0, 0.5, 1.0])  # floor as a share of the smallest y, alpha, phi
    starts = [[np.log(floor) + log_y.min(), np.median(log_y), alpha, phi] for floor, alpha, phi in grid]
    best = search(starts, every, [1.0, 0.1, DELTA])  # from squares, which are smooth, to nearly straight
    draws = [named(search([best], rng.integers(len(y), size=len(y)), [0.1, DELTA])) for _ in range(resamples)]
    tail = (1 - coverage) / 2
    low, high = np.quantile(draws, [tail, 1 - tail], axis=0)
    return pd.DataFrame({"estimate": named(best), "low": low, "high": high}, ["E", "A", "alpha", "phi"])
