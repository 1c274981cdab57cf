"""Scores of an opened forecast, computed a second time from the sealed file and the records with other code.

Usage: .venv/bin/python benchmarks/forecast_scores.py STUDY [NAME]
Must hold: the same runs are scored, and no coverage, error, bias or width differs by more than 1e-9; exit status 1
where one does. It uses the standard library and NumPy alone.
"""

import hashlib
import json
import math
import sys
from pathlib import Path

import numpy as np

LIMIT = 1e-9
NAMES = ("answered", "coverage", "median_error", "mean_error", "bias", "width")
METRICS = {
    "bits_per_byte": lambda row: row["nats"] / math.log(2) / row["bytes"],
    "nats_per_token": lambda row: row["nats"] / row["tokens"],
}


def final_losses(folder: Path, run: dict, seal: str, metric: str) -> dict[str, float] | None:
    """Measured final loss by language of a run that was trained after the seal; None of any other."""
    try:
        record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
        timing = json.loads((folder / "timing.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    identity = json.dumps(record["identity"], sort_keys=True, separators=(",", ":")).encode()
    if hashlib.sha256(identity).hexdigest() != run["hash"] or seal not in timing.get("forecasts", {}).values():
        return None
    rows = [row for row in record["losses"] if row["lr_state"] == "decayed" and row["split"] == "validation"]
    return {row["language"]: METRICS[metric](row) for row in rows}


def recomputed(forecast: dict, losses: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Scores by law over all scored runs."""
    columns: dict[str, list[tuple[float, float, float, float]]] = {}
    for answer in forecast["answers"]:
        rows = columns.setdefault(answer["law"], [])
        for one in answer["predictions"]:
            if one["run"] in losses:
                low = math.nan if one["low"] is None else one["low"]
                high = math.inf if one["high"] is None else one["high"]
                rows.append((one["loss"], low, high, losses[one["run"]][answer["target"]]))
    found = {}
    for law, rows in columns.items():
        if not rows:
            found[law] = {"answered": 0.0}
            continue
        loss, low, high, measured = np.array(rows).T
        error = (loss - measured) / measured
        has, ends = ~np.isnan(low), ~np.isnan(low) & np.isfinite(high)
        found[law] = {
            "answered": float(len(rows)),
            "coverage": float(np.mean((low <= measured)[has] & (measured <= high)[has])) if has.any() else math.nan,
            "median_error": float(np.median(np.abs(error))),
            "mean_error": float(np.mean(np.abs(error))),
            "bias": float(np.mean(error)),
            "width": float(np.mean((high - low)[ends] / loss[ends])) if ends.any() else math.nan,
        }
    return found


def main() -> int:
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    study, name = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) == 3 else "forecast-1"
    sealed = (study / "forecasts" / f"{name}.json").read_bytes()
    forecast, seal = json.loads(sealed), hashlib.sha256(sealed).hexdigest()
    opened = json.loads((study / "forecasts" / f"{name}.opened.json").read_text(encoding="utf-8"))
    scored = {run["run"] for opening in opened["openings"] for run in opening["runs"]}
    losses = {}
    for run in forecast["runs"]:
        found = final_losses(study / "finished" / run["run"], run, seal, forecast["settings"]["metric"])
        if found is not None:
            losses[run["run"]] = found
    own = recomputed(forecast, losses)
    stored = {row["law"]: row for row in opened["openings"][-1]["scores_in_all"] if row["axis"] == "all"}
    print(f"{len(scored)} runs scored by babelscale, {len(losses)} here; stored value | recomputed value")
    print(f"{'law':<20}" + "".join(f"{column:>25}" for column in NAMES))
    largest = 0.0 if scored == set(losses) else math.inf
    for law, row in stored.items():
        cells = []
        for column in NAMES:
            theirs = math.nan if row[column] is None else float(row[column])
            ours = own[law].get(column, math.nan)
            cells.append(f"{theirs:>12.6g} |{ours:>11.6g}")
            if math.isnan(theirs) != math.isnan(ours):
                largest = math.inf
            elif not math.isnan(ours):
                largest = max(largest, abs(theirs - ours))
        print(f"{law:<20}" + "".join(cells))
    print(f"largest difference {largest:.3g} (limit {LIMIT:g})")
    return int(largest > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
