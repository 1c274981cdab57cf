"""Size of a file of records beside the record.json files that it holds: 1,300 runs of 37 languages, random losses.

    python benchmarks/records_file.py

Limit: 3 MB.
"""

import json
import tempfile
import time
from pathlib import Path

import numpy as np

from babelscale.corpora import TokenStore, open_corpus
from babelscale.study import Study, record, records
from babelscale.training import LOG
from babelscale.training.batches import Batches

LIMIT = 3e6


def design() -> dict[str, object]:
    codes = sorted(open_corpus("phrasebook").languages)[:37]
    lengths = [1e5 * 2**k for k in range(4)]
    widths = (8, 16, 24)
    names = [f"w{width}" for width in widths]
    return {
        "name": "many",
        "languages": codes,
        "corpus": {"bytes_per_language": 60_000},
        "tokenizer": {"vocabulary": 2000},
        "recipe": {"batch_size": 4, "sequence_length": 64, "evaluation_tokens": 512},
        "sizes": {f"w{w}": {"layers": 1, "heads": 1, "d_model": w, "d_ff": w, "d_head": 8} for w in widths},
        "groups": [
            {"name": "mono", "mixture": "monolingual", "sizes": names, "tokens": lengths},
            {"name": "pairs", "mixture": "bilingual", "sizes": ["w16"], "tokens": lengths[:1]},
            {"name": "all", "mixture": "uniform", "sizes": names, "tokens": lengths, "seeds": list(range(16))},
        ],
    }


def leave(study: Study, rng: np.random.Generator) -> int:
    """Records of all runs, as training leaves them; returns their bytes."""
    store = TokenStore.open(study.folder / "corpus")
    size = 0
    for name, spec in study.specs.items():
        folder = study.finished(name)
        folder.mkdir(parents=True)
        lines = [
            {
                "step": step,
                "language": code,
                "lr_state": "decayed" if step == spec.steps else "stable",
                "split": "validation",
                "nats": float(rng.uniform(1e3, 4e3)),
                "tokens": 512,
                "bytes": store.bytes(code, "held_out"),
                "unigram_nats": float(store.unigram_nats(code)[:9].sum()),
            }
            for step in spec.recipe.evaluation_steps(spec.steps)
            for code in sorted(spec.mixture.languages)
        ]
        (folder / LOG).write_text("".join(json.dumps(line) + "\n" for line in lines))
        text = {code: store.train(code) for code in spec.mixture.languages}
        batches = Batches(text, spec.mixture, spec.seed, spec.recipe.batch_size, spec.recipe.sequence_length)
        record.write(spec, batches, {code: batches.unique_tokens(code) for code in text}, folder)
        (folder / record.TIMING).write_text(json.dumps({"seconds": 60.0, "tokens": spec.tokens}) + "\n")
        size += (folder / record.RECORD).stat().st_size
    return size


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        study = Study.create(design(), Path(place) / "many")
        study.prepare()
        size = leave(study, np.random.default_rng(0))
        began = time.perf_counter()
        written = records.write(study, Path(place) / "records.jsonl.xz")
        took = time.perf_counter() - began
        began = time.perf_counter()
        records.read(written.file)
        read = time.perf_counter() - began
    sizes = f"record.json {size / 1e6:.1f} MB, file {written.bytes / 1e6:.2f} MB (limit {LIMIT / 1e6:.0f})"
    print(f"{written.runs} runs: {sizes}")
    print(f"written in {took:.1f} s, read and checked in {read:.1f} s")
    if written.bytes > LIMIT:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
