"""From the cells of one flat table to the three tables of `Runs`.

A row is one language of one run (long), or one run with a column for each language (wide), at its end or at a step.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import polars as pl

from babelscale.errors import InputError
from babelscale.languages import UNDETERMINED
from babelscale.tabular.cells import Notice, RawTable
from babelscale.tabular.codes import members_beside_macro, translate
from babelscale.tabular.columns import FIELDS, WIDE_FIELDS, Columns, resolve
from babelscale.tabular.numbers import numbers

TokensAre = Literal["language", "run"]
_OF_A_RUN = ("params", "params_non_embedding", "flops", "flops_6nd", "seed", "start", "base", "size", "mixture",
             "tokenizer", "corpus")  # fmt: skip
_REQUIRED = ("params", "tokens", "loss")
_POSITIVE = ("params", "params_non_embedding", "flops", "flops_6nd", "loss", "bits_per_byte", "bytes_per_token", "nats",
             "eval_tokens", "bytes", "unigram_nats")  # fmt: skip
_NAMED = 12  # columns that a hint names
_VALIDATION = ("val", "valid", "dev", "eval")
_UNFINISHED = ("crashed", "failed", "killed", "running", "preempted")
# Operations per parameter and token, by which `flops` and tokens are compared: a factor of this is no rounding.
_SIX, _FAR = 6.0, 1.3


@dataclass(frozen=True)
class Tables:
    """The three tables of `Runs`, not yet checked against their schema, how columns were understood, and notices."""

    runs: pl.DataFrame
    exposure: pl.DataFrame
    losses: pl.DataFrame
    columns: Columns
    notices: tuple[Notice, ...]


@dataclass(frozen=True)
class Options:
    """What a table cannot say by itself.

    Attributes:
        mapping: ours -> theirs, such as {"params": "Model Size"}.
        tokens_are: whether `tokens` counts the tokens of the row's language or of the whole run.
        language: code of every row, where no column holds it.
        tokens_from_flops: D = C / (6 N), where no column holds tokens.
        constants: values of fields that are the same in all rows, such as {"params": 30e6}.
        tokens_per_step: tokens of the run are steps times this, where no column holds tokens.
        shares: run -> language -> share of its tokens, where no column holds the mixture.
        runs: run -> field -> value, such as {"small": {"tokens": 3e9}}, where no column holds the field.
    """

    mapping: Mapping[str, str] | None = None
    tokens_are: TokensAre | None = None
    language: str | None = None
    tokens_from_flops: bool = False
    constants: Mapping[str, str | float] | None = None
    tokens_per_step: float | None = None
    shares: Mapping[str, Mapping[str, float]] | None = None
    runs: Mapping[str, Mapping[str, str | float]] | None = None


def to_tables(cells: RawTable, options: Options | None = None) -> Tables:
    """The three tables of one flat table.

    Raises:
        InputError: naming the file, the row and the field, and what to do.
    """
    if not cells.frame.height:
        raise InputError(f"{cells.where}: no rows", hint="a run table has one row for each run")
    options = options or Options()
    cells = _with_constants(cells, options)
    columns = resolve(cells, options.mapping)
    _check_required(cells, columns, options)
    if options.shares:
        cells, columns = _with_shares(cells, columns, options.shares)
    flat = _long(cells, columns)
    if options.language is not None:
        if columns.has("language") or columns.wide:
            raise InputError(f"{cells.where}: the table has languages of its own", hint="leave `language` out")
        flat = flat.with_columns(language=pl.lit(options.language))
    flat = _with_codes(cells, flat)
    flat = _with_runs(cells, flat)
    flat = _without_unfinished(cells, flat)
    flat = _with_tokens(cells, flat, columns, options)
    flat = _with_states(cells, flat)
    _check_repeated(cells, flat)
    _check_units(cells, flat)
    return _split(cells, flat, columns)


# ------------------------------------------------------------------------------------------------- cells to long rows


def _with_constants(cells: RawTable, options: Options) -> RawTable:
    """The options' constants as columns of text, and tokens from steps."""
    constants = options.constants or {}
    for name in constants:
        if name not in FIELDS:
            raise InputError(f"no field is called {name!r}", hint=f"fields are {', '.join(FIELDS)}")
        if name in cells.frame.columns:
            raise InputError(f"{cells.where}: the table has a column {name!r}", hint="leave the constant out")
    frame = cells.frame.with_columns(pl.lit(str(value)).alias(name) for name, value in constants.items())
    return _with_values_of_runs(replace(cells, frame=frame), options)


def _with_values_of_runs(cells: RawTable, options: Options) -> RawTable:
    """The options' values by run as columns of text."""
    if not options.runs:
        return cells
    run = (options.mapping or {}).get("run", "run")
    if run not in cells.frame.columns:
        raise InputError(f"{cells.where}: values by run need a column run", hint="say which one it is: --column run=")
    frame, names = cells.frame, cells.frame[run].cast(pl.String)
    for field in dict.fromkeys(name for values in options.runs.values() for name in values):
        if field not in FIELDS or field in frame.columns:
            what = "the table has" if field in frame.columns else "no field is called"
            raise InputError(f"{cells.where}: {what} {field!r}", hint="leave it out of the values by run")
        found = [options.runs.get(name, {}).get(field) for name in names]
        missing = [name for name, value in zip(names, found, strict=True) if value is None and name is not None]
        if missing:
            raise InputError(f"{cells.where}: no {field} of run {missing[0]!r}", hint="give it for every run")
        frame = frame.with_columns(pl.Series(field, [None if v is None else str(v) for v in found], pl.String))
    return replace(cells, frame=frame)


def _some(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    return f"{', '.join(names[:_NAMED])} and {len(names) - _NAMED} more" if len(names) > _NAMED else ", ".join(names)


def _with_shares(
    cells: RawTable, columns: Columns, shares: Mapping[str, Mapping[str, float]]
) -> tuple[RawTable, Columns]:
    """The mixtures of runs, as columns by language."""
    if columns.has("share") or "run" not in columns.single:
        raise InputError(f"{cells.where}: shares by run need a column run and no column of shares", hint="correct one")
    names = cells.frame[columns.single["run"]].cast(pl.String)
    missing = sorted(set(names.drop_nulls()) - set(shares))
    if missing:
        raise InputError(f"{cells.where}: no shares of run {missing[0]!r}", hint="give the mixture of every run")
    codes = list(dict.fromkeys(code for mixture in shares.values() for code in mixture))
    added = [pl.Series(f"share of {code}", [shares.get(name, {}).get(code, 0.0) for name in names]) for code in codes]
    wide = {**columns.wide, "share": {code: f"share of {code}" for code in codes}}
    return replace(cells, frame=cells.frame.with_columns(added)), replace(columns, wide=wide)


def _check_required(cells: RawTable, columns: Columns, options: Options) -> None:
    present = {
        "params": columns.has("params"),
        "tokens": columns.has("tokens")
        or columns.has("total_tokens")
        or options.tokens_from_flops
        or options.tokens_per_step is not None,
        "loss": any(columns.has(name) for name in ("loss", "bits_per_byte", "nats")),
    }
    missing = [name for name in _REQUIRED if not present[name]]
    if not missing:
        return
    names = cells.frame.columns
    if any(" - " in name and name.endswith("__MIN") for name in names):
        raise InputError(
            f"{cells.where}: is a W&B chart export, one curve for each run, and holds no {' and no '.join(missing)}",
            hint="export the table of runs with params, tokens, mixture and losses instead: one row for each run",
        )
    command = f"babelscale import {cells.where} --out runs --column {missing[0]}=THEIR_NAME"
    hint = f"say which column holds it: {command}; the table has {_some(names)}"
    if missing == ["tokens"] and columns.has("flops"):
        hint = f"compute them from flops with `import --tokens-from-flops`, or {hint}"
    raise InputError(
        f"{cells.where}: missing {'columns' if len(missing) > 1 else 'column'} {', '.join(missing)}", hint=hint
    )


def _long(cells: RawTable, columns: Columns) -> pl.DataFrame:
    """One row a language of a run; `_index` is the row of `cells`."""
    single = {name: _values(cells, theirs, FIELDS[name][0]).alias(name) for name, theirs in columns.single.items()}
    single |= {name: _values(cells, theirs, "number").alias(name) for name, theirs in columns.covariates.items()}
    base = pl.DataFrame(list(single.values())).with_columns(_index=pl.int_range(cells.frame.height, dtype=pl.Int64))
    if not columns.wide:
        return base
    if columns.has("language") and "language" in columns.single:
        raise InputError(
            f"{cells.where}: has a language column and columns by language ({', '.join(columns.wide)})",
            hint="keep one row for each run, or one row for each run and language",
        )
    written = list(dict.fromkeys(code for by_code in columns.wide.values() for code in by_code))
    parts = []
    for code in written:
        columns_of_code = [
            _values(cells, columns.wide[name][code], FIELDS[name][0]).alias(_wide_name(name, columns))
            for name in WIDE_FIELDS
            if code in columns.wide.get(name, {})
        ]
        parts.append(base.with_columns(*columns_of_code, language=pl.lit(code)))
    flat = pl.concat(parts, how="diagonal")
    used = [
        pl.col(name) > 0 if name in ("share", "tokens_of_language") else pl.col(name).is_not_null()
        for name in ("loss", "bits_per_byte", "share", "tokens_of_language")
        if name in flat.columns and (name in columns.wide or name == "tokens_of_language")
    ]
    return flat.filter(pl.any_horizontal(*used)).sort("_index", maintain_order=True)


def _wide_name(name: str, columns: Columns) -> str:
    # `tokens` beside `tokens_sw` is the run's total.
    return "tokens_of_language" if name == "tokens" and "tokens" in columns.single else name


def _values(cells: RawTable, name: str, kind: str) -> pl.Series:
    series = cells.frame[name]
    if kind in ("text", "code"):
        if series.dtype.is_nested() or series.dtype in (pl.Binary, pl.Object):
            raise InputError(f"{cells.where}: column {name} holds {series.dtype} values", hint="write it as text")
        if kind == "code" and series.dtype == pl.Boolean:
            raise InputError(f"{cells.where}: column {name} holds true and false", hint=_YAML)
        if series.dtype.is_float():
            whole = series.drop_nulls()
            if (whole == whole.round()).all():
                series = series.cast(pl.Int64, strict=False)
        return series.cast(pl.String).str.strip_chars().replace("", None)
    values = numbers(cells, name, counts=kind == "count")
    if kind == "integer":
        broken = (values != values.round()).fill_null(False).arg_max()
        if broken is not None and values[broken] is not None and values[broken] != round(values[broken]):
            raise InputError(
                f"{cells.at(broken)}, {name}: {values[broken]} is not a whole number", hint="correct the row"
            )
        return values.cast(pl.Int64)
    return values


_YAML = "YAML reads the code no (Norwegian) as false; write it in quotation marks"


def _with_codes(cells: RawTable, flat: pl.DataFrame) -> pl.DataFrame:
    if "language" not in flat.columns:
        return flat.with_columns(language=pl.lit(UNDETERMINED))
    empty = flat["language"].is_null().arg_max()
    if empty is not None and flat["language"][empty] is None:
        raise InputError(
            f"{_at(cells, flat, empty)}, language is empty",
            hint="some tools read the codes nan (Min Nan) and NA as missing values; write the code, or und",
        )
    changed: dict[str, str] = {}
    translated: dict[str, list[str]] = {}
    for written in flat["language"].unique(maintain_order=True):
        row = _at(cells, flat, flat["language"].index_of(written) or 0)
        if written.lower() in ("true", "false"):
            raise InputError(f"{row}, language {written!r} is not a language code", hint=_YAML)
        translation = translate(written)
        if translation.code is None:
            raise InputError(
                f"{row}, language {written!r} is not a language code",
                hint="codes are BCP-47, such as sw or fil; data that is no language takes x-NAME",
            )
        changed[written] = translation.code
        if translation.why:
            translated.setdefault(translation.why, []).append(f"{written} = {translation.code}")
    for why, pairs in translated.items():
        cells.notice("notice", "code", f"codes are translated ({why}): {', '.join(pairs)}")
    for macro, member in members_beside_macro(changed.values()):
        cells.notice(
            "warning",
            "macro-language",
            f"{member} is a part of the macro-language {macro}, and both are languages here",
        )
    return flat.with_columns(pl.col("language").replace_strict(changed))


def _at(cells: RawTable, flat: pl.DataFrame, row: int) -> str:
    return cells.at(flat["_index"][row])


# ---------------------------------------------------------------------------------------------------- runs and steps


def _with_runs(cells: RawTable, flat: pl.DataFrame) -> pl.DataFrame:
    if "run" in flat.columns:
        empty = flat["run"].is_null().arg_max()
        if empty is not None and flat["run"][empty] is None:
            raise InputError(f"{_at(cells, flat, empty)}, run is empty", hint="name the run, or remove the column")
        if "step" not in flat.columns:
            _check_one_row(cells, flat)
        return flat
    if "step" in flat.columns and flat["step"].n_unique() > 1 and _grows(flat):
        raise InputError(
            f"{cells.where}: has steps and no `run`", hint="a column `run` says which rows are steps of one run"
        )
    loss = next(name for name in ("loss", "bits_per_byte", "nats") if name in flat.columns)
    empty = flat[loss].is_null().arg_max()
    alike = flat.drop("_index").is_duplicated().sum()
    if alike:
        cells.notice(
            "notice", "alike", f"{alike} rows are alike; each counts as a run", "a column run or seed tells them apart"
        )
    if empty is not None and flat[loss][empty] is None and flat["_index"].n_unique() == flat.height:
        raise InputError(f"{_at(cells, flat, empty)}, {loss} is empty", hint="remove the row: nothing was measured")
    rows = pl.Series("run", [f"r{cells.rows[index]:06d}" for index in flat["_index"]])
    return flat.with_columns(rows)


def _grows(flat: pl.DataFrame) -> bool:
    """Whether tokens follow steps, as they do along one run."""
    if "tokens" not in flat.columns:
        return False
    pairs = flat.select("step", "tokens").drop_nulls()
    return (
        pairs.height > 2
        and pairs.n_unique() > 2
        and bool((pairs.sort("step")["tokens"].diff().drop_nulls() >= 0).all())
    )


def _check_one_row(cells: RawTable, flat: pl.DataFrame) -> None:
    keys = ["run", "language", *(name for name in ("split", "lr_state", "seed") if name in flat.columns)]
    several = flat.filter(pl.struct(keys).is_duplicated())
    if several.height and "tokens" in several.columns:
        first = several.filter(run=several["run"][0], language=several["language"][0])
        if first["tokens"].n_unique() > 1:
            raise InputError(
                f"{_at(cells, first, 1)}: run {first['run'][0]!r} has several rows of {first['language'][0]!r}",
                hint="a column `step` makes them steps of one run",
            )


def _without_unfinished(cells: RawTable, flat: pl.DataFrame) -> pl.DataFrame:
    """Runs that crashed count as far as they came: their losses are not under a decayed learning rate."""
    if "state" not in flat.columns:
        return flat
    flat = flat.with_columns(unfinished=pl.col("state").fill_null("finished").str.to_lowercase().is_in(_UNFINISHED))
    loss = next(name for name in ("loss", "bits_per_byte", "nats") if name in flat.columns)
    unfinished = flat.filter("unfinished")
    if unfinished.height:
        lost = unfinished.filter(pl.col(loss).is_null())["run"].n_unique()
        names = ", ".join(unfinished["run"].unique(maintain_order=True)[:5])
        text = f"{unfinished['run'].n_unique()} runs did not finish ({names}); their losses count as stable"
        cells.notice("warning", "unfinished", f"{text}, and {lost} of them have none" if lost else text)
    return flat.filter(~pl.col("unfinished") | pl.col(loss).is_not_null())


# ------------------------------------------------------------------------------------------------------------- tokens


def _with_tokens(cells: RawTable, flat: pl.DataFrame, columns: Columns, options: Options) -> pl.DataFrame:
    """`tokens` of the row's language, from shares, from the run's total, from operations or from steps."""
    flat = _computed(cells, flat, columns, options)
    if "tokens_of_language" in flat.columns:
        flat = flat.rename({"tokens": "total_tokens", "tokens_of_language": "tokens"})
        return flat.with_columns(pl.col("tokens").fill_null(0.0))
    if "share" in flat.columns:
        return _from_shares(cells, flat, columns)
    if len(columns.wide.get("loss", {})) > 1 and "tokens" not in columns.wide and options.tokens_are != "language":
        raise InputError(
            f"{cells.where}: has losses by language and tokens of the run, and nothing says how many of each language",
            hint="add columns share_LANGUAGE or tokens_LANGUAGE",
        )
    if "total_tokens" in flat.columns and "tokens" not in flat.columns:
        if (flat.group_by("run", *_steps(flat)).len()["len"] > 1).any():
            raise InputError(
                f"{cells.where}: has total_tokens and no share of each language", hint="add a column share"
            )
        return flat.rename({"total_tokens": "tokens"})
    if options.tokens_are == "run" and (flat.group_by("run", *_steps(flat)).len()["len"] > 1).any():
        raise InputError(
            f"{cells.where}: tokens are those of the whole run, and nothing says which language got how many",
            hint="add a column share, or tokens of the language",
        )
    _check_totals(cells, flat, options)
    return flat


def _computed(cells: RawTable, flat: pl.DataFrame, columns: Columns, options: Options) -> pl.DataFrame:
    """Tokens from operations or from steps, where the options say so; they are those of the whole run."""
    if options.tokens_per_step is None and not options.tokens_from_flops:
        return flat
    name, needed = ("tokens_from_flops", "flops") if options.tokens_from_flops else ("tokens_per_step", "step")
    if columns.has("tokens") or columns.has("total_tokens"):
        raise InputError(f"{cells.where}: the table has tokens already", hint=f"leave {name} out")
    if not columns.has(needed):
        raise InputError(f"{cells.where}: {name} needs {needed}", hint="say which column holds it")
    if (bad := flat.filter(pl.col(needed).is_null() | (pl.col(needed) <= 0))).height and options.tokens_from_flops:
        what = "empty" if bad[needed][0] is None else f"not positive ({bad[needed][0]})"
        raise InputError(f"{_at(cells, bad, 0)}, {columns.single[needed]} is {what}", hint="correct or remove the row")
    per_step = options.tokens_per_step or 0.0
    tokens = pl.col("flops") / (_SIX * pl.col("params")) if options.tokens_from_flops else pl.col("step") * per_step
    return flat.with_columns(tokens.alias("total_tokens" if "share" in flat.columns else "tokens"))


def _steps(flat: pl.DataFrame) -> list[str]:
    return ["step"] if "step" in flat.columns else []


def _from_shares(cells: RawTable, flat: pl.DataFrame, columns: Columns) -> pl.DataFrame:
    total = "total_tokens" if "total_tokens" in flat.columns else "tokens"
    if total == "tokens" and "tokens" in columns.single and not columns.wide:
        # A long table with `tokens` and `share`: the shares say which of the two meanings `tokens` has.
        sums = flat.group_by("run", *_steps(flat)).agg(pl.sum("tokens").alias("sum"), pl.col("tokens", "share"))
        of_language = sums.explode("tokens", "share").filter(
            (pl.col("tokens") / pl.col("sum") - pl.col("share")).abs() > 1e-3
        )
        if not of_language.height:
            return flat
    keys = ["run", *_steps(flat), *(name for name in ("split", "lr_state") if name in flat.columns)]
    sums = flat.group_by(keys, maintain_order=True).agg(pl.sum("share").alias("sum"), pl.first("_index"))
    off = sums.filter((pl.col("sum") - 1).abs() > 0.02)
    scale = 1.0
    if off.height == sums.height and ((off["sum"] - 100).abs() < 2).all():
        cells.notice("notice", "percent", "shares add up to 100 and are read as percentages")
        scale = 100.0
    elif off.height:
        row = off.row(0, named=True)
        raise InputError(
            f"{cells.at(row['_index'])}: the shares of run {row['run']!r} add up to {row['sum']:.4g}",
            hint="the shares of one run add up to 1 over the languages that it was trained on",
        )
    share = pl.col("share").fill_null(0.0) / scale
    flat = flat.with_columns(tokens=pl.col(total) * share)
    return flat if total == "tokens" else flat.drop(total)


def _check_totals(cells: RawTable, flat: pl.DataFrame, options: Options) -> None:
    """Refuse a table whose `tokens` are those of the run in every row of a language."""
    if options.tokens_are == "language" or "run" not in flat.columns:
        return
    keys = ["run", *_steps(flat)]
    extra = [name for name in ("flops", "params") if name in flat.columns]
    trained = flat.filter(pl.col("tokens") > 0).unique([*keys, "language"], maintain_order=True)
    runs = trained.group_by(keys, maintain_order=True).agg(
        pl.len().alias("languages"), pl.sum("tokens").alias("sum"), pl.first("tokens"),
        (pl.col("tokens").n_unique() == 1).alias("equal"), pl.first("_index"), *(pl.first(name) for name in extra),
    )  # fmt: skip
    several = runs.filter(pl.col("languages") > 1)
    equal = several.filter("equal")
    if not equal.height or equal.height < several.height:
        return
    row = equal.row(0, named=True)
    why = ""
    if "flops" in extra:
        ratio = equal.filter(pl.col("flops") > 0).select(
            rows=pl.col("flops") / (_SIX * pl.col("params") * pl.col("tokens")),
            sums=pl.col("flops") / (_SIX * pl.col("params") * pl.col("sum")),
        )
        if ratio.height and _about_one(ratio["rows"]) and not _about_one(ratio["sums"]):
            why = f"flops are 6 N times {row['tokens']:.4g} tokens, not {row['sum']:.4g}"
        elif ratio.height and _about_one(ratio["sums"]):
            return
    if not why:
        # Runs of one language with as many tokens as these have in all: one budget, shared out equally.
        alone = set(runs.filter(pl.col("languages") == 1)["tokens"])
        if alone and set(equal["sum"]) <= alone:
            return
    text = f"in every run of several languages the rows have equal tokens (run {row['run']!r}: {row['tokens']:.4g})"
    if why:
        raise InputError(
            f"{cells.at(row['_index'])}: {text}; {why}, so `tokens` look like those of the whole run",
            hint="give each row the tokens of its language (or a column share), or say `import --tokens-are language`",
        )
    cells.notice(
        "warning", "equal-tokens", f"{text}", "`tokens` are the tokens of the row's language; if they are those of the "
        "whole run, add a column share"
    )  # fmt: skip


def _about_one(ratio: pl.Series) -> bool:
    middle = float(np.median(ratio.to_numpy()))
    return 1 / _FAR < middle < _FAR


# ---------------------------------------- states, units, tables


def _with_states(cells: RawTable, flat: pl.DataFrame) -> pl.DataFrame:
    stepped = "step" in flat.columns
    if not stepped:
        flat = flat.with_columns(step=pl.lit(0, pl.Int64))
    elif flat["step"].null_count():
        raise InputError(
            f"{_at(cells, flat, flat['step'].is_null().arg_max() or 0)}, step is empty", hint="give the step"
        )
    if "split" in flat.columns:
        flat = _filled(cells, flat, "split", "validation").with_columns(pl.col("split").str.to_lowercase())
        flat = flat.with_columns(pl.col("split").replace(dict.fromkeys(_VALIDATION, "validation")))
    else:
        flat = flat.with_columns(split=pl.lit("validation"))
    if "lr_state" in flat.columns:
        return _filled(cells, flat, "lr_state", "decayed")
    last = pl.col("step") == pl.col("step").max().over("run")
    if "unfinished" in flat.columns:
        last &= ~pl.col("unfinished")
    flat = flat.with_columns(lr_state=pl.when(last).then(pl.lit("decayed")).otherwise(pl.lit("stable")))
    earlier = flat.filter(pl.col("step") < pl.col("step").max().over("run")).height
    if earlier:
        cells.notice(
            "warning", "lr-state", f"nothing says whether the learning rate had decayed at {earlier} losses before the "
            "last step of their run; they count as stable, the last ones as decayed", "a column lr_state says it"
        )  # fmt: skip
    return flat


def _filled(cells: RawTable, flat: pl.DataFrame, name: str, value: str) -> pl.DataFrame:
    """The column with `value` in its empty cells; a notice says so."""
    empty = flat[name].null_count()
    if empty:
        cells.notice("warning", "filled", f"{name} is empty in {empty} rows, which count as {value}", f"fill {name} in")
    return flat.with_columns(pl.col(name).fill_null(value))


def _check_repeated(cells: RawTable, flat: pl.DataFrame) -> None:
    alike = flat.filter(pl.struct(pl.exclude("_index")).is_duplicated())
    if alike.height:
        first = alike.row(0, named=True)
        same = alike.filter(pl.all_horizontal(pl.col(c).eq_missing(first[c]) for c in flat.columns if c != "_index"))
        raise InputError(
            f"{_at(cells, same, 1)} repeats row {cells.rows[same['_index'][0]]}", hint="remove one of them"
        )


def _check_units(cells: RawTable, flat: pl.DataFrame) -> None:
    for name, check, what in (
        *((name, pl.col(name).is_null(), "empty") for name in ("params", "tokens")),
        *((name, pl.col(name) <= 0, "not positive") for name in _POSITIVE),
        ("unique_tokens", (pl.col("unique_tokens") <= 0) & (pl.col("tokens") > 0), "not positive"),
        ("tokens", pl.col("tokens") < 0, "negative"),
    ):
        if name in flat.columns and (bad := flat.filter(check)).height:
            raise InputError(
                f"{_at(cells, bad, 0)}, {name} is {what} ({bad[name][0]})", hint="correct or remove the row"
            )
    small = flat.filter(pl.col("params") < 1)
    if small.height:
        text = f"row {cells.rows[small['_index'][0]]}: params is {small['params'][0]:g}; no model has less than one"
        hint = "params and tokens are counts, not millions or billions; 20M and 0.4B are read too"
        cells.notice("error", "unit", text, hint)


def _split(cells: RawTable, flat: pl.DataFrame, columns: Columns) -> Tables:
    if "unique_tokens" not in flat.columns:
        flat = flat.with_columns(unique_tokens=pl.lit(None, pl.Float64))
    # A language of no tokens has no unique tokens to repeat.
    flat = flat.with_columns(
        unique_tokens=pl.when((pl.col("tokens") == 0) & (pl.col("unique_tokens") == 0))
        .then(None)
        .otherwise("unique_tokens")
    )
    _check_epochs(cells, flat)
    of_a_run = [name for name in flat.columns if name in _OF_A_RUN or name.startswith("covariates.")]
    _check_of_a_run(cells, flat, of_a_run)
    seen = flat.unique(["run", "step", "language"], maintain_order=True)
    _check_same(cells, flat)
    _check_every_language(cells, seen)
    last = seen.filter(pl.col("step") == pl.col("step").max().over("run"))
    totals = last.group_by("run", maintain_order=True).agg(pl.sum("tokens"))
    idle = totals.filter(pl.col("tokens") <= 0)
    if idle.height:
        row = flat["run"].index_of(idle["run"][0]) or 0
        raise InputError(
            f"{_at(cells, flat, row)}, tokens is 0: run {idle['run'][0]!r} was not trained", hint="remove the row"
        )
    runs = flat.group_by("run", maintain_order=True).agg(*(pl.first(name) for name in of_a_run)).join(totals, on="run")
    exposure = seen.select("run", "step", "language", "tokens", "unique_tokens")
    losses = _losses(cells, flat)
    return Tables(runs, exposure, losses, columns, tuple(cells.notices))


def _check_epochs(cells: RawTable, flat: pl.DataFrame) -> None:
    """`epochs` of a table are not read; where it also has unique tokens, the two must agree."""
    if "epochs" not in flat.columns:
        return
    known = flat.filter((pl.col("unique_tokens") > 0) & (pl.col("epochs") > 0) & (pl.col("tokens") > 0))
    ratio = known.select(ratio=pl.col("tokens") / pl.col("unique_tokens") / pl.col("epochs"))["ratio"]
    if known.height and not _about_one(ratio):
        cells.notice(
            "warning",
            "epochs",
            f"epochs are not tokens / unique_tokens, which is {float(np.median(ratio.to_numpy())):.3g} times as large",
            "check what the two columns count",
        )
    elif known.height:
        cells.notice("notice", "epochs-present", "epochs agree with tokens / unique_tokens")


def _check_of_a_run(cells: RawTable, flat: pl.DataFrame, of_a_run: Sequence[str]) -> None:
    for name in of_a_run:
        several = flat.group_by("run", maintain_order=True).agg(pl.col(name).drop_nulls().n_unique().alias("values"))
        several = several.filter(pl.col("values") > 1)
        if several.height:
            rows = flat.filter(run=several["run"][0]).unique(name, maintain_order=True)
            both = f"{_short(rows[name][0])} and {_short(rows[name][1])}"
            raise InputError(
                f"{_at(cells, rows, 1)}: run {several['run'][0]!r} has {name} {both}", hint=f"one run has one {name}"
            )


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else repr(value)


def _check_same(cells: RawTable, flat: pl.DataFrame) -> None:
    """Rows of one language, run and step that differ in split or state have the same tokens."""
    counts = flat.group_by("run", "step", "language", maintain_order=True).agg(
        pl.col("tokens").n_unique().alias("values"), pl.col("_index")
    )
    several = counts.filter(pl.col("values") > 1)
    if several.height:
        row = several.row(0, named=True)
        raise InputError(
            f"{cells.at(row['_index'][1])}: run {row['run']!r} has two numbers of tokens of {row['language']!r}",
            hint="correct one of the rows",
        )


def _check_every_language(cells: RawTable, seen: pl.DataFrame) -> None:
    """A language that a run was trained on needs a row at every later step; else its tokens are not known there."""
    trained = seen.filter(pl.col("tokens") > 0).group_by("run", "language", maintain_order=True).agg(pl.min("step"))
    steps = seen.select("run", at="step", _index="_index").unique(["run", "at"], maintain_order=True)
    due = trained.join(steps, on="run", maintain_order="left_right").filter(pl.col("at") > pl.col("step"))
    missing = due.join(seen, left_on=["run", "language", "at"], right_on=["run", "language", "step"], how="anti")
    if missing.height:
        row = missing.row(0, named=True)
        raise InputError(
            f"{cells.at(row['_index'])}: run {row['run']!r} has no row of {row['language']!r} at step {row['at']}",
            hint="give the tokens of every language at every step; the loss may be empty",
        )


def _losses(cells: RawTable, flat: pl.DataFrame) -> pl.DataFrame:
    """Totals: as they stand, or of one token."""
    null = pl.lit(None, pl.Float64)
    have = set(flat.columns)
    if {"nats", "eval_tokens"} <= have:
        nats, tokens = pl.col("nats"), pl.col("eval_tokens")
        size = pl.col("bytes") if "bytes" in have else null
    elif "loss" in have:
        nats, tokens, size = pl.col("loss"), pl.lit(1.0), null
        if "bits_per_byte" in have:
            size = pl.col("loss") / (math.log(2) * pl.col("bits_per_byte"))
        elif "bytes_per_token" in have:
            size = pl.col("bytes_per_token")
    else:
        nats, tokens, size = pl.col("bits_per_byte") * math.log(2), null, pl.lit(1.0)
        cells.notice("notice", "bits-per-byte", "losses are bits per byte; losses per token are not known")
    unused = sorted(have & {"nats", "eval_tokens", "bytes", "unigram_nats"}) if "eval_tokens" not in have else []
    if unused:
        cells.notice(
            "warning", "totals", f"{', '.join(unused)} are totals and not read without eval_tokens",
            "give the tokens that were evaluated, or bytes_per_token",
        )  # fmt: skip
    rows = flat.with_columns(_nats=nats, _tokens=tokens, _bytes=size).filter(pl.col("_nats").is_not_null())
    empty = flat["run"].n_unique() - rows["run"].n_unique()
    if not rows.height:
        raise InputError(f"{cells.where}: holds no loss", hint="give the loss of at least one run")
    if empty:
        cells.notice("notice", "no-loss", f"{empty} runs have no loss")
    unigram = pl.col("unigram_nats") if {"unigram_nats", "eval_tokens"} <= have else null
    return rows.select(
        "run", "step", "language", "split", "lr_state",
        nats="_nats", tokens="_tokens", bytes="_bytes", unigram_nats=unigram,
    )  # fmt: skip
