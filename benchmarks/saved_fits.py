"""A slider move over a served folder of saved fits: the server's answer to the page Plan, asked through ASGI.

    python benchmarks/saved_fits.py [--languages 50] [--moves 40]

Fits of the adaptive transfer law with three helpers and 200 draws each are written to a temporary folder. Every move
asks /view/plan for another budget, so that no kept answer serves it. Must hold for 50 languages: p95 at most 150 ms.
"""

import argparse
import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from babelscale.fitting import Fit
from babelscale.languages import table
from babelscale.laws import AdaptiveTransfer
from babelscale.web import create_app

LIMIT, DRAWS = 150.0, 200


def saved(folder: Path, codes: list[str]) -> None:
    """One fit a language, its numbers and draws made up."""
    rng = np.random.default_rng(0)
    for k, code in enumerate(codes):
        law = AdaptiveTransfer(code, (codes[k - 1], codes[k - 2], codes[k - 3]))
        centre = {"E": 0.6, "A": 60.0, "B": 900.0, "alpha": 0.35, "beta": 0.35, "lambda": 0.065}
        values = np.array([centre.get(name, 0.1) for name in law.parameter_names])
        draws = values * np.exp(rng.normal(0, 0.02, (DRAWS, len(values))))
        Fit(
            law,
            dict(zip(law.parameter_names, values, strict=True)),
            0.01,
            draws,
            residual_sd=0.005,
            range={"params": (1e7, 1e9), "tokens": (1e8, 1e10), "total_tokens": (1e8, 1e11), "compute": (6e15, 6e20)},
            unique_tokens=dict.fromkeys((code, *law.sources), 1e10),
            metric="bits_per_byte",
            target=code,
        ).save(folder / f"{code}.json")


def ask(app: Any, query: str) -> tuple[int, bytes]:
    """Status and body of one question."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/view/plan",
        "raw_path": b"/view/plan",
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(b"host", b"127.0.0.1")],
        "client": ("127.0.0.1", 5),
        "server": ("127.0.0.1", 8765),
    }
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--languages", type=int, default=50)
    parser.add_argument("--moves", type=int, default=40)
    asked = parser.parse_args()
    codes = [code for code, language in table().items() if language.unique_tokens][: asked.languages]
    with tempfile.TemporaryDirectory() as folder:
        saved(Path(folder), codes)
        app = create_app(Path(folder))
        wall, cpu = [], []
        for move in range(asked.moves + 1):
            began, spent = time.perf_counter(), time.process_time()
            status, body = ask(app, f"compute={10 ** (18 + 0.05 * move):.6g}")
            wall.append(1000 * (time.perf_counter() - began))
            cpu.append(1000 * (time.process_time() - spent))
            if status != 200:
                raise SystemExit(f"{status}: {body[:500].decode()}")
    print(f"{len(codes)} saved fits with {DRAWS} draws, {asked.moves} moves after a first answer of {wall[0]:.0f} ms")
    for name, each in (("wall", wall[1:]), ("CPU", cpu[1:])):
        median, high = np.quantile(each, [0.5, 0.95])
        print(f"  {name:<5} median {median:5.0f} ms, p95 {high:5.0f} ms (limit {LIMIT:.0f})")


if __name__ == "__main__":
    main()
