"""Commands for data that comes in and goes out: check, import and export-mixture."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from babelscale.cli.options import Json, dumps, one_line_descriptions, show
from babelscale.errors import InputError

if TYPE_CHECKING:
    from babelscale.importers import Mapping


@Parameter(name="*")
@dataclass
class Understanding:
    """What a source cannot say by itself.

    Parameters
    ----------
    mapping
        A mapping file that `import` wrote, edited or not. The options below come on top of it.
    column
        Which column holds a field: params="Model Size". Repeat it; loss.sw=NAME is the column of one language.
    constant
        A value that all runs share: params=30e6. Repeat it.
    language
        Code of the language of every row, where no column holds it.
    tokens_are
        Whether the column tokens counts the tokens of the row's language or those of the whole run.
    tokens_per_step
        Tokens in a step of training, where the source logs steps and no tokens.
    tokens_from_flops
        Compute tokens as flops / (6 params), where the source has no tokens.
    """

    mapping: Path | None = None
    column: Annotated[list[str], Parameter(negative_iterable="")] = field(default_factory=list)
    constant: Annotated[list[str], Parameter(negative_iterable="")] = field(default_factory=list)
    language: str | None = None
    tokens_are: Literal["language", "run"] | None = None
    tokens_per_step: float | None = None
    tokens_from_flops: Annotated[bool, Parameter(negative="")] = False


@one_line_descriptions
def check(path: Path, *, how: Understanding | None = None, json: Json = False) -> None:
    """Show what a table of runs holds, and what looks wrong in it.

    The exit code is 2 where something contradicts itself or cannot be read, otherwise 0.

    Examples:
        babelscale check runs.csv
        babelscale check export.csv --column params="Model Size" --json

    Parameters
    ----------
    path
        A folder of runs, the folder of a study, or one table (CSV in any dialect, Excel, JSON, Parquet, Feather).
    """
    from babelscale import importers

    found = importers.check(path, _mapping(how).options())
    show(found, json)
    if found.worst == "error":
        sys.exit(2)


@one_line_descriptions
def import_(
    source: Path, *, out: Path, kind: str | None = None, how: Understanding | None = None, json: Json = False
) -> None:
    """Import runs from what a tracker or trainer wrote, and write them as checked tables.

    The command shows which key of the source it took for what, and writes this as OUT/mapping.toml. Edit the file and
    give it back with --mapping where the guess is wrong.

    Examples:
        babelscale import wandb/ --out runs
        babelscale import mlflow.db --out runs --column tokens=tokens_seen
        babelscale import logs/ --out runs --tokens-per-step 524288 --mapping mapping.toml

    Parameters
    ----------
    source
        A folder or file: W&B (offline or online folders, .wandb files, CSV exports), TensorBoard event files,
        trainer_state.json of Hugging Face, folders or databases of MLflow, databases of Trackio, results of lm-eval,
        metrics of OLMo-core, JSON lines of Levanter or MaxText, logs of Megatron-LM or nanotron, olmix (ratios.csv and
        metrics.csv), a study, or any table.
    out
        Folder to write: runs, exposure and losses as Parquet, and mapping.toml.
    kind
        Kind of the source, where its files do not show it: wandb, wandb-export, huggingface, tensorboard, mlflow,
        database, lm-eval, olmo-core, json-lines, log, olmix, table or study.
    """
    from babelscale import importers

    mapping = _mapping(how)
    found = importers.import_runs(source, mapping if kind is None else mapping.model_copy(update={"kind": kind}))
    result = importers.check_runs(found.runs, str(out))
    found.runs.write(out)
    written = found.mapping.write(out / "mapping.toml")
    if json:
        sys.stdout.write(dumps({**result.to_dict(), "kind": found.kind, "mapping": found.mapping.model_dump()}) + "\n")
        return
    lines = [f"{source} ({found.kind}), understood as:"]
    lines += [f"  {ours} <- {theirs}" for ours, theirs in found.mapping.columns.items()]
    sys.stdout.write("\n".join([*lines, str(result), f"mapping: {written}"]) + "\n")


@one_line_descriptions
def export_mixture(
    plan: Path, *, trainer: Annotated[str, Parameter(name="--for")], out: Path | None = None, json: Json = False
) -> None:
    """Write the mixture of a plan in the syntax of a trainer: weights, tokens and epochs of each language.

    Paths in it begin with DATA. Put your own in their place.

    Examples:
        babelscale plan --languages sw,yo,ha --compute 1e21 --published --save plan.json
        babelscale export-mixture plan.json --for megatron
        babelscale export-mixture plan.json --for levanter --out mixture.yaml

    Parameters
    ----------
    plan
        A plan that `babelscale plan --save` wrote.
    trainer
        megatron, nanotron, levanter, olmo-core, olmix, torchtitan, huggingface or csv.
    out
        Write to this file instead of to standard output.
    """
    from babelscale import exporters, files
    from babelscale.formatting import json_ready
    from babelscale.planning import Plan

    made = Plan.load(plan)
    text = exporters.export_mixture(made, trainer)
    if out is not None:
        files.write_text(out, text)
    if json:
        entries = [{**vars(e), "epochs": e.epochs} for e in exporters.entries(made)]
        sys.stdout.write(dumps(json_ready({"for": trainer, "mixture": entries, "text": text})) + "\n")
    elif out is None:
        sys.stdout.write(text)


def _mapping(how: Understanding | None) -> "Mapping":
    from babelscale.importers.mapping import Mapping, load

    how = how or Understanding()
    base = load(how.mapping) if how.mapping is not None else Mapping()
    options = {
        "language": how.language,
        "tokens_are": how.tokens_are,
        "tokens_per_step": how.tokens_per_step,
        "tokens_from_flops": how.tokens_from_flops or None,
    }
    changed = {name: value for name, value in options.items() if value is not None}
    columns = base.columns | _pairs(how.column, "--column")
    constants = base.constants | _pairs(how.constant, "--constant")
    return base.model_copy(update={**changed, "columns": columns, "constants": constants})


def _pairs(pairs: list[str], option: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in pairs:
        name, sign, value = text.partition("=")
        if not sign or not name.strip() or not value.strip():
            raise InputError(f"{option} {text!r}", hint=f"write {option} field=value, such as {option} params=N")
        found[name.strip()] = value.strip()
    return found
