"""The example of the guide, run as it stands."""

import re
import subprocess
import sys
from pathlib import Path

GUIDE = (Path(__file__).parents[2] / "docs" / "transfer.md").read_text(encoding="utf-8")


def test_the_script_of_the_guide_runs():
    (script,) = re.findall(r"```python\n(.*?)```", GUIDE, re.S)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "target means explain 83 % of the variance" in done.stdout
    assert "predicted" in done.stdout
