"""3,000 mutated files for every reader: only typed errors, no hang, memory bounded.

    .venv/bin/python benchmarks/importers_mutated.py [MUTATIONS]

Prints a line a reader: files read, refused, untyped errors, slowest file, peak memory of this process.
"""

import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "importers"), str(ROOT / "tests" / "tabular")]

import test_layouts  # noqa: E402
import test_sources  # noqa: E402

from babelscale import Runs  # noqa: E402
from babelscale.errors import BabelscaleError  # noqa: E402
from babelscale.importers import Mapping, import_runs  # noqa: E402

FILES = test_sources.FILES


def mutated(whole: bytes, generator: random.Random) -> bytes:
    """Bytes changed, cut out and repeated at a few places."""
    data = bytearray(whole)
    for _ in range(generator.randint(1, 3)):
        at = generator.randrange(max(len(data), 1))
        match generator.randrange(4):
            case 0 if data:
                data[at] = generator.randrange(256)
            case 1:
                del data[at : at + generator.randint(1, 8)]
            case 2 if generator.random() < 0.2:
                del data[at:]
            case _:
                data[at:at] = data[at : at + generator.randint(1, 200)]
    return bytes(data)


def with_mapping(path: Path) -> object:
    """Sources that log neither size nor mixture get both here, so that more than their refusal is tried."""
    shares = {path.parent.name: {"sw": 0.5, "yo": 0.5}, path.stem: {"sw": 1.0}}
    return import_runs(path, Mapping(constants={"params": 1e7}, tokens_per_step=1e6, shares=shares))


def originals(folder: Path) -> dict[str, tuple[Path, Callable[[Path], object]]]:
    found: dict[str, tuple[Path, Callable[[Path], object]]] = {}
    for name, pattern in (
        ("wandb", "*/*.wandb"),
        ("tensorboard", "*/*tfevents*"),
        ("huggingface", "*/*/trainer_state.json"),
    ):
        source = min((FILES / name).glob(pattern))
        file = folder / name / source.name
        file.parent.mkdir()
        file.write_bytes(source.read_bytes())
        found[name] = file, import_runs if name == "wandb" else with_mapping
    for write in (test_sources.mlflow_database, test_sources.trackio_database):
        file = folder / f"{write.__name__}.db"
        write(file)
        found[write.__name__] = file, import_runs
    for name in ("plain.csv", "german.csv", "wide.csv", "lines.jsonl", "array.json", "packed.csv.gz"):
        file = folder / name
        file.write_bytes(test_layouts.TEXTS[name])
        found[name] = file, Runs.read
    (folder / "events.jsonl").write_text('{"event": "log", "step": 1, "metrics": {"eval/sw/loss": 4.0}}\n' * 20)
    (folder / "run.log").write_text(test_sources.MEGATRON)
    found["events.jsonl"] = folder / "events.jsonl", with_mapping
    found["run.log"] = folder / "run.log", import_runs
    return found


def main() -> None:
    mutations = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
    bad = 0
    with tempfile.TemporaryDirectory() as name:
        for kind, (file, read) in originals(Path(name)).items():
            generator, whole = random.Random(kind), file.read_bytes()
            counts, slowest = {"read": 0, "refused": 0, "untyped": 0}, 0.0
            for _ in range(mutations):
                file.write_bytes(mutated(whole, generator))
                begins = time.perf_counter()
                try:
                    read(file)
                    counts["read"] += 1
                except BabelscaleError:
                    counts["refused"] += 1
                except Exception as error:  # noqa: BLE001  (what is counted here)
                    counts["untyped"] += 1
                    print(f"  {kind}: {type(error).__name__}: {error}"[:200])
                slowest = max(slowest, time.perf_counter() - begins)
            bad += counts["untyped"]
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(f"{kind}: {counts}, slowest {slowest:.2f} s, peak memory {memory:.0f} MiB", flush=True)
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
