"""How long plans take: many languages, many draws, a cold command, and SciPy's SLSQP beside the planner.

    OPENBLAS_NUM_THREADS=1 .venv/bin/python benchmarks/plan_speed.py [REPEATS]      (default 20)

Plans of 50 languages with 200 draws planned anew, without and with the comparison to simpler mixtures: from published
figures; from fits with three helpers and the rest pooled for every target, as the study's law has them; and from fits
in which every language may help every other. 420 languages from published figures and from fits. CPU time at K = 50 of
one plan by the planner and by SLSQP on the same problem, with exact and with numerical gradients, side by side.
"""

import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
from plan_optimality import BOX, COMPUTE, Mirror
from scipy.optimize import minimize

import babelscale as bs
from babelscale.fitting import Fit
from babelscale.languages import table
from babelscale.planning.fitted_laws import FittedLaws
from babelscale.planning.optimiser.evaluate import LossEvaluator
from babelscale.planning.optimiser.interior_point import solve
from babelscale.planning.optimiser.setting import Setting

KNOWN = [code for code, language in table().items() if language.unique_tokens]
UNIQUE = {code: float(table()[code].unique_tokens or 0) for code in KNOWN}


def fits(K: int, sources: int, draws: int = 200, seed: int = 0) -> list[Fit]:
    """Adaptive transfer fits of K languages with so many named sources each, and the rest pooled."""
    rng, codes = np.random.default_rng(seed), KNOWN[:K]
    found = []
    for i, code in enumerate(codes):
        others = [codes[(i + k + 1) % K] for k in range(min(sources, K - 1))]
        law = bs.laws.AdaptiveTransfer(code, tuple(others), other=sources < K - 1)
        exponent = float(rng.uniform(0.3, 0.5))
        E, log_A, log_B = (float(rng.uniform(*ends)) for ends in ((0.4, 0.9), (5, 7), (6, 8.5)))
        p = {"E": E, "A": np.exp(log_A), "B": np.exp(log_B), "alpha": exponent, "beta": exponent, "lambda": 0.065}
        p |= {name: float(rng.uniform(0, 0.3)) for name in law.tau_names}
        if law.other:
            p["tau_other"] = 0.02
        row = np.array([p[name] for name in law.parameter_names])
        spread = np.exp(0.01 * rng.standard_normal((draws, len(row))))
        spread[:, law.parameter_names.index("beta")] = spread[:, law.parameter_names.index("alpha")]
        found.append(Fit(law, p, draws=row * spread, target=code, metric="bits_per_byte", residual_sd=0.003))
    return found


def timed(make, repeats: int) -> np.ndarray:
    """Wall and CPU seconds of every repeat, shape (repeats, 2)."""
    make(0)
    seconds = []
    for i in range(repeats):
        start = time.perf_counter(), time.process_time()
        make(i + 1)
        seconds.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    return np.array(seconds)


def told(name: str, seconds: np.ndarray, limit: str) -> None:
    (median, CPU), (high, _) = 1000 * np.median(seconds, axis=0), 1000 * np.quantile(seconds, 0.95, axis=0)
    print(f"{name:<78} median {median:6.0f} ms, p95 {high:6.0f} ms, CPU {CPU:6.0f} ms   {limit}")


def fifty(repeats: int) -> None:
    three, dense = fits(50, 3), fits(50, 49)
    for baselines, said in ((False, "plan alone"), (True, "with simpler mixtures")):
        cases = {
            "published": lambda i, baselines=baselines: bs.plan(
                published=True, languages=KNOWN[:50], compute=1e21 * (1 + i / 50), draws=200, baselines=baselines
            ),
            "fits, 3 helpers and the rest": lambda i, baselines=baselines: bs.plan(
                three,
                compute=1e21 * (1 + i / 50),
                unique_tokens={c: UNIQUE[c] for c in KNOWN[:50]},
                draws=200,
                baselines=baselines,
            ),
            "fits, all 49 helpers": lambda i, baselines=baselines: bs.plan(
                dense,
                compute=1e21 * (1 + i / 50),
                unique_tokens={c: UNIQUE[c] for c in KNOWN[:50]},
                draws=200,
                baselines=baselines,
            ),
        }
        for name, make in cases.items():
            told(f"50 languages, 200 draws, {name}, {said}", timed(make, repeats), "limit p95 100 ms")


def many(repeats: int) -> None:
    codes = KNOWN[:420]
    told(
        "420 languages, 200 draws, published, with simpler mixtures",
        timed(lambda i: bs.plan(published=True, languages=codes, compute=1e23, draws=200), repeats),
        "limit 2000 ms",
    )
    large = fits(420, 3, draws=40)
    unique = {code: UNIQUE[code] for code in codes}
    told(
        "420 languages, fits with 3 helpers and the rest, no draws",
        timed(lambda i: bs.plan(large, compute=1e23, unique_tokens=unique, draws=0, baselines=False), 2),
        "limit 2000 ms",
    )


def beside_slsqp() -> None:
    ours, exact, numerical, margins = [], [], [], []
    for seed in range(5):
        several = fits(50, 49, draws=0, seed=seed)
        setting = Setting(
            tuple(KNOWN[:50]), dict.fromkeys(KNOWN[:50], 1 / 50), {c: UNIQUE[c] for c in KNOWN[:50]}, COMPUTE
        )
        problem = LossEvaluator.of(FittedLaws.of(several).point(setting), setting)
        start = time.process_time()
        found = solve(problem, BOX)
        ours.append(time.process_time() - start)
        assert found is not None
        mirror = Mirror(problem)
        x = mirror.even(np.full(50, 1 / 50))
        start = time.process_time()
        value = mirror.slsqp(x)
        exact.append(time.process_time() - start)
        equal = {"type": "eq", "fun": lambda x, m=mirror: x[: m.K].sum() - 1}
        start = time.process_time()
        minimize(
            lambda x, m=mirror: m(x)[0],
            x,
            method="SLSQP",
            bounds=mirror.bounds,
            constraints=[equal],
            options={"maxiter": 500, "ftol": 1e-14},
        )
        numerical.append(time.process_time() - start)
        margins.append(value / found.objective[0] - 1)
    one, two, three = (float(np.median(x)) for x in (ours, exact, numerical))
    print(
        f"one plan at K = T = 50, CPU s: planner {one:.3f}; SLSQP with numerical gradients {three:.2f} "
        f"({three / one:.0f} times), with our exact gradients {two:.2f} ({two / one:.1f} times)   "
        "limit 100 times"
    )
    print(f"  SLSQP's objective above the plan's: {min(margins):+.1e} to {max(margins):+.1e}")
    per_draw = fits(50, 49)
    unique = {c: UNIQUE[c] for c in KNOWN[:50]}
    start = time.process_time()
    bs.plan(per_draw, compute=COMPUTE, unique_tokens=unique, draws=200, baselines=False)
    whole = time.process_time() - start
    exactly, numerically = 201 * two, 201 * three
    print(
        f"  a plan with 200 draws, CPU s: planner {whole:.2f}; 201 runs of SLSQP with exact gradients {exactly:.0f} "
        f"({exactly / whole:.0f} times), with numerical ones {numerically:.0f} ({numerically / whole:.0f} times)"
    )


def cold(repeats: int) -> None:
    command = [
        str(Path(sys.executable).with_name("babelscale")),
        "plan",
        "--languages",
        "sw,yo,ha",
        "--compute",
        "1e21",
    ]
    told(
        "cold `babelscale plan --languages sw,yo,ha --compute 1e21`",
        timed(lambda i: subprocess.run(command, check=True, capture_output=True), repeats),
        "limit 1500 ms",
    )


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    fifty(count)
    many(min(count, 5))
    cold(min(count, 10))
    beside_slsqp()
