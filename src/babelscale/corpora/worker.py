"""A process that tokenises parts of a corpus: `python -m babelscale.corpora.worker MODEL FOLDER`."""

import sys
from pathlib import Path
from typing import Any

from babelscale import workers
from babelscale.corpora.tokenising import TokeniseJob, tokenise
from babelscale.corpora.tokenizer import Tokenizer


def main() -> None:
    tokenizer, folder = Tokenizer(Path(sys.argv[1]).read_bytes()), Path(sys.argv[2])

    def answer(job: Any) -> Any:
        return tokenise(TokeniseJob.model_validate(job), tokenizer, folder, workers.report_progress).model_dump()

    workers.serve(answer)


if __name__ == "__main__":
    main()
