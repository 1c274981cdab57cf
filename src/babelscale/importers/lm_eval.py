"""Results of lm-eval (lm-evaluation-harness): `results_*.json`, one file for each evaluation of a model.

Losses are bits per byte, one for each task whose name holds a language; `byte_perplexity` is 2 to that power. The files
hold neither tokens nor mixtures.
"""

import math
import re
from pathlib import Path
from typing import Any

from babelscale import languages
from babelscale.errors import InputError
from babelscale.importers.logged import LoggedRun, json_object, number
from babelscale.tabular import Notice

PATTERN = "results*.json"
_FLORES = re.compile(r"(?<![A-Za-z])[a-z]{2,3}_[A-Z][a-z]{3}(?![A-Za-z])")
_CHECKPOINT = re.compile(r"[/_-]*(?:checkpoint|global_step|step|iter)[-_]?(\d+)(?:[-_][^/]*)?/*$")
_REVISION = re.compile(r"(?:^|,)revision=([^,]+)")


def suits(path: Path) -> bool:
    """Whether a file, or the first results file of a folder, is of lm-eval."""
    file = next(iter(sorted(path.rglob(PATTERN))), None) if path.is_dir() else path
    if file is None or file.suffix != ".json":
        return False
    with file.open("rb") as opened:
        begins = opened.read(2**16)
    return b'"results"' in begins and (b",none" in begins or b'"alias"' in begins or b'"versions"' in begins)


def read(path: Path) -> tuple[list[LoggedRun], list[Notice]]:
    """A run is a model; files of its checkpoints (`checkpoint-300`, `revision=step300`) are its steps.

    Raises:
        InputError: a file is no JSON object, or no task has bits per byte.
    """
    files = [path] if path.is_file() else sorted(path.rglob(PATTERN))
    found = sorted(((file, json_object(file)) for file in files), key=lambda pair: (_date(pair[1]), pair[0]))
    runs: dict[str, LoggedRun] = {}
    notices: list[Notice] = []
    named: set[str] = set()
    for file, content in found:
        if not isinstance(content.get("results"), dict):
            raise InputError(f"{file}: holds no results", hint="name a file results_*.json that lm-eval wrote")
        name, step = _model(content, file)
        run = runs.setdefault(name, LoggedRun(name))
        params = _config(content).get("model_num_parameters")
        if isinstance(params, int) and params > 0:
            run.config["params"] = params
        losses = _losses(content, file, named, notices)
        if step is None:
            run.summary |= losses
        else:
            run.log(step, losses)
    if not any(run.summary or any(run.history.values()) for run in runs.values()):
        raise InputError(
            f"{path}: no task has bits_per_byte or byte_perplexity",
            hint="evaluate with tasks of output_type loglikelihood_rolling",
        )
    return list(runs.values()), notices


def _losses(content: dict[str, Any], file: Path, named: set[str], notices: list[Notice]) -> dict[str, Any]:
    losses: dict[str, Any] = {}
    task_of: dict[str, str] = {}
    parents = content.get("group_subtasks")
    groups = {name for name, tasks in parents.items() if tasks} if isinstance(parents, dict) else set()
    for task, metrics in content["results"].items():
        if task in groups or not isinstance(metrics, dict):
            continue
        loss = _bits_per_byte(metrics)
        if loss is None:
            if any(str(key).partition(",")[0] == "word_perplexity" for key in metrics) and task not in named:
                text = f"{file}: task {task!r} has perplexities by word alone and is not read"
                notices.append(Notice("warning", "word-perplexity", text, "words of different texts do not compare"))
                named.add(task)
            continue
        code = _language(task)
        if code in task_of:
            raise InputError(
                f"{file}: tasks {task_of[code]!r} and {task!r} are both of {code}", hint="evaluate one task a language"
            )
        if code:
            task_of[code] = task
        losses[f"bpb/{code}" if code else f"{task}/bits_per_byte"] = loss
        if task not in named:
            what = f"the losses on {code}" if code else "nothing, as its name holds no language"
            hint = "" if code else f"--column bits_per_byte.CODE={task}/bits_per_byte says which it is"
            notices.append(Notice("notice", "alias", f"{file}: task {task!r} is read as {what}", hint))
            named.add(task)
    return losses


def _bits_per_byte(metrics: dict[str, Any]) -> float | None:
    values = {str(key).partition(",")[0]: number(value) for key, value in metrics.items()}
    if (bits := values.get("bits_per_byte")) is not None:
        return bits
    perplexity = values.get("byte_perplexity")
    return math.log2(perplexity) if perplexity is not None and perplexity > 0 else None


def _language(task: str) -> str:
    """The code in the name of a task: `swh_Latn` anywhere, or the last of its words that is a code; "" without one."""
    if found := _FLORES.search(task):
        return found[0]
    known = languages.table()
    return next((word for word in reversed(re.split(r"[^A-Za-z0-9-]+", task)) if word in known), "")


def _model(content: dict[str, Any], file: Path) -> tuple[str, int | None]:
    """Name of the model without its checkpoint and the folders above it, and the step. OWNER/NAME of a hub stays."""
    arguments = _config(content).get("model_args")
    if isinstance(arguments, str):
        revision = found[1] if (found := _REVISION.search(arguments)) else ""
    else:
        revision = str(arguments.get("revision", "")) if isinstance(arguments, dict) else ""
    name = str(content.get("model_name") or file.parent.name).rstrip("/")
    at = _CHECKPOINT.search(name)
    step = re.search(r"step[-_]?(\d{1,15})", revision)
    if step is None and at is not None and at.start() > 0 and len(at[1]) < 16:
        return name[: at.start()].rpartition("/")[2], int(at[1])
    local = name.startswith((".", "/")) or name.count("/") > 1
    return name.rpartition("/")[2] if local else name, int(step[1]) if step else None


def _config(content: dict[str, Any]) -> dict[str, Any]:
    config = content.get("config")
    return config if isinstance(config, dict) else {}


def _date(content: dict[str, Any]) -> float:
    return number(content.get("date")) or 0.0
