"""Scan the tracked files for what must not stand in the project. Exit status 1 and one line a finding.

No pickle or evaluation of text in src/, no class name that src/ defines twice, at most 20 `fmt: skip`, no address of a
package registry and no machine's own path anywhere.
"""

import collections
import re
import subprocess
import sys
from pathlib import Path

UNSAFE = re.compile(
    r"\b(pickle|cPickle|joblib|dill|shelve|marshal|torch\.load|allow_pickle=True|yaml\.load\(|eval\(|exec\()"
)
REGISTRY = re.compile(r"(?:py)pi\.org|(?:python)hosted|registry\.(?:npm)js|deb\.(?:debian)\.|(?:extra)-index-url")
CLASS = re.compile(r"^\s*class (\w+)")
FORMATTED_BY_HAND = "# fmt: " + "skip"
MOST_FORMATTED_BY_HAND = 20
MACHINE = re.compile(r"(?<![\w.])/(?:work|farm|root)/[a-z.]")


def read(path: Path) -> list[str]:
    """The lines of a text file; none for a file that is not text or is gone from the working tree."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (UnicodeDecodeError, FileNotFoundError):
        return []


def is_source(path: Path) -> bool:
    return path.parts[0] == "src" and path.suffix == ".py"


def findings(path: Path, lines: list[str]) -> list[str]:
    found = []
    for number, line in enumerate(lines, 1):
        if is_source(path) and UNSAFE.search(line):
            found.append(f"{path}:{number}: unsafe loader or evaluation")
        if REGISTRY.search(line):
            found.append(f"{path}:{number}: address of a package registry")
        if MACHINE.search(line):
            found.append(f"{path}:{number}: path of one machine")
    return found


def findings_of_the_whole(files: dict[Path, list[str]]) -> list[str]:
    """Class names that stand twice, and too many lines that the formatter is told to skip."""
    places = collections.defaultdict(list)
    for path, lines in files.items():
        if is_source(path):
            for number, line in enumerate(lines, 1):
                if named := CLASS.match(line):
                    places[named[1]].append(f"{path}:{number}")
    found = [f"class {name} is defined more than once: {', '.join(at)}" for name, at in places.items() if len(at) > 1]
    skipped = sum(line.endswith(FORMATTED_BY_HAND) for lines in files.values() for line in lines)
    if skipped > MOST_FORMATTED_BY_HAND:
        found.append(f"{skipped} lines end in {FORMATTED_BY_HAND!r}, more than {MOST_FORMATTED_BY_HAND}")
    return found


def main() -> int:
    listed = subprocess.run(["git", "ls-files", "-z"], check=True, capture_output=True, text=True).stdout
    files = {Path(name): read(Path(name)) for name in listed.split("\0") if name}
    found = [line for path, lines in files.items() for line in findings(path, lines)]
    found += findings_of_the_whole(files)
    print("\n".join(found) or "scan: nothing found")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
