"""Plan: how big, how long, which languages; with what loss to expect and how sure that is."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, NamedTuple

import polars as pl

from babelscale.allocation import Allocation
from babelscale.formatting import count, count_interval, fill_none, indented_table, json_ready
from babelscale.intervals import Interval
from babelscale.planning.baselines import Baseline
from babelscale.planning.optimiser.certificate import Certificate
from babelscale.result import JsonResult


class Expected(NamedTuple):
    """An expected loss with its 90 % interval, in the plan's metric."""

    loss: float
    low: float
    high: float


@dataclass(frozen=True, repr=False)
class Plan(JsonResult):
    """One training plan.

    Attributes:
        params: N, every parameter counted once.
        tokens, unique_tokens, epochs, shares: by language; `tokens` are D in tokens, `unique_tokens` U (infinite where
            unknown), `epochs` D / U, `shares` sum to one.
        losses: by target language.
        params_interval, tokens_interval, shares_interval, compute_interval: 90 % over the fits' draws, each planned
            again; that of compute where it was sought.
        objective: what was minimised, `goal`: the weighted mean of the losses, the worst of them or the worst regret.
        compute: C = 6 N D_tot (and 2 N `inference_tokens`), FLOPs. given: what the budget was.
        certificate: how far from the best the plan can be. baselines: the loss of simpler mixtures against it.
        metric: unit of the losses. extrapolation: how far beyond the runs, or None. notes: plain sentences.
        source: what the plan rests on. covariates: numbers that the laws read beside N, D and U; not planned.
    """

    indent: ClassVar[int | None] = 1

    params: float
    tokens: Mapping[str, float]
    unique_tokens: Mapping[str, float]
    losses: Mapping[str, Expected]
    weights: Mapping[str, float]
    params_interval: Interval | None
    tokens_interval: Mapping[str, Interval]
    objective: float
    compute: float
    metric: str
    extrapolation: str | None
    notes: tuple[str, ...]
    source: str
    estimated: tuple[str, ...] = ()
    pooled: tuple[str, ...] = ()
    shares_interval: Mapping[str, Interval] = field(default_factory=dict)
    compute_interval: Interval | None = None
    certificate: Certificate | None = None
    baselines: tuple[Baseline, ...] = ()
    given: str = "compute"
    goal: str = "mean"
    inference_tokens: float = 0.0
    covariates: Mapping[str, float] = field(default_factory=dict)

    @property
    def total_tokens(self) -> float:
        return sum(self.tokens.values())

    @property
    def shares(self) -> dict[str, float]:
        return {code: D / self.total_tokens for code, D in self.tokens.items()}

    @property
    def epochs(self) -> dict[str, float]:
        return {code: D / self.unique_tokens[code] for code, D in self.tokens.items()}

    @property
    def allocation(self) -> Allocation:
        return Allocation(self.params, self.tokens, self.unique_tokens, self.covariates)

    def to_dict(self) -> dict[str, Any]:
        """Ready for strict JSON; what is unknown or unlimited is null."""
        languages = {
            code: {
                "tokens": D,
                "tokens_interval": self.tokens_interval.get(code),
                "share": self.shares[code],
                "share_interval": self.shares_interval.get(code),
                "unique_tokens": self.unique_tokens[code],
                "unique_tokens_estimated": code in self.estimated,
                "epochs": self.epochs[code] if self.unique_tokens[code] < float("inf") else None,
            }
            for code, D in self.tokens.items()
        }
        return json_ready(
            {
                "kind": "plan",
                "params": self.params,
                "params_interval": self.params_interval,
                "total_tokens": self.total_tokens,
                "compute": self.compute,
                "compute_interval": self.compute_interval,
                "given": self.given,
                "inference_tokens": self.inference_tokens,
                "tokens": dict(self.tokens),
                "languages": languages,
                "losses": {
                    code: {**each._asdict(), "weight": self.weights[code], "pooled": code in self.pooled}
                    for code, each in self.losses.items()
                },
                "goal": self.goal,
                "objective": self.objective,
                "certificate": None if self.certificate is None else asdict(self.certificate),
                "baselines": [asdict(baseline) for baseline in self.baselines],
                "metric": self.metric,
                "extrapolation": self.extrapolation,
                "notes": list(self.notes),
                "source": self.source,
                **({"covariates": dict(self.covariates)} if self.covariates else {}),
            }
        )

    @classmethod
    def _fields(cls, data: Mapping[str, Any]) -> Mapping[str, Any]:
        rows, losses = data["languages"], data["losses"]
        certificate, baselines = data.get("certificate"), data.get("baselines", ())
        return {
            **data,
            "unique_tokens": {code: fill_none(row["unique_tokens"], math.inf) for code, row in rows.items()},
            "losses": {
                code: fill_none([row[name] for name in Expected._fields], math.nan) for code, row in losses.items()
            },
            "weights": {code: row["weight"] for code, row in losses.items()},
            "params_interval": _interval(data["params_interval"]),
            "tokens_interval": _intervals(rows, "tokens_interval"),
            "estimated": [code for code, row in rows.items() if row["unique_tokens_estimated"]],
            "pooled": [code for code, row in losses.items() if row["pooled"]],
            "shares_interval": _intervals(rows, "share_interval"),
            "compute_interval": _interval(data.get("compute_interval")),
            "certificate": certificate
            and {name: _UNBOUNDED.get(name) if x is None else x for name, x in certificate.items()},
            "baselines": [{**each, "loss": fill_none(each["loss"], math.nan)} for each in baselines],
        }

    @property
    def headline(self) -> str:
        return f"{count(self.params)} parameters on {count(self.total_tokens)} tokens, {self.compute:.3g} FLOPs"

    def to_frame(self) -> pl.DataFrame:
        """One row for each language: tokens and shares with intervals, unique tokens, epochs, and the expected loss."""
        none = (None, None)
        rows = [
            {
                "language": code,
                "tokens": D,
                **_ends("tokens", self.tokens_interval.get(code, none)),
                "share": self.shares[code],
                **_ends("share", self.shares_interval.get(code, none)),
                "unique_tokens": self.unique_tokens[code],
                "epochs": self.epochs[code] if self.unique_tokens[code] < math.inf else None,
                "loss": self.losses[code].loss if code in self.losses else None,
                **_ends("loss", self.losses[code][1:] if code in self.losses else none),
                "weight": self.weights.get(code, 0.0),
            }
            for code, D in self.tokens.items()
        ]
        return pl.DataFrame(rows, schema_overrides={name: pl.Float64 for name in rows[0] if name != "language"})

    def summary(self) -> str:
        """Size, tokens and losses by language, what simpler mixtures lose, and what is not known."""
        interval = count_interval(self.params_interval)
        served = f" + 2 N for {count(self.inference_tokens)} served tokens" if self.inference_tokens else ""
        compute = ""
        if self.compute_interval is not None:
            compute = f"   90 % {self.compute_interval[0]:.3g} to {self.compute_interval[1]:.3g}"
        goal, _, robust = self.goal.partition(", ")
        lines = [
            f"plan for {self.compute:.3g} FLOPs (6 N D{served}){compute}",
            f"  parameters  {count(self.params)}{f'   90 % {interval}' if interval else ''}",
            f"  tokens      {count(self.total_tokens)}",
            f"  loss in     {self.metric.replace('_', ' ')}",
            f"  objective   {_GOALS.get(goal, goal)}{f' ({robust})' if robust else ''} {self.objective:.4f}",
            "",
        ]
        used = [code for code in self.tokens if self.tokens[code] > 0 or code in self.losses]
        header = ("language", "tokens", "90 %", "share", "90 %", "unique", "epochs", "loss", "90 %")
        lines += indented_table(header, [self._row(code) for code in used])
        if none := [code for code in self.tokens if code not in used]:
            lines.append(f"  no tokens of {', '.join(none)}")
        if self.baselines:
            lines += ["", "  comparison with simpler mixtures (same compute, each at its best size)"]
            header = ("mixture", "parameters", "loss", "90 %")
            lines += indented_table(header, [each.row() for each in self.baselines])
        notes = ([self.extrapolation] if self.extrapolation else []) + list(self.notes)
        return "\n".join([*lines, "", *(f"  * {note}" for note in notes), f"  source: {self.source}"])

    def _row(self, code: str) -> list[str]:
        U, loss, share = self.unique_tokens[code], self.losses.get(code), self.shares_interval.get(code)
        known = math.inf > U
        return [
            code,
            count(self.tokens[code]),
            count_interval(self.tokens_interval.get(code)),
            f"{100 * self.shares[code]:.1f} %",
            "" if share is None else f"{100 * share[0]:.1f} to {100 * share[1]:.1f}",
            f"{count(U)}{' est.' if code in self.estimated else ''}" if known else "unknown",
            f"{self.epochs[code]:.2g}" if known else "",
            "" if loss is None else f"{loss.loss:.3f}{' pooled' if code in self.pooled else ''}",
            "" if loss is None else "unknown" if math.isnan(loss.low) else f"{loss.low:.3f} to {loss.high:.3f}",
        ]


_GOALS = {"mean": "weighted mean loss", "worst": "worst language's loss", "regret": "worst regret"}
_UNBOUNDED = {"gap": math.nan, "bound": -math.inf, "residual": math.nan}


def _ends(name: str, pair: Sequence[float | None]) -> dict[str, float | None]:
    return {f"{name}_low": pair[0], f"{name}_high": pair[1]}


def _interval(pair: Sequence[float | None] | None) -> Any:
    return None if pair is None else (fill_none(pair[0], -math.inf), fill_none(pair[1], math.inf))


def _intervals(rows: Mapping[str, Mapping[str, Any]], name: str) -> dict[str, Any]:
    return {code: _interval(row[name]) for code, row in rows.items() if row.get(name)}
