"""`make demo` as its user meets it, in a clean clone: the first time, then the same command again.

Usage: .venv/bin/python benchmarks/demo.py [--here]     (--here: in this checkout's environment, into a new folder)
Must hold: first run at most 360 s after installation on 2 cores, at least 24 runs of at least 2 sizes, one mixture of
several languages, one run continued from a checkpoint, exit 0; second run trains nothing and ends within 20 s.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]


def timed(command: list[str], folder: Path) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, cwd=folder)
    return time.perf_counter() - began


def trained(study: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in study.glob("finished/*/record.json")}


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        if "--here" in sys.argv:
            folder, demo = Path(temporary), [str(ROOT / ".venv/bin/babelscale"), "study", "run", "quickstart"]
        else:
            folder, demo = Path(temporary) / "clone", ["make", "demo"]
            subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
            print(f"installation   {timed(['make', '.venv/.made'], folder):7.1f} s")
        first = timed(demo, folder)
        study = folder / "studies" / "quickstart"
        before = trained(study)
        second = timed(demo, folder)
        again = trained(study)
        records = [json.loads(path.read_text())["run"] for path in study.glob("finished/*/record.json")]
        mixed = max(
            len({row["language"] for row in json.loads(path.read_text())["exposure"]})
            for path in study.glob("finished/*/record.json")
        )
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
        print(f"first run      {first:7.1f} s   (limit 360)")
        print(f"second run     {second:7.1f} s   (limit 20)")
        print(f"trained again  {len(set(again.items()) - set(before.items())):7d}")
        print(f"runs           {len(records):7d}     (at least 24)")
        print(f"sizes          {len({record['params'] for record in records}):7d}     (at least 2)")
        print(f"widest mixture {mixed:7d}     languages")
        print(f"continued      {sum(record['start'] == 'checkpoint' for record in records):7d}")
        print(f"report         {(study / 'report.html').stat().st_size / 1e6:7.2f} MB")
        print(f"peak memory    {peak:7.2f} GB  of the largest single process")


if __name__ == "__main__":
    main()
