"""Prediction of transfer scores beside the study's kind of forest (300 trees), on the same scores and the same folds.

Usage: .venv/bin/python benchmarks/transfer_forest.py [STUDY] [--environment FOLDER]

On the study's printed matrix the forest reads what the table of languages tells of the target, the source and the pair.
On the runs of STUDY (benchmarks/bible.py makes such a one) it reads the four features of the ATLAS study, from
adaptation scores: g_s, g_t, g_s - g_t, FAS(s -> t). Both sides are asked for random fifths of the scores (how the study
scored its forest), for pairs, for targets and for languages left out. scikit-learn goes into an environment of its own.
"""

import argparse
import json
import subprocess
import tempfile
import venv
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

from babelscale import published
from babelscale.reporting.report.language_features import language_features
from babelscale.runs import Runs
from babelscale.transfer import Relations, TransferMatrix, from_gain, mixed
from babelscale.transfer.adaptation import adaptation
from babelscale.transfer.prediction import Features, observed, problem_of

FOREST = "scikit-learn==1.7.2"
PEER = """
import json, sys
import numpy as np
from sklearn.ensemble import RandomForestRegressor
data = json.load(open(sys.argv[1]))
X, y = np.array(data["X"]), np.array(data["y"])
found = {}
for name, folds in data["folds"].items():
    found[name] = []
    for rows in folds:
        kept = np.setdiff1d(np.arange(len(y)), rows)
        forest = RandomForestRegressor(n_estimators=300, random_state=0, n_jobs=2).fit(X[kept], y[kept])
        found[name].append(forest.predict(X[rows]).tolist())
json.dump(found, open(sys.argv[2], "w"))
"""


def environment(folder: Path) -> Path:
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", FOREST], check=True)
    return python


def folds_of(target: np.ndarray, source: np.ndarray) -> dict[str, list[np.ndarray]]:
    """Rows left out together."""
    rng = np.random.default_rng(0)
    fifth = rng.permutation(len(target)) % 5
    low, high = np.minimum(target, source), np.maximum(target, source)
    pair = low * 1000 + high
    return {
        "random fifth": [np.flatnonzero(fifth == k) for k in range(5)],
        # Both directions of a pair together; many pairs at a time, as every fold grows a forest.
        "pair": [np.flatnonzero(np.isin(pair, keys)) for keys in np.array_split(rng.permutation(np.unique(pair)), 20)],
        "target": [np.flatnonzero(target == t) for t in np.unique(target)],
        "language": [np.flatnonzero((target == k) | (source == k)) for k in np.unique([target, source])],
    }


def scored(truth: np.ndarray, predicted: np.ndarray) -> str:
    R2 = 1 - np.sum((truth - predicted) ** 2) / np.sum((truth - truth.mean()) ** 2)
    rank = np.corrcoef(rankdata(truth), rankdata(predicted))[0, 1]
    return f"R2 {R2:+.2f}, rank r {rank:+.2f}"


def compare(name: str, matrix: TransferMatrix, known: Relations, X: np.ndarray | None, python: Path) -> None:
    cells = observed(matrix, matrix.languages)
    kept = np.flatnonzero(np.isfinite(cells.y))
    features = Features.of(known.at(matrix.languages), cells.target, cells.source)
    ours = mixed.fit(problem_of(cells, features))
    t, s, bts = cells.target[kept], cells.source[kept], cells.bts[kept]
    if X is None:
        own = np.hstack([features.kin, features.traits])
        X = np.hstack([own[t], own[s], features.pairs[t * features.n + s]])
    else:
        X = X[t, s]
    folds = folds_of(t, s)
    with tempfile.TemporaryDirectory() as scratch:
        given, told, script = (Path(scratch) / part for part in ("in.json", "out.json", "peer.py"))
        script.write_text(PEER, encoding="utf-8")
        listed = {kind: [rows.tolist() for rows in parts] for kind, parts in folds.items()}
        given.write_text(json.dumps({"X": X.tolist(), "y": bts.tolist(), "folds": listed}), encoding="utf-8")
        subprocess.run([python, script, given, told], check=True)
        forest = json.loads(told.read_text(encoding="utf-8"))
    print(f"{name}: {len(kept)} scores, {X.shape[1]} features for the forest")
    for kind, parts in folds.items():
        mean = np.concatenate([from_gain(m) for m, _ in ours.leave_out([kept[rows] for rows in parts])])
        rows = np.concatenate(parts)
        theirs = np.concatenate([np.array(part) for part in forest[kind]])
        print(f"  {kind:<14} ours {scored(bts[rows], mean):<26} forest {scored(bts[rows], theirs)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("study", nargs="?", type=Path)
    parser.add_argument("--environment", type=Path, default=Path(tempfile.gettempdir()) / "babelscale-forest")
    options = parser.parse_args()
    python = environment(options.environment)
    printed = published.transfer_matrix()
    compare("printed 38 x 38", printed, Relations.of(printed.languages), None, python)
    if options.study is None:
        return
    runs = Runs.read(options.study)
    matrix = TransferMatrix.from_runs(runs)
    scores = adaptation(runs)
    at = [scores.languages.index(code) for code in matrix.languages]
    fas = scores.values[np.ix_(at, at)]
    own = np.diag(fas)
    n = len(own)
    source, target = np.broadcast_to(own, (n, n)), np.broadcast_to(own[:, None], (n, n))
    X = np.stack([source, target, source - target, fas], -1)
    compare(
        f"{options.study.name}, four features",
        matrix,
        language_features(options.study, matrix.languages, runs),
        X,
        python,
    )


if __name__ == "__main__":
    main()
