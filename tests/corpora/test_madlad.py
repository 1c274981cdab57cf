"""MADLAD-400 in its own layout, local and remote: codes, shards, documents, and every fault by its place."""

import gzip
import json
from importlib.util import find_spec
from pathlib import Path

import fsspec
import pytest

from babelscale import languages
from babelscale.corpora import build_store, open_corpus
from babelscale.corpora.madlad import HELD_OUT_TOKENS, HUB, Madlad400, code_of
from babelscale.errors import InputError


def shard(texts: list[str]) -> bytes:
    return gzip.compress(
        "".join(json.dumps({"text": text.replace("\n", "\\n")}) + "\n" for text in texts).encode(), mtime=0
    )


def texts(code: str, start: int, count: int = 100) -> list[str]:
    return [f"{code} title {n}\n{code} words about {n * n}" for n in range(start, start + count)]


@pytest.fixture
def hub(tmp_path) -> Path:
    files = {
        "data/iw/iw_clean_0000.jsonl.gz": texts("he", 0),
        "data/iw/iw_clean_0001.jsonl.gz": texts("he", 100),
        "data/iw/iw_noisy_0000.jsonl.gz": texts("noisy", 0),
        "data/no/no_clean_0000.jsonl.gz": texts("no", 0),
        "data/zh_Latn/zh_Latn_clean_0000.jsonl.gz": texts("zh", 0),
        "data/zxx_xx_dtynoise/zxx_xx_dtynoise_clean_0000.jsonl.gz": texts("zxx", 0),
        "data-v1p5/he/clean_docs_v2-00003-of-00010.jsonl.gz": texts("new", 0),
        "data-v1p5/he/clean_docs_v2-00007-of-00010.jsonl.gz": texts("new", 100),
        "data-v1p5/he/noisy_docs_v2-00000-of-00010.jsonl.gz": texts("noise", 0),
    }
    for name, held in files.items():
        path = tmp_path / "hub" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(shard(held))
    (tmp_path / "hub" / "README.md").write_text("about")
    return tmp_path / "hub"


def test_shards_in_order_codes_of_the_table_and_newlines_back(hub):
    corpus = open_corpus(f"madlad-400@{hub}")
    assert isinstance(corpus, Madlad400)
    assert corpus.languages == ("he", "no")
    assert list(corpus.documents("he")) == texts("he", 0, 200)
    assert list(open_corpus(f"madlad-400:noisy@{hub}/", languages=["he"]).documents("he")) == texts("noisy", 0)
    assert list(open_corpus(f"madlad-400:clean@{hub}/data-v1p5").documents("he")) == texts("new", 0, 200)
    assert list(open_corpus(f"madlad-400@file://{hub}", languages=["x-zh-Latn"]).documents("x-zh-Latn"))


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("iw", "he"),
        ("jw", "jv"),
        ("no", "no"),
        ("sw", "sw"),
        ("nan_Latn_TW", "x-nan-Latn-TW"),
        ("zza", "zza"),
        ("zxx_xx_dtynoise", "x-zxx-xx-dtynoise"),
        ("fil", "fil"),
        ("qqqq", "x-qqqq"),
    ],
)
def test_codes(name, code):
    if not code.startswith("x-") and code not in languages.table():
        code = f"x-{code}"
    assert code_of(name) == code


def test_the_test_rule_is_the_study_s(hub):
    corpus = open_corpus(f"madlad-400@{hub}")
    assert (corpus.held_out_share, corpus.held_out_tokens) == (0.2, HELD_OUT_TOKENS) == (0.2, 20_000_000)
    assert corpus.threshold("he", corpus.parts("he")[0]) == int(0.2 * 2**64)
    few = open_corpus(f"madlad-400@{hub}", held_out_tokens=50)
    assert (
        few.threshold("he", few.parts("he")[0])
        == int(50 * 4 / few.size("he") * 2**64)
        < corpus.threshold("he", corpus.parts("he")[0])
    )
    assert few.fingerprint != corpus.fingerprint


def test_a_store_of_it(hub, tokenizer, tmp_path):
    corpus = open_corpus(f"madlad-400@{hub}")
    store = build_store(corpus, tokenizer, ["he", "no"], tmp_path / "store", workers=2)
    assert tokenizer.decode(store.train("he")) == "".join(line + "\n" for line in corpus.train("he"))
    both = [store.record.languages["he"][split] for split in ("train", "held_out")]
    assert sum(facts.documents for facts in both) * 2 == sum(facts.lines for facts in both) == 400
    assert 0.1 < both[1].documents / 200 < 0.3


def test_a_remote_copy_gives_the_same_text(hub, tokenizer, tmp_path):
    memory = fsspec.filesystem("memory")
    for path in sorted(hub.rglob("*.gz")):
        memory.pipe(f"/mirror/{path.relative_to(hub)}", path.read_bytes())
    local, remote = open_corpus(f"madlad-400@{hub}"), open_corpus("madlad-400@memory://mirror")
    assert remote.languages == local.languages
    assert list(remote.split("he")) == list(local.split("he"))
    before = remote.fingerprint
    store = build_store(remote, tokenizer, ["he"], tmp_path / "store", workers=8)
    assert tokenizer.decode(store.train("he")) == "".join(line + "\n" for line in local.train("he"))
    memory.pipe("/mirror/data/iw/iw_clean_0001.jsonl.gz", shard(texts("he", 100, 110)))
    assert open_corpus("madlad-400@memory://mirror").fingerprint != before


def test_reading_stops_at_the_limit(hub, tokenizer, tmp_path):
    (hub / "data/iw/iw_clean_0001.jsonl.gz").write_bytes(b"never read")
    corpus = open_corpus(f"madlad-400@{hub}", languages=["he"], bytes_per_language=2000)
    build_store(corpus, tokenizer, ["he"], tmp_path / "store")
    assert len(list(corpus.sample("he", 500))) > 10


@pytest.mark.parametrize(
    ("spec", "languages", "message"),
    [
        ("madlad-400:dirty@{hub}", None, "no part 'dirty'"),
        ("madlad-400@{hub}/none", None, "no such folder"),
        ("madlad-400@{hub}/README.md", None, "not a folder"),
        ("madlad-400@{hub}/data/no", None, "no folder of a language"),
        ("madlad-400@{hub}", ["sw"], "no folder of 'sw'.*it holds he, no; under private codes x-zh-Latn, x-zxx"),
        ("madlad-400@{hub}", ["zh_Latn"], "code that only MADLAD-400 uses.*write 'x-zh-Latn'"),
        ("madlad-400@{hub}", ["iw"], "unknown language code 'iw'.*write 'he'"),
        ("madlad-400:noisy@{hub}", ["no"], "data/no: no noisy shard in it"),
    ],
)
def test_faults_of_the_place(hub, spec, languages, message):
    with pytest.raises(InputError, match=f"(?s){message}") as caught:
        open_corpus(spec.format(hub=hub), languages=languages)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "iw_clean_0001.jsonl.gz: the shard is empty"),
        (shard(texts("he", 0))[:-40], "iw_clean_0001.jsonl.gz: broken gzip file, readable up to line"),
        (shard([]), "iw_clean_0001.jsonl.gz: it contains no line of text"),
        (gzip.compress(b'{"text": "a"}\n{"text": ', mtime=0), "iw_clean_0001.jsonl.gz, line 2: not JSON"),
        (gzip.compress(b'{"text": "a"}\n{"body": "b"}\n', mtime=0), "iw_clean_0001.jsonl.gz, line 2: no field 'text'"),
        (
            gzip.compress(b'{"text": "a"}\n{"text": "\xff"}\n', mtime=0),
            "iw_clean_0001.jsonl.gz, line 2: byte 24 of the text",
        ),
        (gzip.compress(b'{"text": 3}\n', mtime=0), "iw_clean_0001.jsonl.gz, line 1: 'text' is a int"),
    ],
)
def test_faults_of_a_shard(hub, tokenizer, tmp_path, data, message):
    (hub / "data/iw/iw_clean_0001.jsonl.gz").write_bytes(data)
    with pytest.raises(InputError, match=message) as caught:
        build_store(open_corpus(f"madlad-400@{hub}"), tokenizer, ["he", "no"], tmp_path / "store")
    assert str(hub) in str(caught.value)
    assert caught.value.hint
    assert not (tmp_path / "store").exists()


def test_a_shard_that_is_missing(hub):
    (hub / "data/iw/iw_clean_0000.jsonl.gz").unlink()
    with pytest.raises(InputError, match=r"iw_clean_0000.jsonl.gz: the shard is missing"):
        open_corpus(f"madlad-400@{hub}")


def test_two_folders_of_one_language(hub):
    (hub / "data" / "he").mkdir()
    with pytest.raises(InputError, match="he and iw are both 'he'"):
        open_corpus(f"madlad-400@{hub}")


def test_the_hub_without_its_package():
    if find_spec("huggingface_hub"):
        pytest.skip("huggingface_hub is installed here")
    with pytest.raises(InputError, match=r"huggingface_hub") as caught:
        open_corpus("madlad-400")
    assert HUB in str(caught.value)
    assert "pip install huggingface_hub" in str(caught.value.hint)
