"""Scan the tracked files for what must not stand in the project. Exit status 1 and one line a finding.

No pickle or evaluation of text in src/, no address of a package registry and no machine's own path anywhere.
"""

import re
import subprocess
import sys
from pathlib import Path

UNSAFE = re.compile(
    r"\b(pickle|cPickle|joblib|dill|shelve|marshal|torch\.load|allow_pickle=True|yaml\.load\(|eval\(|exec\()"
)
REGISTRY = re.compile(r"(?:py)pi\.org|(?:python)hosted|registry\.(?:npm)js|deb\.(?:debian)\.|(?:extra)-index-url")
MACHINE = re.compile(r"(?<![\w.])/(?:work|farm|root)/[a-z.]")


def findings(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (UnicodeDecodeError, FileNotFoundError):
        return []
    found = []
    source = path.parts[0] == "src" and path.suffix == ".py"
    for number, line in enumerate(lines, 1):
        if source and UNSAFE.search(line):
            found.append(f"{path}:{number}: unsafe loader or evaluation")
        if REGISTRY.search(line):
            found.append(f"{path}:{number}: address of a package registry")
        if MACHINE.search(line):
            found.append(f"{path}:{number}: path of one machine")
    return found


def main() -> int:
    listed = subprocess.run(["git", "ls-files", "-z"], check=True, capture_output=True, text=True).stdout
    found = [line for name in listed.split("\0") if name for line in findings(Path(name))]
    print("\n".join(found) or "scan: nothing found")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
