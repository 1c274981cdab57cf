"""A process that tokenises: `python -m babelscale.corpora.worker MODEL FOLDER`, jobs as JSON lines in, reports out.

A process of its own rather than one of `multiprocessing`, which would run the caller's script a second time and unpack
what it is sent unchecked. A report is {"bytes": done since the last one}, then {"finished": record} or {"error": ...}.
"""

import json
import sys
from pathlib import Path
from typing import Any

from babelscale.corpora.tokenising import Job, tokenise
from babelscale.corpora.tokenizer import Tokenizer
from babelscale.errors import BabelscaleError, InputError


def _say(**report: Any) -> None:
    sys.stdout.write(json.dumps(report) + "\n")
    sys.stdout.flush()


def main() -> None:
    tokenizer, folder = Tokenizer(Path(sys.argv[1]).read_bytes()), Path(sys.argv[2])
    for line in sys.stdin:
        try:
            record = tokenise(Job.model_validate_json(line), tokenizer, folder, lambda done: _say(bytes=done))
        except BabelscaleError as error:
            _say(error=error.message, hint=error.hint, input=isinstance(error, InputError))
        else:
            _say(finished=record.model_dump())


if __name__ == "__main__":
    main()
