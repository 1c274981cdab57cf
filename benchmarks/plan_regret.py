"""What does a plan from small runs cost against one that knows the truth, and what would simpler mixtures have cost?

    .venv/bin/python benchmarks/plan_regret.py [USERS]      (default 100)

Each simulated user has four languages with a true adaptive transfer law of their own (drawn anew: exponents, scales,
help and interference, lambda), trains 96 small runs at 0.5 % noise, fits the laws, and plans with 100 times the compute
of the largest run; also robustly, for the mean over the fits' draws and for the mean over their worst tenth (CVaR).
"Training" is the true law at the planned allocation. Regret is the weighted mean loss above the
oracle's plan (the same planner on the true laws), relative to it. UniMax, proportional, uniform and temperature
mixtures train at the size that the user's own fits give them (infinite: a language drowns in interference). Also told:
how often the 90 % interval of a loss held the true loss.
"""

import sys
import time

import numpy as np

import babelscale as bs
from babelscale.allocation import Allocation
from babelscale.errors import BabelscaleError
from babelscale.fitting import Fit
from babelscale.fitting.simulation import simulate

CODES = ("en", "sw", "yo", "ha")
SIZES = np.array([1e7, 3e7, 9e7, 2.7e8])


def truth(rng: np.random.Generator) -> tuple[dict[str, bs.laws.AdaptiveTransfer], dict[str, dict], dict[str, float]]:
    """Laws, their numbers and U: one large language and three small ones."""
    unique = {"en": 1e12} | {code: float(10 ** rng.uniform(7.8, 10)) for code in CODES[1:]}
    laws, numbers = {}, {}
    for target in CODES:
        sources = tuple(code for code in CODES if code != target)
        law = bs.laws.AdaptiveTransfer(target, sources, other=False)
        exponent = float(rng.uniform(0.28, 0.45))
        p = {
            "E": float(rng.uniform(0.4, 0.8)),
            "A": float(np.exp(rng.uniform(4.2, 5.2)) * 1e8 ** (exponent - 0.35)),
            "B": float(np.exp(rng.uniform(5.5, 6.5)) * 1e9 ** (exponent - 0.35)),
            "alpha": exponent,
            "beta": exponent,
            "lambda": float(np.exp(rng.uniform(np.log(0.04), np.log(0.15)))),
        }
        p |= {f"tau_{code}": float(np.clip(rng.normal(0.12, 0.12), -0.05, 0.5)) for code in sources}
        laws[target], numbers[target] = law, p
    return laws, numbers, unique


def design(unique: dict[str, float]) -> Allocation:
    """Monolingual runs at every size and length, up to many epochs; pairs at two ratios; all four evenly."""
    rows: list[tuple[float, dict[str, float]]] = []
    for N in SIZES:
        for code in CODES:
            rows += [(N, {code: 20 * N * step}) for step in (0.2, 1.0, 5.0)]
        rows += [(N, {a: 10 * N, b: 10 * N}) for i, a in enumerate(CODES) for b in CODES[:i]]
        rows += [(N, {a: 16 * N, b: 4 * N}) for a, b in (("sw", "en"), ("yo", "en"), ("ha", "en"))]
        rows += [
            (N, dict.fromkeys(CODES, 10 * N)),
            (N, dict.fromkeys(CODES, 2.5 * N)),
            (N, dict.fromkeys(CODES, 25 * N)),
        ]
    tokens = {code: np.array([D.get(code, 0.0) for _, D in rows]) for code in CODES}
    return Allocation(np.array([N for N, _ in rows]), tokens, unique)


def user(seed: int) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    laws, numbers, unique = truth(rng)
    runs_of = design(unique)
    runs = simulate(list(laws.values()), list(numbers.values()), runs_of, noise=0.005, seed=seed)
    compute = 100 * float((6 * runs_of.params * runs_of.total_tokens).max())
    fits = [bs.fit(law, runs, resamples=40, seed=seed) for law in laws.values()]
    known = [Fit(law, numbers[code], target=code) for code, law in laws.items()]
    ours = bs.plan(fits, compute=compute, unique_tokens=unique, draws=0)
    oracle = bs.plan(known, compute=compute, unique_tokens=unique, draws=0, baselines=False)

    def trained(params: float, tokens: dict[str, float]) -> dict[str, float]:
        """True losses; infinite where a language drowns in interference."""
        allocation = Allocation(params, tokens, unique)
        losses = {code: float(law.evaluate(numbers[code], allocation)) for code, law in laws.items()}
        return {code: loss if np.isfinite(loss) else np.inf for code, loss in losses.items()}

    robust = {
        kind: bs.plan(fits, compute=compute, unique_tokens=unique, robust=kind, draws=40, baselines=False)
        for kind in ("mean", "cvar")
    }
    best = oracle.objective
    real = trained(ours.params, dict(ours.tokens))
    found = {"plan": np.mean(list(real.values())) / best - 1, "params": ours.params / oracle.params}
    for kind, made in robust.items():
        found[f"robust {kind}"] = np.mean(list(trained(made.params, dict(made.tokens)).values())) / best - 1
    held = [ours.losses[code].low <= real[code] <= ours.losses[code].high for code in CODES]
    found["held"] = float(np.mean(held))
    found |= dict.fromkeys(("unimax", "proportional", "temperature", "uniform"), np.inf)
    for baseline in ours.baselines:
        if baseline.name != "monolingual":
            found[baseline.name] = np.mean(list(trained(baseline.params, dict(baseline.tokens)).values())) / best - 1
    return found


def main(users: int) -> None:
    start, rows, lost = time.perf_counter(), [], []
    for seed in range(users):
        try:
            rows.append(user(seed))
        except BabelscaleError as error:
            lost.append(f"{seed}: {error.message}")
    print(f"{len(rows)} users, {time.perf_counter() - start:.0f} s; {len(lost)} could not plan {lost[:3]}")
    print("regret against the oracle, % of its loss     median    90 %    worst    plan is better")
    plans = np.array([row["plan"] for row in rows])
    for name in ("plan", "robust mean", "robust cvar", "unimax", "proportional", "temperature", "uniform"):
        values = np.array([row[name] for row in rows])
        told = "" if name == "plan" else f"{(plans < values).sum():>10} of {len(rows)}"
        ends = [100 * np.quantile(values, q, method="higher") for q in (0.5, 0.9, 1.0)]
        print(f"  {name:<40}{ends[0]:>9.3f}{ends[1]:>9.3f}{ends[2]:>9.3f}{told}")
    ratio = np.array([row["params"] for row in rows])
    print(
        f"planned N over the oracle's: median {np.median(ratio):.2f}, 90 % {np.quantile(ratio, 0.05):.2f} to "
        f"{np.quantile(ratio, 0.95):.2f}"
    )
    held = 100 * np.mean([row["held"] for row in rows])
    print(f"90 % intervals of a new run's loss at 100 times the compute held {held:.1f} % of the true losses")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
