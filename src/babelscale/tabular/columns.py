"""Which column of a table holds what: known names, aliases, a column for each language (`loss_sw`, `eval/sw/loss`)."""

import difflib
import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from babelscale import languages
from babelscale.errors import InputError
from babelscale.tabular.cells import RawTable
from babelscale.tabular.codes import FLORES

Kind = Literal["count", "number", "integer", "text", "code"]
COVARIATE = "covariates."

# The fields of a flat table: what each holds, and other names of it (compared without case and punctuation).
FIELDS: dict[str, tuple[Kind, str]] = {
    "run": ("text", "name runname runid jobname experiment experimentname displayname"),
    "params": ("count", "n nparams numparams nparameters numparameters parameters paramcount modelsize modelparams "
               "modelnparams totalparams paramstotal parametercount"),
    "params_non_embedding": ("count", "nonembeddingparams nonembparams"),
    "language": ("code", "lang languagecode langcode evallanguage"),
    "tokens": ("count", "d ntokens numtokens tokensseen traintokens trainingtokens trainedtokens "
               "tokenstrained consumedtokens numinputtokensseen"),
    "total_tokens": ("count", "tokenstotal totaltraintokens totaltrainingtokens"),
    "share": ("number", "proportion ratio mixtureweight samplingshare"),
    "unique_tokens": ("count", "unique u uniquetoks availabletokens tokensavailable"),
    "epochs": ("number", ""),
    "loss": ("number", "finalloss valloss validationloss evalloss testloss celoss evalvalidationloss evallmloss"),
    "bits_per_byte": ("number", "bpb evalbpb valbpb"),
    "bytes_per_token": ("number", ""),
    "nats": ("number", ""),
    "eval_tokens": ("count", "evaltokens"),
    "bytes": ("count", "evalbytes"),
    "unigram_nats": ("number", ""),
    "flops": ("count", "c flop compute totalflops totalflop trainingflops trainingflop trainflops flopsbudget"),
    "flops_6nd": ("count", ""),
    "step": ("integer", "trainstep globalstep iteration iter"),
    "split": ("text", "evalsplit"),
    "lr_state": ("text", "lrstate learningratestate"),
    "seed": ("integer", "randomseed"),
    "start": ("text", ""),
    "base": ("text", "basecheckpoint"),
    "size": ("text", ""),
    "mixture": ("text", "mixturename"),
    "tokenizer": ("text", "tokenizername"),
    "corpus": ("text", "dataset"),
    "state": ("text", "runstate"),
}  # fmt: skip
# Fields that the last part of a nested name may name (`model.n_params`, `throughput/total_tokens`).
_BY_LAST = ("params", "params_non_embedding", "tokens", "total_tokens", "unique_tokens", "seed", "tokenizer")
_PERPLEXITY = {"ppl", "perplexity", "evalppl", "valppl", "evalperplexity", "validationperplexity"}
# Words of the name of a column that belongs to one language, and the field they make.
_WIDE: tuple[tuple[str, frozenset[str], frozenset[str]], ...] = tuple(
    (name, frozenset(needed.split()), frozenset(further.split()))
    for name, needed, further in (
        ("bits_per_byte", "bpb", "eval val valid validation test final metrics loss"),
        ("unique_tokens", "unique", "tokens toks available data"),
        ("tokens", "tokens", "train training seen data num n"),
        ("share", "share shares mix mixture weight weights ratio ratios proportion proportions", "data sampling train"),
        ("loss", "loss nll", "eval val valid validation test final metrics ce lm"),
        ("loss", "eval", ""),
    )
)
_WORDS = frozenset(word for _, needed, further in _WIDE for word in (*needed, *further))
WIDE_FIELDS = tuple(dict.fromkeys(name for name, _, _ in _WIDE))


@dataclass
class Columns:
    """Field -> column, and for one column for each language field -> code as written -> column."""

    single: dict[str, str] = field(default_factory=dict)
    wide: dict[str, dict[str, str]] = field(default_factory=dict)
    covariates: dict[str, str] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)

    def has(self, name: str) -> bool:
        return name in self.single or name in self.wide


def resolve(cells: RawTable, mapping: Mapping[str, str] | None = None) -> Columns:
    """Say what every column of a table holds. What `mapping` (ours -> theirs) names comes first.

    Raises:
        InputError: a column that `mapping` names is absent, or two columns hold the same field.
    """
    names = cells.frame.columns
    found = _mapped(cells, mapping or {})
    taken = {*found.single.values(), *found.covariates.values()}
    taken |= {theirs for columns in found.wide.values() for theirs in columns.values()}
    for name in names:
        if name not in taken and (name in FIELDS or name.startswith(COVARIATE)):
            target = found.covariates if name.startswith(COVARIATE) else found.single
            if name in target:
                raise InputError(f"{cells.where}: two columns hold {name}", hint="rename or remove one of them")
            target[name] = name
            taken.add(name)
    _by_alias(cells, found, taken)
    _without_repeated_names(cells, found, taken)
    _by_language(cells, [name for name in names if name not in taken], found, taken)
    found.unused = [name for name in names if name not in taken]
    _tell_unused(cells, found)
    return found


def _mapped(cells: RawTable, mapping: Mapping[str, str]) -> Columns:
    """Ours are fields, `covariates.NAME`, and `loss.sw` for the column of one language."""
    found = Columns()
    for ours, theirs in mapping.items():
        field_name, _, code = ours.partition(".")
        if theirs not in cells.frame.columns:
            raise InputError(f"{cells.where}: no column {theirs!r}", hint=_nearest(theirs, cells.frame.columns))
        if ours.startswith(COVARIATE):
            found.covariates[ours] = theirs
        elif code and field_name in WIDE_FIELDS:
            found.wide.setdefault(field_name, {})[code] = theirs
        elif ours in FIELDS:
            found.single[ours] = theirs
        else:
            raise InputError(f"no field is called {ours!r}", hint=_nearest(ours, FIELDS))
    return found


def _by_alias(cells: RawTable, found: Columns, taken: set[str]) -> None:
    """Columns by their whole name without case and punctuation, then by its last part (`model.n_params`)."""
    aliases = {alias: name for name, (_, written) in FIELDS.items() for alias in (_bare(name), *written.split())}
    for bare in (_bare, _last):
        likely: dict[str, list[str]] = {}
        for name in cells.frame.columns:
            ours = aliases.get(bare(name))
            if (
                name not in taken
                and ours is not None
                and ours not in found.single
                and (bare is _bare or ours in _BY_LAST)
            ):
                likely.setdefault(ours, []).append(name)
        for ours, names in likely.items():
            if any(not cells.frame[name].eq_missing(cells.frame[names[0]]).all() for name in names[1:]):
                raise InputError(
                    f"{cells.where}: columns {' and '.join(map(repr, names))} both look like {ours}",
                    hint=f"say which it is: babelscale import {cells.where} --out runs --column {ours}={names[0]!r}",
                )
            found.single[ours] = names[0]
            taken.update(names)
            cells.notice("notice", "alias", f"column {names[0]!r} is read as {ours}")


def _without_repeated_names(cells: RawTable, found: Columns, taken: set[str]) -> None:
    """A column such as `name` is no `run` where rows of one name differ in nothing that tells them apart."""
    name = found.single.get("run", "run")
    if name == "run":
        return
    keys = [name, *(found.single[key] for key in ("language", "step", "split", "lr_state") if key in found.single)]
    if cells.frame.select(keys).is_duplicated().any():
        del found.single["run"]
        taken.discard(name)
        cells.notice(
            "notice", "alias", f"column {name!r} names several rows and is not read as run: every row is a run"
        )


def _by_language(cells: RawTable, names: list[str], found: Columns, taken: set[str]) -> None:
    """Columns of one language each, grouped by their name without the code."""
    templates: dict[tuple[str, str], dict[str, str]] = {}
    for name in names:
        for field_name, template, code in _readings(name):
            templates.setdefault((field_name, template), {})[code] = name
    for (field_name, template), columns in templates.items():
        # A word such as `val` or `ce` is also a code; alone it is a word.
        if all(code in _WORDS for code in columns):
            continue
        _drop_repeated(cells, found, field_name, columns)
        one = next(iter(columns.values()))
        other = next(iter(found.wide.get(field_name, {}).values()), "") or found.single.get(field_name, "")
        if other and not (field_name == "tokens" and field_name in found.single):
            raise InputError(
                f"{cells.where}: columns {other!r} and {one!r} both look like {field_name}",
                hint="name one of them in a mapping, or remove the other",
            )
        found.wide[field_name] = columns
        taken.update(columns.values())
        pattern = template.replace("{}", "LANGUAGE")
        cells.notice(
            "notice", "wide", f"columns {pattern!r} are read as {field_name} by language ({', '.join(columns)})"
        )


def _drop_repeated(cells: RawTable, found: Columns, field_name: str, columns: dict[str, str]) -> None:
    """Where the one column by language repeats the column of its field, the one by language is kept."""
    single = found.single.get(field_name)
    if single is None or len(columns) > 1 or field_name == "tokens":
        return
    if cells.frame[single].eq_missing(cells.frame[next(iter(columns.values()))]).all():
        del found.single[field_name]


def _readings(name: str) -> Iterable[tuple[str, str, str]]:
    """(field, name without the code, code) for every way in which a column's name holds a code."""
    for start in (match.start() for match in re.finditer(r"(?<![A-Za-z0-9])[A-Za-z]", name)):
        for end in sorted(
            (match.end() for match in re.finditer(r"[A-Za-z0-9]+", name) if match.end() > start), reverse=True
        ):
            if not _is_code(name[start:end]):
                continue
            words = set(re.findall(r"[a-z0-9]+", f"{name[:start]} {name[end:]}".lower()))
            for field_name, needed, further in _WIDE:
                if words & needed and words <= needed | further:
                    yield field_name, f"{name[:start]}{{}}{name[end:]}", name[start:end]
                    break


@functools.cache
def _is_code(text: str) -> bool:
    if text in languages.table() or FLORES.fullmatch(text):
        return True
    first, _, rest = text.partition("-")
    return bool(rest) and languages.is_well_formed(text) and (first in languages.table() or first == "x")


def _tell_unused(cells: RawTable, found: Columns) -> None:
    for name in found.unused:
        if _bare(name) in _PERPLEXITY and not found.has("loss"):
            raise InputError(
                f"{cells.where}: column {name!r} holds perplexities",
                hint="write loss = ln(perplexity), in nats per token",
            )
    close = {name: _close(name, [*FIELDS, "covariates.NAME"]) for name in found.unused}
    unread = [f"{name!r} (did you mean {near}?)" if near else repr(name) for name, near in close.items()]
    if unread:
        cells.notice("notice", "unused", f"not read: {', '.join(unread)}")


def _bare(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _last(name: str) -> str:
    return _bare(re.split(r"[./]", name)[-1])


def _close(name: str, known: Iterable[str]) -> str:
    return next(iter(difflib.get_close_matches(name.lower(), list(known), n=1, cutoff=0.75)), "")


def _nearest(name: str, known: Iterable[str]) -> str:
    near = _close(name, known)
    return f"did you mean {near!r}? " if near else f"there are {', '.join(known)}"
