"""Is the plan the best there is? Random planning problems against SciPy, and the certificate of each.

    .venv/bin/python benchmarks/plan_optimality.py [CONVEX] [NEGATIVE]      (default 1000 and 200)

CONVEX problems of K = 2 to 50 languages with tau >= 0, N free: the certificate's relative gap, and the best that
SciPy's SLSQP and trust-constr find with exact gradients, each from even shares at the size a scan finds best (SLSQP
also from a random start). NEGATIVE problems with tau down to -0.4: against the best of 50 random starts of SLSQP. A
plan counts as worse where its objective is more than 1e-9 (relative) above SciPy's.
"""

import sys
import time
import warnings

import numpy as np
from scipy.optimize import minimize

from babelscale.planning.optimiser.certificate import improved
from babelscale.planning.optimiser.evaluate import LossEvaluator
from babelscale.planning.optimiser.interior_point import solve

COMPUTE = 1e21
BOX = (1e3, COMPUTE / 6e3)
WORSE = 1e-9


def random_problem(seed: int, negative: bool = False, most: int = 50) -> LossEvaluator:
    """K languages, between one target and all of them, random laws, help, pooled streams and unique tokens."""
    rng = np.random.default_rng([seed, int(negative)])
    K = int(rng.integers(2, (8 if negative else most) + 1))
    T = int(rng.integers(1, K + 1))
    low = -0.4 if negative else 0.0
    worth = rng.uniform(low, 0.6, (1, T, K)) * (rng.random((1, T, K)) < rng.uniform(0.1, 0.9))
    worth[:, np.arange(T), np.arange(T)] = 1.0

    def numbers(low: float, high: float) -> np.ndarray:
        return rng.uniform(low, high, (1, T))

    weights = rng.dirichlet(np.ones(T))[None]
    pooled = numbers(0.0, 0.1) if rng.random() < 0.3 and K > 2 and not negative else np.zeros((1, T))
    return LossEvaluator(
        languages=tuple(f"x-{k}" for k in range(K)),
        weights=weights,
        E=numbers(0.0, 1.2),
        A=np.exp(numbers(4, 8)),
        alpha=numbers(0.2, 0.6),
        B=np.exp(numbers(4, 10)),
        beta=numbers(0.2, 0.6),
        gamma=np.zeros((1, T)),
        transfer_weight=worth,
        group_weight=pooled,
        group_members=1.0 - np.eye(T, K),
        group_unique=np.full(T, 1e12),
        lam=numbers(0.03, 0.3),
        size_cap=np.full((1, T), np.inf),
        size_lam=np.zeros((1, T)),
        unique=10 ** rng.uniform(7, 12, K),
        target_index=np.arange(T),
        compute=np.array([COMPUTE]),
        least_loss=np.zeros((1, T)),
    )


class Mirror:
    """The same problem for SciPy: x = (shares, log N / 10), value and gradient."""

    def __init__(self, problem: LossEvaluator) -> None:
        self.problem, self.K = problem, len(problem.languages)
        self.bounds = [(0.0, 1.0)] * self.K + [(np.log(BOX[0]) / 10, np.log(BOX[1]) / 10)]
        self.normal = np.append(np.ones(self.K), 0.0)

    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        p, n = np.maximum(x[None, : self.K], 0.0), x[None, self.K] * 10
        at = self.problem.derivatives(p, n)
        if not np.isfinite(at.value[0]):
            return 1e3, np.zeros(len(x))
        return float(at.value[0]), np.append(at.by_p[0], 10 * at.by_n[0])

    def slsqp(self, start: np.ndarray) -> float:
        equal = {"type": "eq", "fun": lambda x: x[: self.K].sum() - 1, "jac": lambda x: self.normal}
        found = minimize(
            self,
            start,
            jac=True,
            method="SLSQP",
            bounds=self.bounds,
            constraints=[equal],
            options={"maxiter": 500, "ftol": 1e-14},
        )
        return self.judged(found.x)

    def trust(self, start: np.ndarray) -> float:
        from scipy.optimize import LinearConstraint

        found = minimize(
            self,
            start,
            jac=True,
            method="trust-constr",
            bounds=self.bounds,
            constraints=[LinearConstraint(self.normal, 1.0, 1.0)],
            options={"maxiter": 300, "gtol": 1e-10},
        )
        return self.judged(found.x)

    def judged(self, x: np.ndarray) -> float:
        """The objective of what SciPy returns, made feasible."""
        p = np.clip(x[: self.K], 0, None)
        if not (p.sum() > 0 and np.isfinite(x).all()):
            return np.inf
        n = np.clip(x[self.K :] * 10, np.log(BOX[0]), np.log(BOX[1]))
        return float(self.problem.objective(p[None] / p.sum(), n)[0])

    def even(self, p: np.ndarray) -> np.ndarray:
        sizes = np.linspace(np.log(BOX[0]), np.log(BOX[1]), 41)[1:-1]
        values = [float(self.problem.objective(p[None], np.array([n]))[0]) for n in sizes]
        return np.append(p, sizes[int(np.argmin(values))] / 10)


def convex(count: int) -> None:
    gaps, margins, worse, seconds = [], {"SLSQP": [], "trust-constr": []}, 0, 0.0
    for seed in range(count):
        problem = random_problem(seed)
        start = time.process_time()
        found = solve(problem, BOX)
        assert found is not None
        found, certificate = improved(problem, found, BOX)
        seconds += time.process_time() - start
        gaps.append(certificate.gap)
        mirror, rng = Mirror(problem), np.random.default_rng(seed)
        even = mirror.even(np.full(mirror.K, 1 / mirror.K))
        random = mirror.even(rng.dirichlet(np.ones(mirror.K)))
        theirs = {"SLSQP": min(mirror.slsqp(even), mirror.slsqp(random)), "trust-constr": mirror.trust(even)}
        for name, value in theirs.items():
            margins[name].append(value / found.objective[0] - 1)
        worse += min(theirs.values()) < found.objective[0] * (1 - WORSE)
    print(f"convex, {count} problems: {seconds:.1f} CPU s for plans and certificates")
    print(
        f"  certificate's gap: median {np.median(gaps):.1e}, largest {max(gaps):.1e}, least {min(gaps):.1e}  limit 1e-6"
    )
    for name, values in margins.items():
        print(
            f"  {name} above the plan: least {min(values):+.1e}, median {np.median(values):+.1e}, most "
            f"{max(values):+.1e}"
        )
    print(f"  SciPy better by more than {WORSE:g}: {worse}   limit 0")


def negative(count: int) -> None:
    worse, ties, better, hopeless, margins = 0, 0, 0, 0, []
    for seed in range(count):
        problem = random_problem(seed, negative=True)
        found = solve(problem, BOX)
        mirror, rng = Mirror(problem), np.random.default_rng(seed)
        theirs = np.inf
        for _ in range(50):
            theirs = min(theirs, mirror.slsqp(mirror.even(rng.dirichlet(np.full(mirror.K, 0.7)))))
        ours = np.inf if found is None else float(found.objective[0])
        if not np.isfinite(ours) and not np.isfinite(theirs):
            hopeless += 1
            continue
        margins.append(theirs / ours - 1)
        worse += margins[-1] < -WORSE
        better += margins[-1] > WORSE
        ties += abs(margins[-1]) <= WORSE
    print(
        f"negative tau, {count} problems against the best of 50 random starts of SLSQP ({hopeless} without any domain)"
    )
    print(f"  worse in {worse}, equal in {ties}, better in {better}   limit: worse in 0")
    print(f"  SciPy's best above the plan: least {min(margins):+.1e}, most {max(margins):+.1e}")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    counts = [int(argument) for argument in sys.argv[1:]] or [1000, 200]
    start = time.perf_counter()
    convex(counts[0])
    if len(counts) > 1 and counts[1]:
        negative(counts[1])
    print(f"{time.perf_counter() - start:.0f} s")
