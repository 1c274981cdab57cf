"""Scores between 420 languages predicted from the printed 38 x 38, with intervals and all three checks, in one process.

Usage: .venv/bin/python benchmarks/transfer_speed.py     (limit: 10 s)
"""

import time

from babelscale import published
from babelscale.languages import table
from babelscale.transfer.prediction import predict

LIMIT = 10.0


def main() -> None:
    matrix = published.transfer_matrix()
    by_text = sorted(table().values(), key=lambda language: -(language.unique_tokens or 0))
    codes = [*matrix.languages, *(each.code for each in by_text if each.code not in matrix.languages)][:420]
    wall, cpu = time.perf_counter(), time.process_time()
    found = predict(matrix, codes)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    predicted = int((found.matrix.status == "predicted").sum())
    print(f"{len(codes)} languages, {predicted:,} scores predicted from {int((matrix.status == 'printed').sum()):,}")
    print(f"{wall:.2f} s, {cpu:.2f} s of CPU (limit {LIMIT:.0f} s): {'holds' if wall < LIMIT else 'FAILS'}")


if __name__ == "__main__":
    main()
