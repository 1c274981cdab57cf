"""CPU seconds of `import babelscale` and `babelscale --help`, beside an empty interpreter, and what they load.

Usage: .venv/bin/python benchmarks/start_up.py
Must hold: import < 0.3 s, help < 0.6 s of CPU, JAX not imported.
"""

import resource
import statistics
import subprocess
import sys

CASES = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import babelscale": [sys.executable, "-c", "import babelscale"],
    "babelscale --help": [sys.executable, "-m", "babelscale", "--help"],
    "babelscale plan --published": [
        sys.executable,
        "-m",
        "babelscale",
        "plan",
        "--languages",
        "sw,yo,ha",
        "--compute",
        "1e21",
        "--published",
    ],
}
LIMITS = {"import babelscale": 0.3, "babelscale --help": 0.6, "babelscale plan --published": 1.5}
REPEATS = 7


def cpu_seconds(command: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def loads_jax(code: str) -> bool:
    check = f"{code}\nimport sys; sys.exit('jax' in sys.modules)"
    return bool(subprocess.run([sys.executable, "-c", check], check=False, stdout=subprocess.DEVNULL).returncode)


def main() -> None:
    base = 0.0
    print(f"{'command':<30}{'CPU s (median)':>16}{'less python':>13}{'limit':>8}")
    for name, command in CASES.items():
        seconds = statistics.median(cpu_seconds(command) for _ in range(REPEATS))
        base = base or seconds
        limit = LIMITS.get(name)
        print(f"{name:<30}{seconds:>16.3f}{seconds - base:>13.3f}{limit or '':>8}")
    print(f"JAX imported by import babelscale: {loads_jax('import babelscale')}")
    by_help = loads_jax("from babelscale.cli import app; app(['--help'])")
    print(f"JAX imported by --help: {by_help}")


if __name__ == "__main__":
    main()
