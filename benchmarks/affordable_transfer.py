"""The whole transfer matrix of 38 languages from mixtures, beside measuring pairs, on simulated runs with known tau.

Usage: .venv/bin/python benchmarks/affordable_transfer.py [SEEDS] [--form FORM] [--widths 8,4]

Losses follow L = E + B / D_eff^beta with 0.3 % noise at every checkpoint, one size of model, so FLOPs go as tokens. The
truth has blocks of related languages, targets and sources of their own, and a part of every pair's own. Every design
pays for its monolingual runs. A pair is trained until both directions can be read at 42B tokens, at most 126B. Mixtures
of eight languages (or of several widths, which tell the form) are trained in two ways:

- short: as long as the longest pair. Tau is the same all along, so a mixture may be read at fewer tokens.
- long: four times that, so that every language gets as many tokens as in a pair, and mixtures are read at the pairs'
  own anchor or near it. This is what is needed where transfer moves with tokens.

Prints Spearman's correlation with the truth on all 1,406 pairs, and the share of them inside the 90 % intervals, by
share of the FLOPs that measuring every pair takes. Limits: 0.9 at 25 %; 85 to 95 %.
"""

import argparse

import numpy as np
import polars as pl

from babelscale import published
from babelscale.errors import InputError
from babelscale.runs import Runs
from babelscale.transfer import TransferMatrix, from_gain, same
from babelscale.transfer.acquisition import balanced, propose
from babelscale.transfer.mixture_observations import observe_mixtures
from babelscale.transfer.mixtures import FORMS, MixtureEstimate, MixtureForm, estimate, inverse, transformed
from babelscale.transfer.prediction import FEWEST, predict

LANGUAGES = published.transfer_matrix().languages
N = len(LANGUAGES)
NOISE, ANCHOR, MONO, LONGEST, WIDTH = 0.003, 42e9, 52.5e9, 126e9, 8
CHECKPOINTS = 16
SHARES = (0.05, 0.08, 0.12, 0.18, 0.25, 0.35)


class World:
    """Known gains, and runs that follow them."""

    def __init__(self, seed: int, form: MixtureForm) -> None:
        self.rng, self.form = np.random.default_rng(seed), form
        kin = {trait: same(LANGUAGES, trait) for trait in ("branch", "script", "family")}
        own = self.rng.normal(0, 0.12, (N, 1)) + self.rng.normal(0, 0.04, (1, N)) + self.rng.normal(0, 0.06, (N, N))
        self.gain = -0.16 + own + 0.3 * kin["branch"] + 0.04 * kin["script"] + 0.02 * kin["family"]
        np.fill_diagonal(self.gain, np.nan)
        self.E, self.beta = self.rng.uniform(0.5, 0.7, N), self.rng.uniform(0.25, 0.35, N)
        # The part of the loss that data remove is 30 to 40 % of it at the anchor.
        share = self.rng.uniform(0.3, 0.4, N)
        self.B = self.E * share / (1 - share) * ANCHOR**self.beta
        self.rows: list[dict[str, object]] = []
        self.trained = 0
        self.mono = [self.train([t], MONO) for t in range(N)]

    def worth(self, target: int, members: list[int]) -> float:
        """log(D_eff / D_t) in an even mixture."""
        gains = self.gain[target, [k for k in members if k != target]]
        weight = (2 / len(members)) ** self.form.dilution
        return float(inverse(np.array(weight * transformed(gains, self.form.power)[0].sum()), self.form.power))

    def train(self, members: list[int], tokens: float) -> str:
        name = f"r{self.trained}"
        self.trained += 1
        for step, d in enumerate(np.geomspace(tokens / 24, tokens, CHECKPOINTS)):
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


def told(found: MixtureEstimate | TransferMatrix | None, gain: np.ndarray) -> str:
    from scipy.stats import spearmanr

    if found is None:
        return "too few   "
    matrix = found.matrix if isinstance(found, MixtureEstimate) else found
    if set(matrix.languages) != set(LANGUAGES):
        return "not all    "
    at = [matrix.languages.index(code) for code in LANGUAGES]
    grids = [getattr(matrix, name)[np.ix_(at, at)] for name in ("values", "low", "high")]
    off = ~np.eye(N, dtype=bool)
    values, low, high = (grid[off] for grid in grids)
    truth = from_gain(gain)[off]
    known = np.isfinite(values)
    inside = np.mean((low[known] <= truth[known]) & (truth[known] <= high[known]))
    share = "" if known.all() else f" of {known.mean():.0%}"
    return f"{spearmanr(values[known], truth[known])[0]:.3f} {100 * inside:4.0f} %{share}"


def mixtures_at(
    world: World, counts: list[int], tokens: float, widths: list[int], chosen: bool = False
) -> list[MixtureEstimate | None]:
    """Estimates after so many mixtures, dealt out evenly, or chosen by what the ones before tell."""
    names, done = set(world.mono), 0
    found: list[MixtureEstimate | None] = []
    for count in counts:
        last = found[-1] if found else None
        if chosen and last is not None:
            mixtures = list(propose(last, widths[:1] * (count - done), seed=count).mixtures)
        else:
            each = [len(range(k, count - done, len(widths))) for k in range(len(widths))]
            dealt = [balanced(LANGUAGES, width, n, seed=count) for width, n in zip(widths, each, strict=True)]
            mixtures = [mixture for part in dealt for mixture in part]
        names |= {world.train([LANGUAGES.index(code) for code in mixture], tokens) for mixture in mixtures}
        done = count
        try:
            found.append(
                estimate(observe_mixtures(world.runs(names)), forms=tuple(FORMS) if len(widths) > 1 else ("log",))
            )
        except InputError:
            # Too few of them yet.
            found.append(None)
    return found


def pairs_at(world: World, names: list[str], gain: np.ndarray) -> str:
    measured = TransferMatrix.from_runs(world.runs({*world.mono, *names}), anchor=ANCHOR / MONO)
    if np.isfinite(measured.values).sum() < FEWEST:
        return "too few to predict from"
    return told(predict(measured, LANGUAGES, checks=False).matrix, gain)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("seeds", nargs="?", type=int, default=2)
    parser.add_argument("--form", default="log", choices=["log", "share"], help="what the simulated truth follows")
    parser.add_argument("--widths", default=str(WIDTH), help="languages of a mixture: 8, or several as 8,4")
    options = parser.parse_args()
    widths = [int(width) for width in options.widths.split(",")]
    for seed in range(options.seeds):
        world = World(seed, FORMS[options.form])
        pairs = [(a, b) for a in range(N) for b in range(a)]
        order = world.rng.permutation(len(pairs))
        lengths = np.array([world.pair_tokens(*pairs[k]) for k in order])
        mono = N * MONO
        whole = mono + lengths.sum()
        print(f"seed {seed}: measuring 703 pairs takes {whole:.3g} tokens, {lengths.mean() / 1e9:.0f}B a pair")
        names = [world.train(list(pairs[k]), length) for k, length in zip(order, lengths, strict=True)]
        left = [share * whole - mono for share in SHARES]
        long = LONGEST * WIDTH / 2
        short_counts, long_counts = ([round(rest / tokens) for rest in left] for tokens in (LONGEST, long))
        columns = [
            mixtures_at(world, short_counts, LONGEST, widths),
            mixtures_at(world, short_counts, LONGEST, widths, chosen=True),
            mixtures_at(world, [max(count, 10) for count in long_counts], long, widths),
        ]
        print("FLOPs  short mixtures           the same, chosen     long mixtures            pairs, the rest predicted")
        for k, share in enumerate(SHARES):
            within = int(np.searchsorted(np.cumsum(lengths), left[k]))
            short, chosen, wide = (told(column[k], world.gain) for column in columns)
            print(
                f"{share:4.0%}  {short_counts[k]:4d}: {short}    {chosen}   {max(long_counts[k], 10):4d}: {wide}"
                f"   {within:4d}: {pairs_at(world, names[:within], world.gain)}",
                flush=True,
            )
        forms = [each.form for column in columns for each in column if each is not None]
        print(f"        forms chosen: {', '.join(dict.fromkeys(forms))}")
        everything = TransferMatrix.from_runs(world.runs({*world.mono, *names}), anchor=ANCHOR / MONO)
        print(f"100 %  every pair, as measured: {told(everything, world.gain)}", flush=True)


if __name__ == "__main__":
    main()
