"""Do the intervals hold the truth? Simulated tables of every law at 0.5 % noise, fitted and asked at 4x their compute.

Usage: .venv/bin/python benchmarks/coverage.py [TABLES] [CASE ... | unidentified]
(default 200 tables of every case; two processes, some minutes)

A table is 60 or 64 runs drawn from known numbers, fitted with 200 resamples. Allocations with exactly 4x the largest
compute (6 N D_tot) of the table are predicted: the run of most compute with 4x its parameters, with 4x its tokens, with
2x both, and the same with the target alone. Two things are counted over tables and allocations, each to lie in 85-95 %:
    curve   the 90 % confidence interval of the law holds the loss of the true law
    new run the 90 % prediction interval holds a newly drawn run with the same noise
The second part fits designs that cannot identify a parameter and counts how often the notes say so: always, it should.
"""

import sys
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np

from babelscale.allocation import Allocation
from babelscale.errors import InputError
from babelscale.fitting import fit
from babelscale.fitting.simulation import simulate
from babelscale.laws import AdaptiveTransfer, Chinchilla, DataConstrained, Multilingual, Multilinguality, ScalingLaw

NOISE = 0.005
LOW, HIGH = 85.0, 95.0
DIRECTIONS = {"4x N": (4.0, 1.0), "4x D": (1.0, 4.0), "2x both": (2.0, 2.0), "alone": (2.0, 2.0)}
# Besiroglu et al. (2024) and Muennighoff et al. (2023), in nats per token.
CHINCHILLA = {"E": 1.8172, "A": 482.01, "B": 2085.43, "alpha": 0.3478, "beta": 0.3658}
REPEATED = {"E": 1.87, "A": 521.0, "B": 1488.0, "alpha": 0.35266, "beta": 0.35266, "R_D": 15.387756}
SHARED = {"E": 0.6, "A": 60.0, "B": 900.0, "alpha": 0.35, "beta": 0.35, "lambda": 0.1}
PRICE = {"phi": 0.11, "psi": -0.04}
TAU = {"tau_en": 0.25, "tau_fr": -0.05, "tau_de": 0.1, "tau_other": 0.08}


@dataclass(frozen=True)
class Case:
    name: str
    law: ScalingLaw
    truth: Mapping[str, float]
    design: Allocation


def grid(sizes: int, ratios: int, low: float = 5.0, high: float = 320.0) -> tuple[np.ndarray, np.ndarray]:
    """N from 10M to 1B, each with D_tot of `low` to `high` tokens per parameter; shape (sizes * ratios,)."""
    N = np.repeat(np.geomspace(1e7, 1e9, sizes), ratios)
    return N, N * np.tile(np.geomspace(low, high, ratios), sizes)


def mixed(mixtures: list[Mapping[str, float]], sizes: int, amounts: list[float], U: Mapping[str, float]) -> Allocation:
    """Every mixture at every size, with total tokens from a cycle of amounts."""
    N, D, shares = [], [], []
    for i, n in enumerate(np.geomspace(1e7, 1e9, sizes)):
        for j, mixture in enumerate(mixtures):
            N.append(n)
            D.append(amounts[(i + j) % len(amounts)] * (n / 1e7) ** 0.5)
            shares.append(mixture)
    codes = sorted({code for mixture in mixtures for code in mixture})
    tokens = {code: np.array([d * s.get(code, 0.0) for d, s in zip(D, shares, strict=True)]) for code in codes}
    return Allocation(np.array(N), tokens, U)


def cases() -> list[Case]:
    N, D = grid(8, 8)
    few = np.tile([3e8, 3e9, 1e13, 3e10], 16)  # a quarter of the runs sees its data up to a thousand times
    own: list[Mapping[str, float]] = [
        {"sw": 1.0},
        {"sw": 0.5, "en": 0.5},
        {"sw": 0.5, "fr": 0.5},
        {"sw": 0.5, "de": 0.5},
    ]
    wide: list[Mapping[str, float]] = [
        {"sw": 0.2, "en": 0.6, "fr": 0.2},
        {"sw": 0.2, "de": 0.3, "zh": 0.5},
        {"sw": 0.25, "en": 0.25, "hi": 0.5},
    ]
    even: Mapping[str, float] = dict.fromkeys(("sw", "en", "fr", "de", "zh", "hi", "vi", "ja"), 0.125)
    U = {"sw": 4e8, "en": 1e13, "fr": 1e12, "de": 1e12, "zh": 1e12, "hi": 1e11, "vi": 1e11, "ja": 1e12}
    atlas = mixed([*own, *wide, even], 8, [1e9, 4e9, 1.6e10], U)
    counts = np.tile([1, 2, 4, 8, 16, 50], 10)
    n, d = grid(6, 10, 10.0, 320.0)
    many = {f"x{chr(97 + k // 26)}{chr(97 + k % 26)}": np.where(k < counts, d, 0.0) for k in range(1, 50)}
    share = np.tile([1.0, 0.5, 0.25, 0.1], 16)
    names = ("E", "A", "B", "alpha", "beta", "lambda")
    return [
        Case("chinchilla", Chinchilla("sw"), CHINCHILLA, Allocation(N, {"sw": D})),
        Case("data-constrained", DataConstrained("sw"), REPEATED, Allocation(N, {"sw": D}, {"sw": few})),
        Case(
            "multilingual",
            Multilingual("sw"),
            CHINCHILLA | {"gamma": 0.06},
            Allocation(N, {"sw": D * share, "en": D * (1 - share)}),
        ),
        Case("adaptive D_t", AdaptiveTransfer("sw", (), other=False), {k: SHARED[k] for k in names}, atlas),
        Case("adaptive +other", AdaptiveTransfer("sw"), SHARED | {"tau_other": 0.1}, atlas),
        Case("adaptive +3", AdaptiveTransfer("sw", ("en", "fr", "de")), SHARED | TAU, atlas),
        Case(
            "multilinguality",
            Multilinguality("sw"),
            SHARED | {"A": 300.0, "B": 25.0, "alpha": 0.45, "beta": 0.147} | PRICE,
            Allocation(n, {"sw": d, **many}),
        ),
    ]


def farther(design: Allocation) -> Allocation:
    """Four allocations of 4x the largest compute, shape (4,), in the order of DIRECTIONS."""
    top = design.at(int(np.argmax(design.params * design.total_tokens)))
    by_N, by_D = np.array(list(DIRECTIONS.values())).T
    tokens = {code: value * by_D for code, value in top.tokens.items()}
    for code, value in tokens.items():
        value[-1] = by_D[-1] * top.total_tokens if code == "sw" else 0.0
    return Allocation(top.params * by_N, tokens, dict(top.unique_tokens))


def one_table(case: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Whether the curve and a new run lie inside, by direction; relative widths; the CPU seconds of the fit."""
    this = cases()[case]
    runs = simulate(this.law, this.truth, this.design, noise=NOISE, seed=seed)
    began = time.process_time()
    found = fit(this.law, runs, seed=seed)
    spent = time.process_time() - began
    points = farther(this.design)
    predicted = found.predict(points)
    truth = this.law.loss(this.truth, points)
    new = truth * np.exp(np.random.default_rng([seed, 1]).normal(0, NOISE, len(DIRECTIONS)))
    curve = (predicted.confidence_low <= truth) & (truth <= predicted.confidence_high)
    run = (predicted.low <= new) & (new <= predicted.high)
    return curve, run, (predicted.confidence_high - predicted.confidence_low) / truth, spent


def unidentified() -> dict[str, tuple[ScalingLaw, Mapping[str, float], Allocation, tuple[str, ...]]]:
    """Designs that leave something open: law, truth, design, and words that one note or error must hold."""
    N, D = grid(6, 8)
    n = np.geomspace(1e7, 1e9, 48)
    U, tau = {"sw": 3e8}, {"tau_en": 0.2, "tau_fr": 0.1}
    by_fours, some = np.tile([0, 1, 3, 9], 12), np.where(np.arange(48) < 3, 0.9, 2.0)
    alone, with_en = AdaptiveTransfer("sw", other=False), AdaptiveTransfer("sw", ("en",), other=False)
    both, sw, data = AdaptiveTransfer("sw", ("en", "fr"), other=False), Chinchilla("sw"), DataConstrained("sw")
    once, ratio = Allocation(N, {"sw": D}), Allocation(n, {"sw": 20 * n})
    alike, barely = (Allocation(N, {"sw": D}, {"sw": share * D}) for share in (0.9, some))
    near = Allocation(n, {"sw": n * np.tile([19.0, 20.0, 21.0], 16)})
    paired = Allocation(n, {"sw": 20 * n, "en": n * np.tile([0.0, 20.0], 24)}, U)
    together = Allocation(N, {"sw": D, "en": D * by_fours, "fr": 2 * D * by_fours}, U)
    one_size = Allocation(np.full(48, 1e8), {"sw": 100 * n})
    halves = Allocation(N, {"sw": D, "en": D})
    return {
        "no repeats, adaptive": (alone, SHARED, once, ("lambda", "no run repeats")),
        "no repeats, data-constrained": (data, REPEATED, once, ("R_D", "no run repeats")),
        "all repeat 1.1x, adaptive": (alone, SHARED, alike, ("lambda", "identified")),
        "all repeat 1.1x, data-constrained": (data, REPEATED, alike, ("R_D", "identified")),
        "three repeat 1.1x, adaptive": (alone, SHARED, barely, ("lambda", "identif")),
        "three repeat 1.1x, data-constrained": (data, REPEATED, barely, ("R_D", "identif")),
        "20 tokens per parameter": (sw, CHINCHILLA, ratio, ("tokens per parameter",)),
        "19 to 21 tokens per parameter": (sw, CHINCHILLA, near, ("tokens per parameter",)),
        "20 tokens per parameter, adaptive": (with_en, SHARED | tau, paired, ("tokens per parameter",)),
        "source in one ratio": (with_en, SHARED | tau, Allocation(N, {"sw": D, "en": 2 * D}, U), ("tau_en", "ratio")),
        "sources together": (both, SHARED | tau, together, ("tau_en", "tau_fr", "told apart")),
        "one size": (sw, CHINCHILLA, one_size, ("same size", "alpha")),
        "one token count": (sw, CHINCHILLA, Allocation(N, {"sw": 0 * N + 1e9}), ("same amount", "beta")),
        "one share": (Multilingual("sw"), CHINCHILLA | {"gamma": 0.06}, halves, ("gamma", "same share")),
        "one number of languages": (Multilinguality("sw"), SHARED | PRICE, halves, ("phi", "same number")),
    }


def said(name: str, seed: int) -> bool:
    """Whether one note of a fit, or its error, holds every word expected."""
    law, truth, design, words = unidentified()[name]
    runs = simulate(law, truth, design, noise=NOISE, seed=seed)
    try:
        notes = fit(law, runs, resamples=100, seed=seed).notes
    except InputError as error:
        notes = (error.message,)
    return any(all(word in note for word in words) for note in notes)


def main() -> None:
    arguments = sys.argv[1:]
    tables = int(arguments.pop(0)) if arguments and arguments[0].isdigit() else 200
    began = time.perf_counter()
    failed = 0
    with ProcessPoolExecutor(2) as pool:
        print(f"{tables} tables a law, {100 * NOISE:g} % noise, predictions at 4x the largest compute; 90 % intervals")
        print(
            f"{'law':<18}{'runs':>5}{'curve (%)':>11}{'new run (%)':>13}   limit 85-95   "
            f"curve by {', '.join(DIRECTIONS)}; median width (%); CPU a fit (s)"
        )
        for at, case in enumerate(cases()):
            if arguments and case.name not in arguments:
                continue
            found = list(pool.map(one_table, [at] * tables, range(tables), chunksize=4))
            curve, run, width = (100 * np.array([row[k] for row in found]) for k in range(3))
            good = LOW <= curve.mean() <= HIGH and LOW <= run.mean() <= HIGH
            failed += not good
            by = ", ".join(f"{value:.1f}" for value in curve.mean(axis=0))
            print(
                f"{case.name:<18}{case.design.params.size:>5}{curve.mean():>11.1f}{run.mean():>13.1f}   "
                f"{'inside' if good else 'OUTSIDE':<13} {by}; {np.median(width):.2f}; "
                f"{np.mean([row[3] for row in found]):.2f}",
                flush=True,
            )
        if not arguments or "unidentified" in arguments:
            print("\nwhat cannot be identified is said, of tables")
            for name in unidentified():
                times = sum(pool.map(said, [name] * tables, range(tables), chunksize=8))
                failed += times < tables
                print(f"{name:<38}{times:>5} of {tables}  {'always' if times == tables else 'NOT ALWAYS'}", flush=True)
    print(f"\n{time.perf_counter() - began:.0f} s; {failed} outside")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
