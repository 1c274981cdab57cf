"""Seconds that `babelscale study plan` takes, the whole command, for each built-in design.

Usage: .venv/bin/python benchmarks/study_plan.py
Must hold: atlas-2025's 774 runs over all languages in under 2 s; exit status 1 where it does not.
"""

import resource
import statistics
import subprocess
import sys
import time

DESIGNS = ("quickstart", "laptop", "single-gpu", "atlas-2025")
LIMITS = {"atlas-2025": 2.0}
REPEATS = 5


def seconds(design: str) -> tuple[float, float]:
    """Elapsed and CPU seconds."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-m", "babelscale", "study", "plan", design], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - began, used


def main() -> int:
    failed = 0
    print(f"{'design':<14}{'seconds':>9}{'CPU s':>8}{'limit':>8}   medians of {REPEATS}")
    for design in DESIGNS:
        took = [seconds(design) for _ in range(REPEATS)]
        elapsed, used = (statistics.median(column) for column in zip(*took, strict=True))
        limit = LIMITS.get(design)
        print(f"{design:<14}{elapsed:>9.2f}{used:>8.2f}{limit or '':>8}")
        failed |= limit is not None and elapsed >= limit
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
