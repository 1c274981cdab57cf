"""Swarms of proxy runs as olmix writes them: `ratios.csv` (mixtures), `metrics.csv` (losses), one row for each run."""

from pathlib import Path

from babelscale.errors import InputError
from babelscale.tabular import RawTable
from babelscale.tabular import read as read_cells

_KEYS = ("run", "run_id", "id", "name", "index")


def find(path: Path) -> tuple[Path, Path] | None:
    """The two files of a folder, or None; their names end in `ratios.csv` and `metrics.csv`."""
    if not path.is_dir():
        return None
    pairs = [
        (ratios, metrics)
        for ratios in sorted(path.glob("*ratios.csv"))
        if (metrics := ratios.with_name(ratios.name.replace("ratios.csv", "metrics.csv"))).exists()
    ]
    return pairs[0] if pairs else None


def read(ratios: Path, metrics: Path) -> RawTable:
    """The two tables side by side: share and loss of every domain.

    Raises:
        InputError: no column names the runs in both, or a run stands in one of them alone.
    """
    left, right = read_cells(ratios), read_cells(metrics)
    keys = [key for key in _KEYS if key in left.frame.columns and key in right.frame.columns]
    if not keys:
        raise InputError(f"{metrics}: no column names the runs", hint=f"give both files one of {', '.join(_KEYS)}")
    key = keys[0]
    for cells in (left, right):
        if cells.frame[key].is_duplicated().any():
            raise InputError(f"{cells.where}: a {key} stands twice", hint="keep one row for each run")
    alone = set(left.frame[key]) ^ set(right.frame[key])
    if alone:
        raise InputError(
            f"{metrics}: {key} {min(map(str, alone))!r} stands in one of the two files alone", hint="give it in both"
        )
    own = [name for name in left.frame.columns if name in _KEYS]
    shares = left.frame.rename({name: f"share_{name}" for name in left.frame.columns if name not in own})
    losses = right.frame.drop([name for name in own if name != key and name in right.frame.columns])
    losses = losses.rename({name: f"loss_{name}" for name in losses.columns if name != key})
    joined = shares.join(losses, on=key, how="inner", maintain_order="left").rename(
        {key: "run"} if key != "run" else {}
    )
    return RawTable(joined.drop([name for name in own if name != key]), left.rows, str(ratios))
