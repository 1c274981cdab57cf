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
sys.path.insert(0, str(ROOT))

import polars as pl  # noqa: E402
from tests.importers import test_exports, test_sources  # noqa: E402
from tests.tabular import test_excel, test_layouts  # noqa: E402

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


def with_steps(path: Path) -> object:
    """Event files hold sizes and mixtures, and no tokens."""
    return import_runs(path, Mapping(tokens_per_step=1e6))


def with_sizes(path: Path) -> object:
    """A trainer's state holds tokens, and neither sizes nor mixtures where no model lies beside it."""
    return import_runs(path, Mapping(constants={"params": 1e7}, shares={path.parent.name: {"sw": 0.5, "yo": 0.5}}))


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
        found[name] = file, {"wandb": import_runs, "tensorboard": with_steps, "huggingface": with_sizes}[name]
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
    return found | folders(folder) | tables(folder)


def folders(place: Path) -> dict[str, tuple[Path, Callable[[Path], object]]]:
    """Sources of several files; one of them is damaged, and the whole folder is read."""
    found: dict[str, tuple[Path, Callable[[Path], object]]] = {}
    for name, write, mapping, pattern in (
        ("lm-eval", *test_exports.WRITERS["lm-eval"], "*/results_*.json"),
        ("olmo-core", *test_exports.WRITERS["olmo-core"], "*/metrics_step200.json"),
        ("mlflow-meta", test_exports.write_mlflow_files, None, "*/*/meta.yaml"),
        ("mlflow-metric", test_exports.write_mlflow_files, None, "*/*/metrics/tokens"),
        ("wandb-chart", test_exports.write_wandb_charts, None, "wandb_export_sw.csv"),
        ("wandb-table", test_exports.write_wandb_charts, None, "runs.csv"),
        ("wandb-history", test_exports.write_wandb_histories, None, "*/0000.parquet"),
    ):
        source = place / name
        write(source)
        found[name] = min(source.glob(pattern)), lambda _, source=source, mapping=mapping: import_runs(source, mapping)
    runs = import_runs(place / "mlflow-meta").runs
    runs.write(place / "study" / "runs")
    found["study"] = place / "study" / "runs" / "exposure.parquet", lambda _: import_runs(place / "study")
    return found


def tables(place: Path) -> dict[str, tuple[Path, Callable[[Path], object]]]:
    """Formats of one table that are not text."""
    frame = pl.DataFrame(test_excel.ROWS[1:], schema=test_excel.HEADER, orient="row")
    test_excel.workbook(place / "runs.xlsx", test_excel.sheet(test_excel.ROWS))
    frame.write_parquet(place / "runs.parquet")
    frame.write_ipc(place / "runs.feather")
    frame.write_ipc_stream(place / "runs.arrow")
    # Inside a workbook damage mostly breaks the archive's checksums; here the XML itself is damaged.
    sheet = place / "sheet.xml"
    sheet.write_text(test_excel.sheet(test_excel.ROWS))

    def packed(path: Path) -> object:
        return Runs.read(test_excel.workbook(place / "packed.xlsx", path.read_bytes().decode("utf-8", "replace")))

    names = ("runs.xlsx", "runs.parquet", "runs.feather", "runs.arrow")
    return {name: (place / name, Runs.read) for name in names} | {"sheet.xml": (sheet, packed)}


def main() -> None:
    mutations = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
    bad = 0
    with tempfile.TemporaryDirectory() as name:
        for kind, (file, read) in originals(Path(name)).items():
            generator, whole = random.Random(kind), file.read_bytes()
            read(file)
            counts, slowest = {"read": 0, "refused": 0, "untyped": 0}, 0.0
            for _ in range(mutations):
                file.write_bytes(mutated(whole, generator))
                begins = time.perf_counter()
                try:
                    read(file)
                    counts["read"] += 1
                except BabelscaleError:
                    counts["refused"] += 1
                except BaseException as error:
                    if isinstance(error, KeyboardInterrupt):
                        raise
                    counts["untyped"] += 1
                    print(f"  {kind}: {type(error).__name__}: {error}"[:200])
                slowest = max(slowest, time.perf_counter() - begins)
            file.write_bytes(whole)
            bad += counts["untyped"]
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(f"{kind}: {counts}, slowest {slowest:.2f} s, peak memory {memory:.0f} MiB", flush=True)
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
