from pathlib import Path

import pytest

TINY = """
name = "tiny"
title = "Six runs of a few steps"
languages = ["sv", "da", "sw"]

[corpus]
bytes_per_language = 60_000

[tokenizer]
vocabulary = 400

[recipe]
batch_size = 4
sequence_length = 32
learning_rate = 1e-2
evaluations = 2
evaluation_tokens = 256
checkpoint_every = 10

[sizes]
xs = { layers = 1, heads = 1, d_model = 8, d_ff = 16, d_head = 8 }
s = { layers = 1, heads = 2, d_model = 16, d_ff = 32, d_head = 8 }

[[groups]]
name = "mono"
mixture = "monolingual"
languages = ["sv", "da"]
sizes = ["xs"]
tokens = [4e3]

[[groups]]
name = "pair"
mixture = "bilingual"
pairs = [["sv", "da"]]
sizes = ["xs"]
tokens = [4e3]

[[groups]]
name = "all"
mixture = "unimax"
sizes = ["xs", "s"]
tokens = [4e3]

[[groups]]
name = "continued"
mixture = "monolingual"
languages = ["sw"]
sizes = ["s"]
tokens = [2e3]
continue_from = "all"
"""


@pytest.fixture
def tiny_text() -> str:
    return TINY


@pytest.fixture(scope="session")
def tiny_long() -> str:
    """The tiny design with runs of some seconds, which save seldom."""
    return TINY.replace("[4e3]", "[2e5]").replace("checkpoint_every = 10", "checkpoint_every = 500")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny design as a file."""
    path = tmp_path_factory.mktemp("designs") / "tiny.toml"
    path.write_text(TINY)
    return path
