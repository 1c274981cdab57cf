"""Bounds as they are asked for, by language or for all, and whether any allocation can keep them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from babelscale.errors import InputError
from babelscale.planning.budget import SMALLEST, Budget
from babelscale.planning.optimiser.setting import Bounds, Setting

Given = Mapping[str, float] | float | None


@dataclass(frozen=True)
class Asked:
    """The bounds of `plan`: each by language, or one number for every language."""

    min_tokens: Given = None
    max_tokens: Given = None
    max_epochs: Given = None
    min_share: Given = None
    max_share: Given = None

    def read(self, codes: Sequence[str], unique: Mapping[str, float]) -> tuple[dict[str, Bounds], dict[str, Bounds]]:
        """Tokens and shares by language that has a bound.

        Raises:
            InputError: a bound is negative, of a language that is not planned, crossed, or on epochs of unknown U.
        """
        low, high, epochs, least, most = (_by_language(name, value, codes) for name, value in vars(self).items())
        for code in epochs:
            if code not in unique and not isinstance(self.max_epochs, int | float):
                raise InputError(
                    f"max_epochs of {code!r}, whose unique tokens are not known", hint=f"give unique_tokens of {code!r}"
                )
        tokens = {}
        for code in codes:
            ceiling = min(high.get(code, math.inf), epochs.get(code, math.inf) * unique.get(code, math.inf))
            if low.get(code, 0.0) > ceiling:
                raise InputError(
                    f"min_tokens of {code!r} is {low[code]:.4g}, more than the {ceiling:.4g} that max_tokens or "
                    "max_epochs allow",
                    hint=f"the most it can be is {ceiling:.4g}",
                )
            if low.get(code, 0.0) > 0 or ceiling < math.inf:
                tokens[code] = (low.get(code, 0.0), ceiling)
        shares = {}
        for code in codes:
            pair = least.get(code, 0.0), most.get(code, 1.0)
            if pair[0] > pair[1]:
                raise InputError(
                    f"min_share of {code!r} is {pair[0]:.4g}, above its max_share {pair[1]:.4g}",
                    hint=f"the most it can be is {pair[1]:.4g}",
                )
            if pair != (0.0, 1.0):
                shares[code] = pair
        return tokens, shares


def _by_language(name: str, given: Given, codes: Sequence[str]) -> dict[str, float]:
    if given is None:
        return {}
    values = dict.fromkeys(codes, float(given)) if isinstance(given, int | float) else dict(given)
    positive = name.startswith("max")
    for code, value in values.items():
        if code not in codes:
            raise InputError(f"{name} of {code!r}, which is not planned", hint=f"planned: {', '.join(codes)}")
        if not (value > 0 if positive else value >= 0) or (name.endswith("share") and value > 1) or value != value:
            hint = "a share lies between 0 and 1" if name.endswith("share") else "give a positive number"
            if positive and value == 0:
                hint = "leave the language out of the languages instead"
            raise InputError(f"{name} of {code!r} is {value}", hint=hint)
    return values


def check(setting: Setting, budget: Budget) -> None:
    """Refuse bounds that no allocation keeps, naming the nearest that one does.

    Raises:
        InputError: naming the bound.
    """
    least, most = ({c: b[i] for c, b in setting.shares.items()} for i in (0, 1))
    total = math.fsum(least.values())
    if total > 1 + 1e-12:
        raise InputError(
            f"min_share of {', '.join(c for c in least if least[c] > 0)} sum to {total:.4g}, more than 1",
            hint=f"the nearest that fit are these divided by {total:.4g}",
        )
    if len(most) == len(setting.languages) and math.fsum(most.values()) < 1 - 1e-12:
        total = math.fsum(most.values())
        raise InputError(
            f"max_share of all {len(most)} languages sum to {total:.4g}, less than 1",
            hint=f"the nearest that fit are these divided by {total:.4g}, or add a language",
        )
    asked = math.fsum(low for low, _ in setting.tokens.values())
    if not asked:
        return
    if budget.tokens is not None and asked > budget.tokens:
        raise InputError(
            f"min_tokens sum to {asked:.4g}, more than tokens {budget.tokens:.4g}", hint=f"tokens={asked:.4g}"
        )
    if budget.compute is not None:
        N = budget.params or (min(budget.rungs) if budget.rungs else SMALLEST)
        needed = 6 * N * asked + 2 * N * budget.served
        if needed > budget.compute * (1 + 1e-9):
            raise InputError(
                f"min_tokens sum to {asked:.4g}, which compute {budget.compute:.4g} does not pay for at {N:.4g} "
                "parameters",
                hint=f"the nearest feasible compute is {needed * 1.001:.4g} FLOPs, or min_tokens of "
                f"{(budget.compute / (6 * N) - budget.served / 3):.4g} in all",
            )
    where = setting.constraints
    if setting.shares and budget.compute is not None:
        N = budget.params or (min(budget.rungs) if budget.rungs else SMALLEST)
        X = budget.compute / (6 * N) - budget.served / 3
        if where.inside(X) is None:
            _, low, high = where.room(X)
            unshared = replace(setting, shares={}).constraints.inside(X) is not None
            raise InputError(
                "bounds on tokens and shares contradict each other: at the most that can be spent they ask for "
                f"{low:.4g} of the budget and allow {high:.4g}",
                hint=f"loosen min_share or max_tokens; without the shares {'a plan' if unshared else 'none'} exists",
            )
