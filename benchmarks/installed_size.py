"""Megabytes of a fresh environment with `pip install .` (analysis only) beside one with the laboratory.

Usage: .venv/bin/python benchmarks/installed_size.py [--lab]
Must hold: analysis only < 400 MB. Then fits, compares and plans with it, so that it is known to be enough.
"""

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
TABLE = "language,params,tokens,unique_tokens,loss\n" + "".join(
    f"no,{N},{D},1e9,{1.5 + 400 / N**0.35 + 900 / D**0.35}\n"
    for N in (1e6, 4e6, 1.6e7, 6.4e7)
    for D in (1e7, 4e7, 1.6e8)
)


def megabytes(folder: Path) -> float:
    """Bytes on disk as the file system counts them."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*")) / 1e6


def installed(what: str, folder: Path) -> Path:
    venv.create(folder, with_pip=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, what], check=True, cwd=ROOT)
    return folder / "bin" / "babelscale"


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        program = installed(".", folder / "analysis")
        print(f"pip install .        {megabytes(folder / 'analysis'):7.0f} MB   (limit 400)")
        table = folder / "runs.csv"
        table.write_text(TABLE)
        for command in (
            ["fit", table, "--target", "no"],
            ["plan", "--languages", "sw,yo,ha", "--compute", "1e21", "--published"],
            ["transfer", "--published", "--target", "sw"],
            ["compare", table, "--laws", "chinchilla,data-constrained"],
        ):
            subprocess.run([program, *command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            print(f"  works: babelscale {command[0]}")
        if "--lab" in sys.argv:
            installed(".[lab]", folder / "lab")
            print(f"pip install '.[lab]' {megabytes(folder / 'lab'):7.0f} MB")


if __name__ == "__main__":
    main()
