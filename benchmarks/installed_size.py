"""Megabytes of `pip install .` (analysis only) beside those with the laboratory: its download, and the disk it fills.

Usage: .venv/bin/python benchmarks/installed_size.py [--lab]
Must hold: the wheels of the analysis alone are at most 130 MB, and all of it comes as wheels. Then it fits, compares
and plans, so that it is known to be enough. Exit status 1 where the download is larger.
"""

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIMIT = 130
TABLE = "language,params,tokens,unique_tokens,loss\n" + "".join(
    f"no,{N},{D},1e9,{1.5 + 400 / N**0.35 + 900 / D**0.35}\n"
    for N in (1e6, 4e6, 1.6e7, 6.4e7)
    for D in (1e7, 4e7, 1.6e8)
)


def megabytes(folder: Path) -> float:
    """Bytes on disk as the file system counts them."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*")) / 1e6


def measure(what: str, folder: Path) -> tuple[Path, float]:
    """Download the wheels of `what`, install them from there alone; the environment and the megabytes of the wheels."""
    wheels, environment = folder / "wheels", folder / "environment"
    venv.create(environment, with_pip=True)
    pip = [environment / "bin" / "python", "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", wheels, "."], check=True, cwd=ROOT)
    (own,) = wheels.glob("*.whl")
    named = f"{own}{what.removeprefix('.')}"
    subprocess.run([*pip, "download", "--only-binary=:all:", "--dest", wheels, named], check=True)
    subprocess.run([*pip, "install", "--no-index", "--find-links", wheels, named], check=True)
    return environment, sum(path.stat().st_size for path in wheels.iterdir()) / 1e6


def main() -> int:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        environment, download = measure(".", folder / "analysis")
        print(
            f"pip install .        download {download:5.0f} MB (limit {LIMIT}), disk {megabytes(environment):5.0f} MB"
        )
        table = folder / "runs.csv"
        table.write_text(TABLE)
        for command in (
            ["fit", table, "--target", "no"],
            ["plan", "--languages", "sw,yo,ha", "--compute", "1e21", "--published"],
            ["transfer", "--published", "--target", "sw"],
            ["compare", table, "--laws", "chinchilla,data-constrained"],
        ):
            program = environment / "bin" / "babelscale"
            subprocess.run([program, *command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            print(f"  works: babelscale {command[0]}")
        if "--lab" in sys.argv:
            environment, lab = measure(".[lab]", folder / "lab")
            print(f"pip install '.[lab]' download {lab:5.0f} MB,             disk {megabytes(environment):5.0f} MB")
    return 0 if download <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
