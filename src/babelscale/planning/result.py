"""Plan: how big, how long, which languages; with what loss to expect and how sure that is."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from babelscale.allocation import Allocation
from babelscale.planning.wording import between, columns, count, plain, save_json

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
        params_interval, tokens_interval: 90 % over the fits' draws, each planned anew.
        objective: weighted mean of the losses. compute: C = 6 N D_tot, FLOPs.
        metric: unit of the losses. extrapolation: how far beyond the runs, or None. notes: plain sentences.
        source: what the plan rests on.
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
        return Allocation(self.params, self.tokens, self.unique_tokens)

    def to_dict(self) -> dict[str, Any]:
        """Ready for strict JSON; what is unknown or unlimited is null."""
        languages = {
            code: {
                "tokens": D,
                "tokens_interval": self.tokens_interval.get(code),
                "share": self.shares[code],
                "unique_tokens": self.unique_tokens[code],
                "unique_tokens_estimated": code in self.estimated,
                "epochs": self.epochs[code] if self.unique_tokens[code] < float("inf") else None,
            }
            for code, D in self.tokens.items()
        }
        return plain(
            {
                "kind": "plan",
                "params": self.params,
                "params_interval": self.params_interval,
                "total_tokens": self.total_tokens,
                "compute": self.compute,
                "tokens": dict(self.tokens),
                "languages": languages,
                "losses": {
                    code: {**each._asdict(), "weight": self.weights[code], "pooled": code in self.pooled}
                    for code, each in self.losses.items()
                },
                "objective": self.objective,
                "metric": self.metric,
                "extrapolation": self.extrapolation,
                "notes": list(self.notes),
                "source": self.source,
            }
        )

    def save(self, path: str | Path) -> Path:
        """Write `to_dict` as JSON, atomically."""
        return save_json(path, self.to_dict())

    def __str__(self) -> str:
        interval = between(self.params_interval)
        lines = [
            f"plan for {self.compute:.3g} FLOPs (6 N D)",
            f"  parameters  {count(self.params)}{f'   90 % {interval}' if interval else ''}",
            f"  tokens      {count(self.total_tokens)}",
            f"  loss in     {self.metric.replace('_', ' ')}",
            "",
        ]
        rows = []
        for code, D in self.tokens.items():
            U, loss = self.unique_tokens[code], self.losses.get(code)
            known = float("inf") > U
            rows.append(
                [
                    code,
                    count(D),
                    between(self.tokens_interval.get(code)),
                    f"{100 * self.shares[code]:.1f} %",
                    f"{count(U)}{' est.' if code in self.estimated else ''}" if known else "unknown",
                    f"{self.epochs[code]:.2g}" if known else "",
                    "" if loss is None else f"{loss.loss:.3f}{' pooled' if code in self.pooled else ''}",
                    "" if loss is None else "unknown" if loss.low != loss.low else f"{loss.low:.3f} to {loss.high:.3f}",
                ]
            )
        header = ("language", "tokens", "90 %", "share", "unique", "epochs", "loss", "90 %")
        lines += ["  " + line.rstrip() for line in columns(header, rows)]
        said = ([self.extrapolation] if self.extrapolation else []) + list(self.notes)
        return "\n".join([*lines, "", *(f"  * {sentence}" for sentence in said), f"  source: {self.source}"])
