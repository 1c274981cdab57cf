"""Runs: the input of the analysis. Allocations with measured losses, as three tidy tables."""

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from babelscale import tables, tabular
from babelscale.allocation import Allocation
from babelscale.errors import InputError
from babelscale.formatting import count, plural
from babelscale.languages import UNDETERMINED
from babelscale.result import Result
from babelscale.tables import LRState

Metric = Literal["bits_per_byte", "nats_per_token", "unigram_normalised"]
Axis = Literal["random", "params", "tokens", "compute", "mixture"]

METRICS: dict[Metric, pl.Expr] = {
    "bits_per_byte": pl.col("nats") / math.log(2) / pl.col("bytes"),
    "nats_per_token": pl.col("nats") / pl.col("tokens"),
    # Tao et al. (2024): the mean of -log p(w_i | w_<i) / p(w_i); negative for a useful model.
    "unigram_normalised": (pl.col("nats") - pl.col("unigram_nats")) / pl.col("tokens"),
}


@dataclass(frozen=True)
class Observations:
    """The data that a law is fitted to: n allocations and the loss of one target language at each.

    `run` names the run behind each observation; several checkpoints of a run share it and are resampled together.
    """

    target: str
    metric: Metric
    allocation: Allocation
    loss: NDArray[np.float64]
    run: NDArray[np.str_]
    step: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.loss)


@dataclass(frozen=True, repr=False)
class Runs(Result):
    """Three tidy tables (see `babelscale.tables`): `table` one row a run, `exposure`, `losses`."""

    table: pl.DataFrame
    exposure: pl.DataFrame
    losses: pl.DataFrame
    notices: tuple[tabular.Notice, ...] = field(default=(), compare=False, repr=False)

    @classmethod
    def of(cls, table: pl.DataFrame, exposure: pl.DataFrame, losses: pl.DataFrame, where: str = "") -> "Runs":
        """Runs from three frames, checked.

        Raises:
            InputError: a table is malformed, a row belongs to no run, or a loss has no exposure at its step.
        """
        frames = {"runs": table, "exposure": exposure, "losses": losses}
        return cls._of({name: (frame, f"{where}{name}") for name, frame in frames.items()})

    @classmethod
    def _of(cls, named: dict[str, tuple[pl.DataFrame, str]]) -> "Runs":
        checked = {name: tables.conform(frame, name, where) for name, (frame, where) in named.items()}
        for name in ("exposure", "losses"):
            orphans = checked[name].join(checked["runs"], on="run", how="anti")
            if orphans.height:
                raise InputError(
                    f"{named[name][1]}: run {orphans['run'][0]!r} is not in {named['runs'][1]}",
                    hint="every row belongs to a run of the runs table",
                )
        bare = checked["losses"].join(checked["exposure"], on=["run", "step"], how="anti")
        if bare.height:
            raise InputError(
                f"{named['losses'][1]}: run {bare['run'][0]!r} has a loss at step {bare['step'][0]} and no exposure",
                hint="the exposure table gives the tokens seen by language at every step with a loss",
            )
        return cls(checked["runs"], checked["exposure"], checked["losses"])

    @classmethod
    def from_columns(
        cls,
        params: ArrayLike,
        tokens: ArrayLike,
        loss: ArrayLike,
        unique_tokens: ArrayLike | None = None,
        language: str = UNDETERMINED,
    ) -> "Runs":
        """A table of one source: one run an entry, `loss` in nats per token (or any fixed unit).

        Args:
            params, tokens, loss: shape (n,), N, D and the measured loss.
            unique_tokens: U, shape (n,) or a scalar; left out, nothing repeats.
        """
        columns = {"params": params, "tokens": tokens, "loss": loss}
        if unique_tokens is not None:
            columns["unique_tokens"] = unique_tokens
        arrays = {name: np.atleast_1d(np.asarray(value, np.float64)) for name, value in columns.items()}
        try:
            shape = np.broadcast_shapes(*(value.shape for value in arrays.values()))
        except ValueError as error:
            raise InputError(f"columns of different length: {error}") from None
        frame = pl.DataFrame({name: np.broadcast_to(value, shape) for name, value in arrays.items()})
        return cls.from_flat(frame.with_columns(language=pl.lit(language)), "columns")

    @classmethod
    def from_frame(cls, frame: Any) -> "Runs":
        """Runs from one flat table held by pandas, Polars, PyArrow or another library that Narwhals knows.

        Its columns are those of a flat table in a file: params, tokens, loss, and where wanted run, language,
        unique_tokens, flops, mixture, seed; others are not read. What pandas holds as missing is an empty cell. Codes
        such as "nan" and "NA" are text. Whole numbers may come as floats.

        Raises:
            InputError: naming the row (the first is 1) and the field; or `frame` is no data frame.
        """
        from babelscale import frames

        return cls.from_flat(frames.to_polars(frame, "frame"), "frame")

    @classmethod
    def from_flat(cls, frame: pl.DataFrame, where: str) -> "Runs":
        """Runs from one flat table (see `babelscale.tabular.layout`); rows are counted from 1."""
        return cls.from_table(tabular.of_frame(frame, where))

    @classmethod
    def from_table(cls, table: tabular.RawTable, options: tabular.Options | None = None) -> "Runs":
        """Runs from the cells of one flat table; `notices` say how its columns were understood.

        Raises:
            InputError: naming the file, the row and the field, and what to do.
        """
        return cls.from_tables(tabular.to_tables(table, options), table.where)

    @classmethod
    def from_tables(cls, found: tabular.Tables, where: str) -> "Runs":
        """Runs from the three tables that `tabular.to_tables` made, checked."""
        named = {"runs": found.runs, "exposure": found.exposure, "losses": found.losses}
        return replace(cls._of({name: (frame, where) for name, frame in named.items()}), notices=found.notices)

    @classmethod
    def read(cls, path: str | Path, options: tabular.Options | None = None) -> "Runs":
        """Runs from a folder of three tables (or a study's folder that holds one), or from one flat table.

        Args:
            options: what a flat table cannot say by itself: other names of columns, what its `tokens` count, ...

        Tables that are being written are read again until all are of one writing.

        Raises:
            InputError: naming the file, the row and the field; or the tables change all the time.
        """
        path = Path(path)
        if path.is_dir() and (path / "runs").is_dir():
            path = path / "runs"
        if not path.exists():
            raise InputError(
                f"{path}: no such file or folder", hint="give a folder of runs, the folder of a study, or one table"
            )
        if path.is_dir():
            return tables.steadily(path, lambda: cls._read_folder(path))
        runs = tables.steadily(path, lambda: cls.from_table(tabular.read(path), options))
        for notice in runs.notices:
            if notice.severity == "error":
                raise InputError(notice.text, hint=notice.hint)
        return runs

    @classmethod
    def _read_folder(cls, folder: Path) -> "Runs":
        paths = {table: tables.find(folder, table) for table in tables.TABLES}
        return cls._of({table: (tables.read_frame(path), str(path)) for table, path in paths.items()})

    def write(self, folder: str | Path, ending: Literal["parquet", "csv"] = "parquet") -> Path:
        """Write the three tables into a folder; `read` sees the old ones or the new ones, never some of each."""
        frames = (("losses", self.losses), ("exposure", self.exposure), ("runs", self.table))
        tables.write_all(Path(folder), frames, ending)
        return Path(folder)

    def save(self, path: str | Path) -> Path:
        """`write` under the name that every result has."""
        return self.write(path)

    @classmethod
    def load(cls, path: str | Path) -> "Runs":
        """`read` under the name that every result has."""
        return cls.read(path)

    @property
    def headline(self) -> str:
        if not len(self):
            return "no runs"
        sizes = self.table["params"]
        between = f"{count(float(sizes.to_numpy().min()))} to {count(float(sizes.to_numpy().max()))} parameters"
        parts = plural(len(self), "run"), f"{plural(sizes.n_unique(), 'size')} ({between})"
        losses = (
            f"{self.losses.height} loss{'' if self.losses.height == 1 else 'es'} in {self.metric.replace('_', ' ')}"
        )
        return ", ".join([*parts, plural(len(self.languages), "language"), losses])

    def to_frame(self) -> pl.DataFrame:
        """One row a run and language at the run's last step, in the columns that `from_frame` reads.

        `loss` is the decayed validation loss there in the table's metric, null where none was measured.
        """
        last = self.exposure.filter(pl.col("step") == pl.col("step").max().over("run"))
        losses = self.losses.filter(split="validation", lr_state="decayed")
        losses = losses.select("run", "step", "language", loss=METRICS[self.metric])
        about = ["params", "flops", "mixture", "seed", *covariate_columns(self.table)]
        table = self.table.select("run", *(name for name in about if name in self.table.columns))
        frame = last.join(losses, on=["run", "step", "language"], how="left", maintain_order="left")
        frame = frame.drop("step").join(table, on="run", maintain_order="left")
        first = ["run", "params", "language", "tokens", "unique_tokens", "loss"]
        return frame.select(*first, *(name for name in frame.columns if name not in first))

    def __len__(self) -> int:
        return self.table.height

    @property
    def names(self) -> list[str]:
        return self.table["run"].to_list()

    @property
    def languages(self) -> tuple[str, ...]:
        """Every language trained on, in alphabetical order."""
        return tuple(self.exposure.filter(pl.col("tokens") > 0)["language"].unique().sort())

    @property
    def targets(self) -> tuple[str, ...]:
        """Every language with a measured loss."""
        return tuple(self.losses["language"].unique().sort())

    @property
    def metric(self) -> Metric:
        """Bits per byte where every loss has its bytes, otherwise nats per token."""
        measured = self.losses.height > 0 and self.losses["bytes"].null_count() == 0
        return "bits_per_byte" if measured else "nats_per_token"

    @property
    def hash(self) -> str:
        """Provenance: SHA-256 of the three tables' contents, the order of rows left aside."""
        digest = hashlib.sha256()
        for frame in (self.table, self.exposure, self.losses):
            digest.update(frame.select(sorted(frame.columns)).write_csv().encode())
        return digest.hexdigest()

    def select(self, names: Iterable[str]) -> "Runs":
        """The named runs."""
        chosen = pl.col("run").is_in(list(names))
        return Runs(self.table.filter(chosen), self.exposure.filter(chosen), self.losses.filter(chosen))

    def one_stage(self) -> "Runs":
        """The runs that kept one mixture from their first step to their last."""
        stages = pl.col("start").fill_null(tables.SCRATCH)
        return self.select(self.table.filter(stages != tables.TWO_STAGE)["run"])

    def observations(
        self,
        target: str | None = None,
        *,
        metric: Metric | None = None,
        split: str = "validation",
        lr_state: LRState = "decayed",
        start: Sequence[str] = (tables.SCRATCH,),
    ) -> Observations:
        """Allocations and losses of one target language, learning-rate state and kind of start.

        Args:
            target: language code; may be left out where only one language was measured.
            lr_state: losses under a stable and a decayed learning rate are not comparable, so one is chosen.
            start: runs to take: "scratch", "two-stage", "checkpoint". A run continued from a checkpoint has seen tokens
                its own exposure does not count. A two-stage run ended on another mixture than it began with, so a run
                of one mixture with the same totals has another loss, and a law that reads totals would mix the two up.
        """
        target = self.target(target)
        metric = metric or self.metric
        eligible = self.table.filter(pl.col("start").fill_null(tables.SCRATCH).is_in(list(start)))
        rows = (
            self.losses.filter(language=target, split=split, lr_state=lr_state)
            .join(eligible.select("run"), on="run")
            .with_columns(loss=METRICS[metric])
            .sort("run", "step")
        )
        if not rows.height:
            raise InputError(f"no {lr_state} loss on {target!r} in split {split!r}", hint=self._measured(target))
        if rows["loss"].null_count():
            raise InputError(f"{metric} of {target!r} needs totals that the losses table does not hold")
        return Observations(
            target=target,
            metric=metric,
            allocation=self.allocation(rows),
            loss=rows["loss"].to_numpy(),
            run=rows["run"].to_numpy().astype(np.str_),
            step=rows["step"].to_numpy(),
        )

    def allocation(self, rows: pl.DataFrame) -> Allocation:
        """The allocations at the runs and steps of `rows`, in their order, shape (rows,).

        A language that a run's exposure omits has D = 0 there. A covariate that some of the rows lack is left out.
        """
        known = self.table.select("run", "params", *covariate_columns(self.table))
        rows = rows.select("run", "step").join(known, on="run", maintain_order="left")
        places = rows.select("run", "step").with_row_index("place")
        exposure = self.exposure.join(places, on=["run", "step"])
        codes = exposure.filter(pl.col("tokens") > 0)["language"].unique().sort()
        exposure = exposure.join(pl.DataFrame({"language": codes}).with_row_index("row"), on="language")
        at = exposure["row"].to_numpy(), exposure["place"].to_numpy()
        tokens, unique_tokens = np.zeros((len(codes), rows.height)), np.full((len(codes), rows.height), math.inf)
        tokens[at] = exposure["tokens"].to_numpy()
        unique_tokens[at] = exposure["unique_tokens"].fill_null(math.inf).to_numpy()
        D, U = dict(zip(codes, tokens, strict=True)), dict(zip(codes, unique_tokens, strict=True))
        names = [name for name in covariate_columns(rows) if not rows[name].null_count()]
        covariates = {name.removeprefix(tables.COVARIATE): rows[name].to_numpy() for name in names}
        return Allocation(rows["params"].to_numpy(), D, U, covariates)

    def final_allocations(self) -> Allocation:
        """The allocations of the runs at their ends, in the order of the runs table, shape (runs,)."""
        ends = self.exposure.group_by("run").agg(pl.max("step"))
        return self.allocation(self.table.select("run").join(ends, on="run", how="inner", maintain_order="left"))

    def _measured(self, target: str) -> str:
        """What losses of a language there are."""
        kinds = self.losses.filter(language=target).select("split", "lr_state").unique().sort("split", "lr_state")
        found = ", ".join(f"{state} losses of split {split!r}" for split, state in kinds.iter_rows())
        return (
            f"there are {found or 'none'}; a validation loss at the end of a schedule is decayed, of split validation"
        )

    def target(self, target: str | None = None) -> str:
        """The target language, checked; the only one measured where none is named."""
        if target is None and len(self.targets) == 1:
            return self.targets[0]
        if target not in self.targets or target is None:
            message = "no target language named" if target is None else f"no loss was measured on {target!r}"
            raise InputError(message, hint=f"measured languages: {', '.join(self.targets) or 'none'}")
        return target

    def cosampled(self, target: str, most: int = 3) -> tuple[str, ...]:
        """The languages most often trained on together with `target`, at most `most` (the study's K_t).

        Mixtures are counted once however many runs share them; ties go by code. Two-stage runs do not count.
        """
        final = self.one_stage().exposure.filter(pl.col("tokens") > 0).select("run", "language").unique()
        mixtures = final.sort("language").group_by("run").agg("language").select("language").unique()
        beside = mixtures.filter(pl.col("language").list.contains(target)).explode("language")
        counts = beside.filter(pl.col("language") != target)["language"].value_counts()
        return tuple(counts.sort("count", "language", descending=[True, False])["language"][:most])

    def hold_out(self, axis: Axis, *, share: float = 0.2, seed: int = 0) -> "tuple[Runs, Runs]":
        """Split whole runs into those to fit and those to predict, along one axis of the study.

        `random` holds out a random share; `params` the largest size; `tokens` the runs in the top share of D;
        `compute` those in the top share of C; `mixture` every mixture of more than two languages.

        Raises:
            InputError: the axis would hold out every run or none.
        """
        frame = self.table.with_columns(C=pl.coalesce("flops", 6 * pl.col("params") * pl.col("tokens")))
        match axis:
            case "random":
                order = np.random.default_rng(seed).permutation(frame.height)
                mask = pl.Series(order < round(share * frame.height))
            case "params":
                mask = frame["params"] == frame["params"].max()
            case "tokens" | "compute":
                column = frame["tokens" if axis == "tokens" else "C"]
                top = column > (column.quantile(1 - share, "lower") or 0.0)
                # Designs repeat budgets: where more than `share` of the runs tie at the top, those are held out.
                mask = top if top.any() else column == column.max()
            case "mixture":
                seen = self.exposure.filter(pl.col("tokens") > 0).group_by("run").agg(pl.col("language").n_unique())
                mask = frame["run"].is_in(seen.filter(pl.col("language") > 2)["run"].to_list())
        held_out = set(frame.filter(mask)["run"])
        if not held_out or len(held_out) == frame.height:
            raise InputError(f"hold-out axis {axis!r} would hold out {len(held_out)} of {frame.height} runs")
        return self.select(name for name in self.names if name not in held_out), self.select(held_out)


def concat(parts: Sequence[Runs]) -> Runs:
    """Runs of several sources as one; their names must differ."""
    frames = [
        pl.concat([getattr(part, name) for part in parts], how="diagonal") for name in ("table", "exposure", "losses")
    ]
    return Runs.of(*frames)


def covariate_columns(frame: pl.DataFrame) -> list[str]:
    """The columns of a runs table that hold covariates."""
    return [name for name in frame.columns if name.startswith(tables.COVARIATE)]
