"""Problem cache: the laws of many targets stacked into one problem, for the next question about the same laws.

Stacking 50 laws with 200 draws takes a fifth of a plan, and a slider of the page asks about the same laws again.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import fields, replace

import numpy as np
from numpy.typing import NDArray

from babelscale.allocation import Allocation
from babelscale.laws.separable import SeparableForm
from babelscale.planning.optimiser.evaluate import LossEvaluator
from babelscale.planning.optimiser.general_search import GeneralProblem
from babelscale.planning.optimiser.setting import LawSource, Setting
from babelscale.planning.optimiser.solver import PlanProblem, losses_at

Array = NDArray[np.float64]
# Problems in the cache, and the bytes of the largest array of one.
_MOST_PROBLEMS, _LARGEST = 8, 1 << 24
# By key: the laws, cached so that no other object takes their identity, and their problem.
_cache: OrderedDict[Hashable, tuple[LawSource, LossEvaluator]] = OrderedDict()
_lock = threading.Lock()


def at_optimum(laws: LawSource, setting: Setting) -> PlanProblem:
    """The laws themselves, one row."""
    if not laws.separable(setting):
        rows = laws.rows(0, 0)
        assert rows is not None
        return GeneralProblem.of(rows, setting)
    found = _stacked(laws, setting, (), lambda: laws.point(setting))
    assert found is not None
    return found


def at_draws(laws: LawSource, setting: Setting, count: int, seed: int) -> PlanProblem | None:
    """The laws at `count` draws; None where nothing is known of the uncertainty."""
    if not laws.separable(setting):
        rows = laws.rows(count, seed) if count else None
        return None if rows is None else GeneralProblem.of(rows, setting)
    return _stacked(laws, setting, (count, seed), lambda: laws.drawn(setting, count, seed))


def losses_of_allocation(
    laws: LawSource, setting: Setting, allocation: Allocation, draws: int, seed: int
) -> tuple[Array, Array]:
    """Losses of every target for one allocation: by the laws themselves (T,), and at so many of their draws."""
    N, total = float(allocation.params), float(allocation.total_tokens)
    setting = replace(setting, compute=6 * N * (total + setting.served / 3), tokens={}, shares={})
    shares, n = np.array([[float(allocation.D(code)) / total for code in setting.languages]]), np.log(np.array([N]))
    drawn = at_draws(laws, setting, draws, seed)
    assert drawn is not None
    return at_optimum(laws, setting).losses(shares, n)[0], losses_at(drawn, shares, n)


def _stacked(
    laws: LawSource, setting: Setting, which: tuple[int, ...], make: Callable[[], Mapping[str, SeparableForm] | None]
) -> LossEvaluator | None:
    by_language = (setting.weights, setting.unique_tokens, setting.tokens, setting.shares)
    key = (laws.key, which, setting.languages, setting.served, *(tuple(each.items()) for each in by_language))
    with _lock:
        cached = _cache.get(key)
        if cached is not None:
            _cache.move_to_end(key)
    if cached is None:
        made = make()
        if made is None:
            return None
        cached = laws, LossEvaluator.of(made, setting)
        _store(key, *cached)
    return replace(cached[1], compute=np.full(cached[1].draws, setting.compute))


def _store(key: Hashable, laws: LawSource, made: LossEvaluator) -> None:
    arrays = [value for each in fields(made) if isinstance(value := getattr(made, each.name), np.ndarray)]
    # Several plans read them.
    for array in arrays:
        array.setflags(write=False)
    if max(array.nbytes for array in arrays) > _LARGEST:
        return
    with _lock:
        _cache[key] = laws, made
        while len(_cache) > _MOST_PROBLEMS:
            _cache.popitem(last=False)
