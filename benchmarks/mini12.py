"""The quickstart design on real text of 12 languages (../shared/corpora/mini12.tar.xz): do related pairs help more?

Usage: .venv/bin/python benchmarks/mini12.py [FOLDER]     (default studies/mini12)
Prints the run table's size, the losses, every transfer score, and related beside unrelated pairs.
"""

import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import polars as pl

import babelscale as bs

ROOT = Path(__file__).parents[1]
ARCHIVE = ROOT.parent / "shared" / "corpora" / "mini12.tar.xz"
RELATED = [("sv", "da"), ("id", "ms"), ("es", "fr")]


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "studies/mini12")
    if not ARCHIVE.exists():
        sys.exit(f"{ARCHIVE} is not there")
    with tempfile.TemporaryDirectory() as text:
        with tarfile.open(ARCHIVE) as archive:
            archive.extractall(text, filter="data")
        command = ["study", "run", "quickstart", "--corpus", f"{text}/mini12", "--out", str(folder)]
        subprocess.run([Path(sys.executable).parent / "babelscale", *command], check=True)
    runs = bs.Runs.read(folder)
    print(f"runs {len(runs)}, exposure rows {runs.exposure.height}, loss rows {runs.losses.height}")
    final = runs.losses.filter(lr_state="decayed").join(runs.table.select("run", "size", "tokens"), on="run")
    final = final.with_columns(
        bits_per_byte=pl.col("nats") / np.log(2) / pl.col("bytes"),
        below_unigram=(pl.col("nats") - pl.col("unigram_nats")) / pl.col("tokens"),
    )
    with pl.Config(tbl_rows=-1, tbl_hide_column_data_types=True, tbl_hide_dataframe_shape=True):
        best = final.group_by("language").agg(
            pl.len().alias("losses"),
            pl.min("bits_per_byte"),
            pl.max("bits_per_byte").alias("worst"),
            pl.min("below_unigram"),
        )
        print(best.sort("language"))
    matrix = bs.TransferMatrix.from_runs(runs)
    print(matrix)
    print("\nrelated pairs beside every other source of the same target")
    for pair in RELATED:
        for target, source in (pair, pair[::-1]):
            cells = [matrix.cell(target, code) for code in matrix.languages if code != target]
            # A censored score counts as its bound, which is what it can be at most.
            most = {cell.source: cell.value if np.isfinite(cell.value) else cell.high for cell in cells}
            rank = sorted(most, key=lambda code: -most[code]).index(source) + 1
            others = [value for code, value in most.items() if code != source]
            place = f"rank {rank} of {len(most)}, others at most {max(others):+.2f}, mean {np.mean(others):+.2f}"
            print(f"{source} -> {target}: {matrix.cell(target, source)}   {place}")


if __name__ == "__main__":
    main()
