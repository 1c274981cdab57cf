"""Transfer between twelve languages on one text, whole Bibles (../shared/corpora/bible37.tar.xz), measured three ways.

Every language has chapters of its own (the chapters are dealt out one by one), so no verse is seen in two languages, in
training or in the test. All 66 pairs are trained with two seeds, 18 random mixtures of 4, 6 or 8 languages with each of
them, and each language is continued from the model of all twelve.

Usage: .venv/bin/python benchmarks/bible.py [FOLDER]     (default studies/bible; resumes where it was stopped)
"""

import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

from babelscale.reporting.report.language_features import language_features
from babelscale.runs import Runs
from babelscale.transfer import Relations, TransferMatrix, analyse, to_gain
from babelscale.transfer.acquisition import balanced
from babelscale.transfer.along import along
from babelscale.transfer.mixture_observations import MixtureObservations, observe_mixtures
from babelscale.transfer.mixtures import FORMS, estimate
from babelscale.transfer.prediction import predict

ROOT = Path(__file__).parents[1]
ARCHIVE = ROOT.parent / "shared" / "corpora" / "bible37.tar.xz"
# Four branches; Serbian is Croatian in another script, and Russian and Ukrainian share that script.
LANGUAGES = ("ceb", "da", "de", "es", "fil", "hr", "nl", "pt", "ru", "sr", "sv", "uk")
SEEDS = (0, 1)
# Width, mixtures a seed, and tokens: long enough for most readings to reach the pairs' anchor.
MIXTURES = ((4, 8, 800e3), (6, 6, 1_400e3), (8, 4, 2_000e3))

DESIGN = """
name = "bible"
title = "Bible: 12 languages in four branches, no verse seen twice"
languages = {languages}

[corpus]
source = "text"
held_out_share = 0.1

[tokenizer]
vocabulary = 2048

[recipe]
batch_size = 8
sequence_length = 128
learning_rate = 1e-2
warmup_steps = 20
evaluations = 12
evaluation_tokens = 12_000

[sizes]
xs = {{ layers = 2, heads = 2, d_model = 32, d_ff = 128, d_head = 16 }}

[[groups]]
name = "monolingual"
why = "the baseline of every transfer score"
mixture = "monolingual"
sizes = ["xs"]
tokens = [300e3]
seeds = {seeds}

[[groups]]
name = "bilingual"
why = "every pair, measured directly"
mixture = "bilingual"
sizes = ["xs"]
tokens = [500e3]
seeds = {seeds}

[[groups]]
name = "uniform"
why = "the base of the continued runs"
mixture = "uniform"
sizes = ["xs"]
tokens = [600e3]
seeds = {seeds}

[[groups]]
name = "continued"
why = "adaptation scores: one run a source tells its column"
mixture = "monolingual"
sizes = ["xs"]
tokens = [60e3]
seeds = {seeds}
continue_from = "uniform"
{mixtures}"""

GROUP = """
[[groups]]
name = "mixtures-{width}-{seed}"
why = "random mixtures: each tells many transfers at once"
mixture = "shares"
shares = [
{shares}
]
sizes = ["xs"]
tokens = [{tokens:.0f}]
seeds = [{seed}]
"""


def groups(seed: int) -> str:
    """Groups of random mixtures in which every language comes about equally often."""
    text = ""
    for width, count, tokens in MIXTURES:
        chosen = balanced(LANGUAGES, width, count, seed=100 * seed + width)
        shares = "\n".join("  { " + ", ".join(f"{code} = 1" for code in mixture) + " }," for mixture in chosen)
        text += GROUP.format(width=width, seed=seed, shares=shares, tokens=tokens)
    return text


def write_text(bibles: Path, folder: Path) -> None:
    """The verses of each language's own chapters, a line each; chapters are dealt out one by one."""
    texts = {code: (bibles / f"{code}.tsv").read_text(encoding="utf-8") for code in LANGUAGES}
    verses = {code: [line.split("\t", 1) for line in text.splitlines(keepends=True)] for code, text in texts.items()}
    order = list(dict.fromkeys(name.rsplit(".", 1)[0] for code in LANGUAGES for name, _ in verses[code]))
    owner = {chapter: LANGUAGES[k % len(LANGUAGES)] for k, chapter in enumerate(order)}
    folder.mkdir(parents=True, exist_ok=True)
    for code in LANGUAGES:
        own = [text for name, text in verses[code] if owner[name.rsplit(".", 1)[0]] == code]
        (folder / f"{code}.txt").write_text("".join(own), encoding="utf-8")


def train(folder: Path) -> None:
    if not ARCHIVE.exists():
        sys.exit(f"{ARCHIVE} is not there")
    beside = folder.absolute().with_name(f"{folder.name}-text")
    with tempfile.TemporaryDirectory() as scratch, tarfile.open(ARCHIVE) as archive:
        archive.extractall(scratch, filter="data")
        write_text(Path(scratch) / "bible", beside / "text")
    parts = "".join(groups(seed) for seed in SEEDS)
    design = DESIGN.format(languages=json.dumps(list(LANGUAGES)), seeds=list(SEEDS), mixtures=parts)
    (beside / "bible.toml").write_text(design, encoding="utf-8")
    command = ["study", "run", str(beside / "bible.toml"), "--out", str(folder), "--no-report"]
    subprocess.run([Path(sys.executable).parent / "babelscale", *command], check=True)


def beside_pairs(name: str, readings: MixtureObservations, matrix: TransferMatrix, known: Relations) -> None:
    """An estimate from readings beside the scores of pairs read at the same anchor, both with their intervals."""
    found = estimate(readings, known.at(readings.languages), forms=tuple(FORMS))
    at = [readings.languages.index(code) for code in matrix.languages]
    off = np.isfinite(matrix.values)
    ours = [to_gain(getattr(found.matrix, part)[np.ix_(at, at)][off]) for part in ("values", "low", "high")]
    theirs = [to_gain(getattr(matrix, part)[off]) for part in ("values", "low", "high")]
    rank = np.corrcoef(rankdata(ours[0]), rankdata(theirs[0]))[0, 1]
    half = np.hypot((ours[2] - ours[1]) / 2, (theirs[2] - theirs[1]) / 2)
    agree = np.mean(np.abs(ours[0] - theirs[0]) <= half)
    best = max(found.evidence.values())
    forms = "; ".join(f"{form} {value - best:+.1f}" for form, value in found.evidence.items())
    print(
        f"{name}: {len(readings)} readings, {np.isnan(readings.worth).mean():.0%} bounds\n"
        f"  rank r with pairs {rank:.2f}, mean difference of gains {np.mean(ours[0] - theirs[0]):+.3f}, {agree:.0%} "
        f"agree within the 90 % interval of their difference\n"
        f"  form {found.form!r}; log evidence less the best: {forms}"
    )


def tell(folder: Path) -> None:
    runs = Runs.read(folder)
    matrix = TransferMatrix.from_runs(runs)
    known = language_features(folder, matrix.languages, runs)
    print(matrix)
    print(f"with intervals: {matrix.save(folder / 'transfer.csv')}")
    noise = matrix.provenance["seed_noise"]
    print(f"scatter of a gain from seed to seed {noise['sd_of_gain']:.3f} ({noise['degrees']} degrees of freedom)")
    print(f"anchor {next(iter(matrix.provenance['anchor_tokens'].values())):,.0f} tokens\n")
    print(analyse(matrix, known), "\n")
    print("\n".join(str(predict(matrix, relations=known)).splitlines()[-9:]), "\n")
    print(along(runs, anchors=(0.1, 0.2, 0.3, 0.4)), "\n")
    readings = observe_mixtures(runs)
    print(f"readings of mixtures at {readings.anchor:,.0f} tokens, which nine tenths of them reach")
    widths = np.round(1 / readings.share).astype(int)
    for width in np.unique(widths):
        own = readings.worth[widths == width]
        known_mean = f"{np.nanmean(own):+.2f}" if np.isfinite(own).any() else "unknown"
        print(f"  {width} languages: {len(own)} readings, {np.isnan(own).mean():.0%} bounds, mean worth {known_mean}")
    there = TransferMatrix.from_runs(runs, tokens=readings.anchor)
    beside_pairs("pairs and mixtures", readings, there, known)
    gains = to_gain(there.values)
    sd = there.provenance["seed_noise"]["sd_of_gain"]
    ceiling = np.sqrt(max(0.0, 1 - sd**2 / len(SEEDS) / float(np.nanvar(gains))))
    print(f"gains of pairs: standard deviation {np.nanstd(gains):.3f}, of it chance {sd / np.sqrt(len(SEEDS)):.3f};")
    print(f"a perfect estimate would correlate with them by about {ceiling:.2f}")
    few = np.random.default_rng(0).choice(np.unique(readings.run[widths == 2]), 24, replace=False)
    some = readings.at((widths > 2) | np.isin(readings.run, few))
    beside_pairs("mixtures and 24 of the 132 pair runs", some, there, known)
    beside_pairs("mixtures alone", readings.at(widths > 2), there, known)


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "studies/bible")
    train(folder)
    tell(folder)


if __name__ == "__main__":
    main()
