"""What all tests share: the environment, the reference data beside the checkout, and small studies."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import settings

from babelscale import cli
from babelscale.runs import Runs

SHARED = Path(__file__).parents[2] / "shared"
# xdist's test processes and all child processes inherit these variables. Each library uses one thread, since two test
# processes share two cores (see the Makefile); JAX keeps every program that it compiles, however small.
for variable in ("NPROC", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS", "RAYON_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
# An example may take long where other processes use the cores.
settings.register_profile("shared cores", deadline=None)
settings.load_profile("shared cores")


def pytest_configure(config: pytest.Config) -> None:
    """Make the folder of compiled programs once, before xdist starts its workers."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = folder = tempfile.mkdtemp(prefix="babelscale-compiled-")
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip("the reference data is not beside this checkout (../shared)")
    return SHARED


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code and what it wrote."""

    code: int
    out: str
    err: str


@pytest.fixture
def babelscale(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """babelscale(*arguments): runs a command in this process and saves the time that a new process takes to start."""

    def run(*arguments: object) -> Ended:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            cli.main([str(argument) for argument in arguments])
        code = stopped.value.code
        assert code is None or isinstance(code, int)
        return Ended(code or 0, *capsys.readouterr())

    return run


UNIQUE = {"sv": 4e5, "da": 3e5, "id": 5e5, "sw": 1.5e5}
HELP = {("sv", "da"): 0.6, ("da", "sv"): 0.6, ("id", "sw"): 0.1, ("sw", "id"): 0.15}
FLOOR = {"sv": 0.9, "da": 0.95, "id": 0.8, "sw": 0.85}
SIZES = {"tiny": 1e5, "small": 3e5, "medium": 8e5}
STEPS = (40, 80, 160, 320, 400)


def planted(target: str, params: float, tokens: dict[str, float], decayed: bool) -> float:
    """The loss in bits per byte that the study's law gives; a decayed learning rate takes 3 % off."""
    effective = tokens.get(target, 0.0) + sum(HELP.get((target, s), 0.02) * d for s, d in tokens.items() if s != target)
    loss = FLOOR[target] + 22 / params**0.32 + 60 / max(effective, 1e3) ** 0.4
    return loss * (0.97 if decayed else 1.0)


def synthetic_runs(seed: int = 0) -> Runs:
    """Every language alone and four pairs at three sizes, one mixture of all four, one run from a checkpoint."""
    rng = np.random.default_rng(seed)
    mixtures = [{code: 1.0} for code in UNIQUE]
    mixtures += [{"sv": 0.5, "da": 0.5}, {"id": 0.5, "sw": 0.5}, {"sv": 0.5, "sw": 0.5}, {"da": 0.5, "id": 0.5}]
    mixtures += [dict.fromkeys(UNIQUE, 0.25)]
    table, exposure, losses = [], [], []
    for size, params in SIZES.items():
        for mixture in mixtures:
            for budget in (3e5, 9e5):
                run = f"{size}-{'+'.join(mixture)}-{budget:.0e}"
                table.append(_row(run, params, budget, size, "+".join(mixture)))
                _train(run, params, budget, mixture, rng, exposure, losses)
    table.append(
        _row("small-sw-continued", 3e5, 3e5, "small", "sw") | {"start": "checkpoint", "base": table[-1]["run"]}
    )
    _train("small-sw-continued", 3e5, 3e5, {"sw": 1.0}, rng, exposure, losses)
    return Runs.of(pl.DataFrame(table), pl.DataFrame(exposure), pl.DataFrame(losses))


def _row(run: str, params: float, budget: float, size: str, mixture: str) -> dict[str, object]:
    flops = 6 * params * budget
    return {
        "run": run,
        "params": params,
        "tokens": budget,
        "flops": flops,
        "flops_6nd": flops,
        "seed": 0,
        "start": "scratch",
        "base": None,
        "size": size,
        "mixture": mixture,
    }


def _train(run, params, budget, mixture, rng, exposure, losses) -> None:
    for step in STEPS:
        seen = {code: share * budget * step / STEPS[-1] for code, share in mixture.items()}
        decayed = step == STEPS[-1]
        exposure += [
            {"run": run, "step": step, "language": code, "tokens": tokens, "unique_tokens": UNIQUE[code]}
            for code, tokens in seen.items()
        ]
        for code in mixture:
            bits = planted(code, params, seen, decayed) * float(np.exp(rng.normal(0, 0.004)))
            size = 50_000.0
            losses.append(
                {
                    "run": run,
                    "step": step,
                    "language": code,
                    "split": "validation",
                    "lr_state": "decayed" if decayed else "stable",
                    "nats": bits * np.log(2) * size,
                    "tokens": size / 4,
                    "bytes": size,
                    "unigram_nats": 6.0 * size / 4,
                }
            )


@pytest.fixture(scope="session")
def runs() -> Runs:
    return synthetic_runs()


@pytest.fixture
def study(tmp_path: Path, runs: Runs) -> Path:
    """A study's folder as the laboratory leaves it: a design and the three tables."""
    folder = tmp_path / "synthetic"
    runs.write(folder / "runs")
    design = {
        "name": "synthetic",
        "title": "Four languages with a known law",
        "languages": list(UNIQUE),
        "corpus": {"source": "phrasebook", "seed": 0},
        "tokenizer": {"vocabulary": 1024},
        "groups": [{"name": "monolingual", "why": "the laws' own curves", "runs": runs.names[:8]}],
        "analysis": {"targets": ["sv", "sw"], "plan": {"compute": 1e14, "languages": ["sw", "id", "sv"]}},
    }
    (folder / "design.json").write_text(json.dumps(design), encoding="utf-8")
    return folder
