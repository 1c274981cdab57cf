"""Plan: how big, how long, which languages; with what loss to expect and how sure that is."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from babelscale import files
from babelscale.allocation import Allocation
from babelscale.formatting import count, count_interval, json_ready, text_table
from babelscale.planning.baselines import Baseline
from babelscale.planning.optimiser.certificate import Certificate

Interval = tuple[float, float]


class Expected(NamedTuple):
    """An expected loss with its 90 % interval, in the plan's metric."""

    loss: float
    low: float
    high: float


@dataclass(frozen=True)
class Plan:
    """One training plan.

    Attributes:
        params: N, every parameter counted once.
        tokens, unique_tokens, epochs, shares: by language; `tokens` are D in tokens, `unique_tokens` U (infinite where
            unknown), `epochs` D / U, `shares` sum to one.
        losses: by target language.
        params_interval, tokens_interval, shares_interval, compute_interval: 90 % over the fits' draws, each planned
            anew; that of compute where it was sought.
        objective: what was minimised, `goal`: the weighted mean of the losses, the worst of them or the worst regret.
        compute: C = 6 N D_tot (and 2 N `inference_tokens`), FLOPs. given: what the budget was.
        certificate: how far from the best the plan can be. baselines: what simpler mixtures lose against it.
        metric: unit of the losses. extrapolation: how far beyond the runs, or None. notes: plain sentences.
        source: what the plan rests on. covariates: what the laws read beside N, D and U, held by the plan.
    """

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

    def save(self, path: str | Path) -> Path:
        """Write `to_dict` as JSON, atomically."""
        return files.write_json(path, self.to_dict())

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Plan":
        """The inverse of `to_dict`."""
        each, losses = data["languages"], data["losses"]
        certificate = data.get("certificate")
        return cls(
            params=data["params"],
            tokens=data["tokens"],
            unique_tokens={code: _else(row["unique_tokens"], math.inf) for code, row in each.items()},
            losses={c: Expected(*(_else(row[k], math.nan) for k in Expected._fields)) for c, row in losses.items()},
            weights={code: row["weight"] for code, row in losses.items()},
            params_interval=_pair(data["params_interval"]),
            tokens_interval=_pairs(each, "tokens_interval"),
            objective=data["objective"],
            compute=data["compute"],
            metric=data["metric"],
            extrapolation=data["extrapolation"],
            notes=tuple(data["notes"]),
            source=data["source"],
            estimated=tuple(code for code, row in each.items() if row["unique_tokens_estimated"]),
            pooled=tuple(code for code, row in losses.items() if row["pooled"]),
            shares_interval=_pairs(each, "share_interval"),
            compute_interval=_pair(data.get("compute_interval")),
            certificate=None if certificate is None else Certificate(**_certified(certificate)),
            baselines=tuple(
                Baseline(**{**b, "loss": tuple(_else(x, math.nan) for x in b["loss"])})
                for b in data.get("baselines", ())
            ),
            given=data.get("given", "compute"),
            goal=data.get("goal", "mean"),
            inference_tokens=data.get("inference_tokens", 0.0),
            covariates=data.get("covariates", {}),
        )

    def __str__(self) -> str:
        return told(self)


def _certified(data: Mapping[str, Any]) -> dict[str, Any]:
    absent = {"gap": math.nan, "bound": -math.inf, "residual": math.nan}
    return {name: _else(value, absent[name]) if name in absent else value for name, value in data.items()}


def _else(value: float | None, absent: float) -> float:
    return absent if value is None else float(value)


def _pair(value: list[float | None] | None) -> Interval | None:
    return None if value is None else (_else(value[0], -math.inf), _else(value[1], math.inf))


def _pairs(rows: Mapping[str, Mapping[str, Any]], name: str) -> dict[str, Interval]:
    return {code: pair for code, row in rows.items() if (pair := _pair(row.get(name)))}


_GOALS = {"mean": "weighted mean loss", "worst": "worst language's loss", "regret": "worst regret"}


def told(plan: Plan) -> str:
    """A plan for people: size, tokens and losses by language, what simpler mixtures lose, and what is not known."""
    interval = count_interval(plan.params_interval)
    served = f" + 2 N for {count(plan.inference_tokens)} served tokens" if plan.inference_tokens else ""
    lines = [f"plan for {plan.compute:.3g} FLOPs (6 N D{served})"]
    if plan.compute_interval is not None:
        low, high = plan.compute_interval
        lines[0] += f"   90 % {low:.3g} to {high:.3g}"
    lines += [
        f"  parameters  {count(plan.params)}{f'   90 % {interval}' if interval else ''}",
        f"  tokens      {count(plan.total_tokens)}",
        f"  loss in     {plan.metric.replace('_', ' ')}",
    ]
    goal, _, robust = plan.goal.partition(", ")
    lines += [f"  objective   {_GOALS.get(goal, goal)}{f' ({robust})' if robust else ''} {plan.objective:.4f}", ""]
    known = [code for code in plan.tokens if plan.tokens[code] > 0 or code in plan.losses]
    header = ("language", "tokens", "90 %", "share", "90 %", "unique", "epochs", "loss", "90 %")
    lines += ["  " + line.rstrip() for line in text_table(header, [_row(plan, code) for code in known])]
    if none := [code for code in plan.tokens if code not in known]:
        lines.append(f"  no tokens of {', '.join(none)}")
    if plan.baselines:
        lines += ["", "  against simpler mixtures of the same compute, each at its best size"]
        rows = [
            [
                b.name,
                count(b.params),
                f"{b.loss[0]:+.4f}",
                "unknown" if math.isnan(b.loss[1]) else f"{b.loss[1]:+.4f} to {b.loss[2]:+.4f}",
            ]
            for b in plan.baselines
        ]
        lines += ["  " + line.rstrip() for line in text_table(("mixture", "parameters", "loss", "90 %"), rows)]
    said = ([plan.extrapolation] if plan.extrapolation else []) + list(plan.notes)
    return "\n".join([*lines, "", *(f"  * {sentence}" for sentence in said), f"  source: {plan.source}"])


def _row(plan: Plan, code: str) -> list[str]:
    U, loss, share = plan.unique_tokens[code], plan.losses.get(code), plan.shares_interval.get(code)
    known = float("inf") > U
    return [
        code,
        count(plan.tokens[code]),
        count_interval(plan.tokens_interval.get(code)),
        f"{100 * plan.shares[code]:.1f} %",
        "" if share is None else f"{100 * share[0]:.1f} to {100 * share[1]:.1f}",
        f"{count(U)}{' est.' if code in plan.estimated else ''}" if known else "unknown",
        f"{plan.epochs[code]:.2g}" if known else "",
        "" if loss is None else f"{loss.loss:.3f}{' pooled' if code in plan.pooled else ''}",
        "" if loss is None else "unknown" if loss.low != loss.low else f"{loss.low:.3f} to {loss.high:.3f}",
    ]
