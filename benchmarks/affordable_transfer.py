"""The whole transfer matrix of 38 languages from mixtures, beside measuring pairs, on simulated runs with known tau.

Usage: .venv/bin/python benchmarks/affordable_transfer.py [SEEDS] [--form M]     (default 2 seeds, form 0)

Losses follow L = E + B / D_eff^beta with 0.3 % noise at every checkpoint. The truth has blocks of related languages,
targets and sources of their own, and a part of every pair's own. A pair is trained until both directions can be read,
at most three times the anchor; a mixture of eight languages as long as the longest pair. Every design pays for its
monolingual runs. Prints Spearman's correlation with the truth on all 1,406 pairs and the share of them inside the 90 %
intervals, by share of the FLOPs that measuring every pair takes.
"""

import argparse

import numpy as np
import polars as pl

from babelscale import published
from babelscale.runs import Runs
from babelscale.transfer import TransferMatrix, from_gain, same
from babelscale.transfer.acquisition import balanced, propose
from babelscale.transfer.mixtures import Estimate, estimate, inverse, transformed
from babelscale.transfer.prediction import predict
from babelscale.transfer.readings import read

LANGUAGES = published.transfer_matrix().languages
N = len(LANGUAGES)
NOISE, ANCHOR, MONO, LONGEST, WIDTH = 0.003, 42e9, 52.5e9, 126e9, 8
CHECKPOINTS = 12
SHARES = (0.05, 0.08, 0.12, 0.18, 0.25)


class World:
    """Known gains, and runs that follow them."""

    def __init__(self, seed: int, form: float) -> None:
        self.rng, self.form, self.count = np.random.default_rng(seed), form, 0
        kin = {trait: same(LANGUAGES, trait) for trait in ("branch", "script", "family")}
        own = self.rng.normal(0, 0.12, (N, 1)) + self.rng.normal(0, 0.04, (1, N)) + self.rng.normal(0, 0.06, (N, N))
        self.gain = -0.16 + own + 0.3 * kin["branch"] + 0.04 * kin["script"] + 0.02 * kin["family"]
        np.fill_diagonal(self.gain, np.nan)
        self.E, self.beta = self.rng.uniform(0.5, 0.7, N), self.rng.uniform(0.25, 0.35, N)
        # The part of the loss that data remove is 30 to 40 % of it at the anchor.
        share = self.rng.uniform(0.3, 0.4, N)
        self.B = self.E * share / (1 - share) * ANCHOR**self.beta
        self.rows: list[dict[str, object]] = []
        self.mono = [self.train([t], MONO) for t in range(N)]

    def worth(self, target: int, members: list[int]) -> float:
        """log(D_eff / D_t) in an even mixture."""
        gains = self.gain[target, [k for k in members if k != target]]
        return float(inverse(np.array(transformed(gains, self.form)[0].sum()), self.form))

    def train(self, members: list[int], tokens: float) -> str:
        name = f"r{len({row['run'] for row in self.rows[-1:]}) and int(str(self.rows[-1]['run'])[1:]) + 1}"
        for step, d in enumerate(np.geomspace(tokens / 12, tokens, CHECKPOINTS)):
            for t in members:
                d_eff = d / len(members) * np.exp(self.worth(t, members))
                loss = self.E[t] + self.B[t] * d_eff ** -self.beta[t]
                loss *= np.exp(NOISE * self.rng.standard_normal())
                self.rows.append(
                    {"run": name, "step": step, "language": LANGUAGES[t], "tokens": d / len(members), "nats": loss}
                )
        return name

    def pair_tokens(self, a: int, b: int) -> float:
        """Until both directions come down to their anchor's loss: D_eff = anchor."""
        needed = [2 * ANCHOR * np.exp(-self.gain[t, s]) for t, s in ((a, b), (b, a))]
        # A little further, so that the last checkpoint lies beyond.
        return float(min(LONGEST, 1.05 * max(needed)))

    def runs(self, names: set[str] | None = None) -> Runs:
        frame = pl.DataFrame([row for row in self.rows if names is None or row["run"] in names])
        table = frame.group_by("run").agg(tokens=pl.col("tokens").filter(pl.col("step") == CHECKPOINTS - 1).sum())
        state = {"split": pl.lit("validation"), "lr_state": pl.lit("stable"), "tokens": pl.lit(1.0)}
        return Runs.of(
            table.with_columns(params=pl.lit(2e9)),
            frame.select("run", "step", "language", "tokens"),
            frame.select("run", "step", "language", "nats").with_columns(**state),
        )


def told(matrix: TransferMatrix, gain: np.ndarray) -> str:
    from scipy.stats import spearmanr

    at = [matrix.languages.index(code) for code in LANGUAGES]
    grids = [getattr(matrix, name)[np.ix_(at, at)] for name in ("values", "low", "high")]
    off = ~np.eye(N, dtype=bool)
    values, low, high = (grid[off] for grid in grids)
    truth = from_gain(gain)[off]
    known = np.isfinite(values)
    inside = np.mean((low[known] <= truth[known]) & (truth[known] <= high[known]))
    return f"{spearmanr(values[known], truth[known])[0]:.3f}  {100 * inside:4.0f} %  ({known.mean():4.0%})"


def mixtures_at(world: World, counts: list[int], sequential: bool) -> list[Estimate]:
    """Estimates after so many mixtures, all random, or the second half of each step chosen by what is known."""
    names, found = set(world.mono), []
    done = 0
    for count in counts:
        extra = count - done
        if sequential and found:
            chosen = [list(m) for m in propose(found[-1], extra, width=WIDTH, seed=count).mixtures]
        else:
            chosen = [list(m) for m in balanced(LANGUAGES, WIDTH, extra, seed=count)]
        for mixture in chosen:
            names.add(world.train([LANGUAGES.index(code) for code in mixture], LONGEST))
        done = count
        found.append(estimate(read(world.runs(names), anchor=ANCHOR / MONO)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("seeds", nargs="?", type=int, default=2)
    parser.add_argument("--form", type=float, default=0.0, help="the form that the simulated truth follows")
    options = parser.parse_args()
    for seed in range(options.seeds):
        world = World(seed, options.form)
        pairs = [(a, b) for a in range(N) for b in range(a)]
        order = world.rng.permutation(len(pairs))
        lengths = np.array([world.pair_tokens(*pairs[k]) for k in order])
        mono = N * MONO
        whole = mono + lengths.sum()
        print(f"seed {seed}: measuring 703 pairs takes {whole:.3g} tokens, {lengths.mean() / 1e9:.0f}B a pair")
        names = {k: world.train(list(pairs[k]), length) for k, length in zip(order, lengths, strict=True)}
        counts = [round((share * whole - mono) / LONGEST) for share in SHARES]
        random, chosen = mixtures_at(world, counts, False), mixtures_at(world, counts, True)
        print("FLOPs      random mixtures            chosen mixtures            pairs, others predicted")
        for share, count, first, second in zip(SHARES, counts, random, chosen, strict=True):
            within = int(np.searchsorted(mono + np.cumsum(lengths), share * whole))
            measured = TransferMatrix.from_runs(
                world.runs({*world.mono, *(names[k] for k in order[:within])}), anchor=ANCHOR / MONO
            )
            try:
                beside = told(predict(measured, LANGUAGES, checks=False).matrix, world.gain)
            except Exception as error:  # noqa: BLE001
                beside = str(error)
            print(
                f"{share:5.0%}  {count:4d}: {told(first.matrix, world.gain)}   {told(second.matrix, world.gain)}"
                f"   {within:4d}: {beside}",
                flush=True,
            )
        everything = TransferMatrix.from_runs(world.runs({*world.mono, *names.values()}), anchor=ANCHOR / MONO)
        print(f" 100%   every pair, as measured: {told(everything, world.gain)}")
        both = predict(everything, checks=False).matrix
        print(f"        its censored cells predicted: {told(both, world.gain)}")


if __name__ == "__main__":
    main()
