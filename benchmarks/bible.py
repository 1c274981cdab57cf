"""Transfer between twelve languages on one text, whole Bibles (../shared/corpora/bible37.tar.xz), measured three ways.

Every language has chapters of its own (the chapters are dealt out one by one), so no verse is seen in two languages, in
training or in the test. All 66 pairs and 48 random mixtures of 4, 6 or 8 languages are trained with two seeds' worth of
chance, and each language is continued from the model of all twelve.

Usage: .venv/bin/python benchmarks/bible.py [FOLDER]     (default studies/bible; resumes where it was stopped)
"""

import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
ARCHIVE = ROOT.parent / "shared" / "corpora" / "bible37.tar.xz"
# Four branches; Serbian is Croatian in another script, and Russian and Ukrainian share that script.
LANGUAGES = ("ceb", "da", "de", "es", "fil", "hr", "nl", "pt", "ru", "sr", "sv", "uk")
WIDTHS, EACH, SEEDS = (4, 6, 8), 8, (0, 1)

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

MIXTURES = """
[[groups]]
name = "mixtures-{seed}"
why = "random mixtures: each tells many transfers at once"
mixture = "shares"
shares = [
{shares}
]
sizes = ["xs"]
tokens = [600e3]
seeds = [{seed}]
"""


def mixtures(seed: int) -> str:
    """Mixtures in which every language comes about equally often: random orders, cut into pieces."""
    rng = np.random.default_rng(seed)
    lines = []
    for width in WIDTHS:
        queue: list[str] = []
        for _ in range(EACH):
            mixture: list[str] = []
            while len(mixture) < width:
                queue = queue or list(rng.permutation(LANGUAGES))
                code = next((code for code in queue if code not in mixture), None)
                if code is None:
                    queue += list(rng.permutation(LANGUAGES))
                    continue
                queue.remove(code)
                mixture.append(str(code))
            lines.append("  { " + ", ".join(f"{code} = 1" for code in sorted(mixture)) + " },")
    return MIXTURES.format(seed=seed, shares="\n".join(lines))


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
    with tempfile.TemporaryDirectory() as scratch:
        with tarfile.open(ARCHIVE) as archive:
            archive.extractall(scratch, filter="data")
        write_text(Path(scratch) / "bible", Path(scratch) / "text")
        design = Path(scratch) / "bible.toml"
        listed = json.dumps(list(LANGUAGES))
        parts = "".join(mixtures(seed) for seed in SEEDS)
        design.write_text(DESIGN.format(languages=listed, seeds=list(SEEDS), mixtures=parts), encoding="utf-8")
        command = ["study", "run", str(design), "--out", str(folder), "--no-report"]
        subprocess.run([Path(sys.executable).parent / "babelscale", *command], check=True)


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "studies/bible")
    train(folder)


if __name__ == "__main__":
    main()
