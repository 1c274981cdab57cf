"""What trainers print: logs of Megatron-LM and nanotron, and JSON lines of Levanter, OLMo-core and MaxText."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from babelscale.errors import InputError
from babelscale.importers.logged import LoggedRun, Scalar, flatten
from babelscale.tabular import Notice

_NUMBER = r"[-+]?(?:\d[\d,]*\.?\d*(?:[eE][-+]?\d+)?|nan|inf)"
_MEGATRON_STEP = re.compile(r"iteration\s+(\d+)/\s*\d+ \|(.*)")
_MEGATRON_EVAL = re.compile(r"(?:validation|test) loss at iteration (\d+)(?: on ([^|]*?))?\s*\|(.*)")
_MEGATRON_ARGUMENT = re.compile(r"^\s*([a-z][a-z0-9_]*) \.{3,} (\S.*?)\s*$")
_MEGATRON_PARAMS = re.compile(
    r"number of parameters on \(tensor, pipeline\) model parallel rank \((\d+), (\d+)\):\s*(\d+)"
)
_NANOTRON = re.compile(r"iteration: (\d+) / \d+ \|(.*)")
_SUFFIX = {"K": 1e3, "M": 1e6, "B": 1e9, "G": 1e9, "T": 1e12}
_FIELD = re.compile(rf"\s*([^|:]+?):\s*({_NUMBER})([KMBGT]?)\s*(?:\||$)")
_ARGUMENTS = ("seq_length", "global_batch_size", "num_layers", "hidden_size", "seed", "padded_vocab_size")
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


def looks_like_log(path: Path) -> bool:
    """Whether one of the first lines is of Megatron-LM or nanotron."""
    with path.open("rb") as file:
        text = file.read(2**20).decode("utf-8", "replace")
    return any(pattern.search(text) for pattern in (_MEGATRON_STEP, _MEGATRON_EVAL, _NANOTRON))


def read(path: Path) -> tuple[list[LoggedRun], list[Notice]]:
    """One log file is one run; of a folder every file that looks like a log."""
    files = [path] if path.is_file() else [file for file in sorted(path.rglob("*")) if _is_log(file)]
    runs, notices = [], []
    for file in files:
        run = LoggedRun(file.stem if path.is_file() else file.relative_to(path).with_suffix("").as_posix())
        parallel: dict[tuple[str, str], int] = {}
        for line in _lines(file):
            _line(run, line, parallel)
        if parallel:
            run.config.setdefault("params", sum(parallel.values()))
        _consumed(run, notices)
        runs.append(run)
    return runs, notices


def _is_log(file: Path) -> bool:
    return file.is_file() and file.suffix in (".log", ".txt", ".out", ".err", "") and looks_like_log(file)


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            yield _ANSI.sub("", line)


def _line(run: LoggedRun, line: str, parallel: dict[tuple[str, str], int]) -> None:
    if found := _MEGATRON_EVAL.search(line):
        prefix = f"eval/{found[2]}/" if found[2] and found[2] not in ("validation set", "test set") else "eval/"
        values = {f"{prefix}{name.removesuffix(' value')}": value for name, value in _values(found[3]).items()}
        run.log(int(found[1]), {name: value for name, value in values.items() if "PPL" not in name})
    elif found := (_MEGATRON_STEP.search(line) or _NANOTRON.search(line)):
        run.log(int(found[1]), _values(found[2]))
    elif found := _MEGATRON_PARAMS.search(line):
        parallel[(found[1], found[2])] = int(found[3])
    elif (found := _MEGATRON_ARGUMENT.match(line)) and found[1] in _ARGUMENTS:
        run.config[found[1]] = found[2]


def _values(text: str) -> dict[str, Scalar]:
    values: dict[str, Scalar] = {}
    for found in _FIELD.finditer(text):
        values[found[1].strip()] = float(found[2].replace(",", "")) * _SUFFIX.get(found[3], 1.0)
    return values


def _consumed(run: LoggedRun, notices: list[Notice]) -> None:
    """Tokens from samples of Megatron-LM and their length; nanotron prints tokens, rounded to three digits."""
    length = run.config.get("seq_length")
    rounded = False
    for metrics in run.history.values():
        samples = metrics.get("consumed samples")
        if isinstance(samples, float) and isinstance(length, str) and length.isdigit():
            metrics["tokens"] = samples * int(length)
        if (tokens := metrics.pop("consumed_tokens", None)) is not None:
            metrics["tokens"], rounded = tokens, True
    if rounded:
        notices.append(Notice("warning", "rounded", f"{run.name}: nanotron prints tokens with three digits"))


def read_json_lines(path: Path) -> tuple[list[LoggedRun], list[Notice]]:
    """Events of a tracker as JSON lines; a run is named by its field `run_name`, `run_id` or `run`, or by its file."""
    files = [path] if path.is_file() else sorted([*path.rglob("*.jsonl"), *path.rglob("*.ndjson")])
    runs: dict[str, LoggedRun] = {}
    notices: list[Notice] = []
    for file in files:
        name = file.stem if path.is_file() else file.relative_to(path).with_suffix("").as_posix()
        lines = file.read_text(encoding="utf-8", errors="replace").split("\n")
        for number, line in enumerate(lines, 1):
            start = line.find("{")
            if start < 0:
                continue
            try:
                event = json.loads(line[start:])
            except (ValueError, RecursionError):
                if number >= len(lines) - 1:
                    notices.append(Notice("warning", "truncated", f"{file}: the last line is cut short and left out"))
                    continue
                raise InputError(f"{file}: row {number} is not JSON", hint="remove or correct the row") from None
            if isinstance(event, dict):
                _event(runs, event, name)
    return list(runs.values()), notices


def _event(runs: dict[str, LoggedRun], event: dict[str, object], file: str) -> None:
    name = next((str(event[key]) for key in ("run_name", "run_id", "run") if event.get(key)), file)
    run = runs.setdefault(name, LoggedRun(name))
    kind = event.get("event")
    if kind == "hparams" and isinstance(event.get("hparams"), dict):
        run.config |= flatten(event["hparams"])  # pyright: ignore[reportArgumentType]
        return
    metrics = event.get("metrics") if isinstance(event.get("metrics"), dict) else event
    flat = {key: value for key, value in flatten(metrics).items() if key not in ("step", "run_name", "run_id", "run")}  # pyright: ignore[reportArgumentType]
    step = event.get("step")
    if isinstance(step, int | float) and not isinstance(step, bool) and step == step // 1:
        run.log(int(step), flat)
    elif kind in ("summary", "finish", "log") or step is None:
        run.summary |= flat
