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

from babelscale.transfer.acquisition import balanced

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


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "studies/bible")
    train(folder)


if __name__ == "__main__":
    main()
