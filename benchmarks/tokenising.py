"""Tokenising real text of 12 languages (../shared/corpora/mini12.tar.xz): MB/s a core of `build_store` as a whole.

Usage: .venv/bin/python benchmarks/tokenising.py [TIMES]     (default 3; the best of them counts)
Prints bytes of text over wall seconds times workers, for one worker (this process) and for one a core, beside the
limit, and CPU seconds with those of the workers, which other programs on the machine disturb less. The tokenizer has
64,512 pieces, or as many as the text supports. Exit status 1 when a figure misses its limit.
"""

import re
import resource
import sys
import tarfile
import tempfile
import time
from pathlib import Path

from babelscale.corpora import Corpus, Tokenizer, build_store, open_corpus, train_tokenizer
from babelscale.errors import InputError
from babelscale.workers import available_cpus

ARCHIVE = Path(__file__).parents[2] / "shared" / "corpora" / "mini12.tar.xz"
PIECES = 64_512
LIMIT = 5.0  # MB/s a core


def train(corpus: Corpus, folder: Path) -> None:
    """A tokenizer of 64,512 pieces, or the largest that the text supports."""
    try:
        train_tokenizer(corpus, corpus.languages, PIECES, folder, character_coverage=0.999995)
    except InputError as error:
        largest = re.search(r"at most (\d+)", error.message)
        if largest is None:
            raise
        train_tokenizer(corpus, corpus.languages, int(largest[1]), folder, character_coverage=0.999995)


def cpu() -> float:
    """CPU seconds of this process and of those it has waited for."""
    uses = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(use.ru_utime + use.ru_stime for use in uses)


def build(corpus: Corpus, model: Path, store: Path, workers: int) -> tuple[float, float, float]:
    """(MB of text, wall seconds, CPU seconds) of one build, by a tokenizer that knows no word yet."""
    tokenizer = Tokenizer.load(model)
    began, cpu_before = time.perf_counter(), cpu()
    made = build_store(corpus, tokenizer, corpus.languages, store, workers=workers)
    wall, used = time.perf_counter() - began, cpu() - cpu_before
    return sum(made.bytes(code, "train") + made.bytes(code, "held_out") for code in made.languages) / 1e6, wall, used


def main() -> int:
    times = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    if not ARCHIVE.exists():
        sys.exit(f"{ARCHIVE} is not there")
    missed = False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with tarfile.open(ARCHIVE) as archive:
            archive.extractall(folder, filter="data")
        corpus = open_corpus(folder / "mini12")
        began = time.process_time()
        train(corpus, folder / "tokenizer")
        pieces = Tokenizer.load(folder / "tokenizer").vocabulary_size
        print(f"tokenizer of {pieces:,} pieces trained in {time.process_time() - began:.1f} CPU s")
        for workers in sorted({1, len(available_cpus())}):
            runs = [
                build(open_corpus(folder / "mini12"), folder / "tokenizer", folder / f"store-{workers}-{n}", workers)
                for n in range(times)
            ]
            size, wall, _ = min(runs, key=lambda run: run[1])
            used = min(run[2] for run in runs)
            speed = size / wall / workers
            missed |= speed < LIMIT
            print(
                f"{workers} worker{'s'[: workers > 1]}: {size:.1f} MB in {wall:.2f} s, {speed:.1f} MB/s a core "
                f"(limit {LIMIT:g}); {size / used:.1f} MB a CPU second"
            )
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
