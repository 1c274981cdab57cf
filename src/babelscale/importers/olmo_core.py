"""What OLMo-core's callback saves: `metrics_step{N}.json` and `metrics.json`, an object of metrics each."""

import re
from pathlib import Path

from babelscale.importers.logged import LoggedRun, Scalar, flatten, json_object
from babelscale.tabular import Notice

_STEP = re.compile(r"metrics_step(\d{1,15})\.json")
_FINAL = "metrics.json"
_TOKENS = "throughput/total tokens"


def suits(path: Path) -> bool:
    return bool(_files(path))


def read(path: Path) -> tuple[list[LoggedRun], list[Notice]]:
    """A folder is a run. The step of `metrics.json` follows from its tokens, as the file does not hold it."""
    runs: dict[Path, LoggedRun] = {}
    notices: list[Notice] = []
    files = _files(path)
    root = path if path.is_dir() else path.parent
    for file in files:
        name = file.parent.relative_to(root).as_posix()
        run = runs.setdefault(file.parent, LoggedRun(file.parent.resolve().name if name == "." else name))
        metrics = flatten(json_object(file))
        if step := _STEP.fullmatch(file.name):
            run.log(int(step[1]), metrics)
        else:
            _final(run, metrics, file, notices)
    return list(runs.values()), notices


def _files(path: Path) -> list[Path]:
    """The files in the order of their steps, the final one of each folder last."""
    if path.is_file():
        return [path] if _STEP.fullmatch(path.name) or path.name == _FINAL else []
    found = [file for file in path.rglob("metrics*.json") if _STEP.fullmatch(file.name) or file.name == _FINAL]

    def order(file: Path) -> tuple[Path, float]:
        step = _STEP.fullmatch(file.name)
        return file.parent, int(step[1]) if step else float("inf")

    return sorted(found, key=order)


def _final(run: LoggedRun, metrics: dict[str, Scalar], file: Path, notices: list[Notice]) -> None:
    if not run.history:
        run.summary |= metrics
        return
    last = max(run.history)
    tokens, now = run.history[last].get(_TOKENS), metrics.get(_TOKENS)
    if isinstance(tokens, int | float) and isinstance(now, int | float) and tokens > 0 and now >= tokens:
        run.log(round(last * (now / tokens)), metrics)
    elif metrics != run.history[last]:
        text = f"{file}: holds no step and is not read beside the files metrics_step*.json"
        notices.append(Notice("warning", "no-step", text, f"capture {_TOKENS!r} too, or name {file} alone"))
