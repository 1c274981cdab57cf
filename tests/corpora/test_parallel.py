"""Parallel test sets: every layout by the names of its files, aligned or refused; the third split of a store."""

import tarfile
from pathlib import Path

import fsspec
import numpy as np
import pytest

from babelscale.corpora import build_store, open_corpus, open_parallel
from babelscale.errors import InputError

MINI12 = Path(__file__).parents[3] / "shared" / "corpora" / "mini12.tar.xz"


def put(folder: Path, *names: str, lines: int = 5) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text("".join(f"{name} line {n}\n" for n in range(lines)))
    return folder


FLORES = [
    "arb_Arab",
    "arb_Latn",
    "acm_Arab",
    "eng_Latn",
    "zho_Hans",
    "zho_Hant",
    "swh_Latn",
    "nob_Latn",
    "uzn_Latn",
    "pes_Arab",
    "npi_Deva",
    "tgl_Latn",
    "zsm_Latn",
    "heb_Hebr",
    "ydd_Hebr",
    "khk_Cyrl",
    "ory_Orya",
    "lvs_Latn",
    "plt_Latn",
    "pbt_Arab",
    "azj_Latn",
    "gaz_Latn",
    "kmr_Latn",
    "yue_Hant",
]


@pytest.mark.parametrize(
    ("code", "file"),
    [
        ("ar", "arb_Arab"),
        ("acm", "acm_Arab"),
        ("en", "eng_Latn"),
        ("zh", "zho_Hans"),
        ("sw", "swh_Latn"),
        ("no", "nob_Latn"),
        ("nb", "nob_Latn"),
        ("uz", "uzn_Latn"),
        ("fa", "pes_Arab"),
        ("ne", "npi_Deva"),
        ("fil", "tgl_Latn"),
        ("ms", "zsm_Latn"),
        ("he", "heb_Hebr"),
        ("yi", "ydd_Hebr"),
        ("mn", "khk_Cyrl"),
        ("or", "ory_Orya"),
        ("lv", "lvs_Latn"),
        ("mg", "plt_Latn"),
        ("ps", "pbt_Arab"),
        ("az", "azj_Latn"),
        ("om", "gaz_Latn"),
        ("ku", "kmr_Latn"),
        ("yue", "yue_Hant"),
    ],
)
@pytest.mark.parametrize("inner", ["devtest", "."])
def test_flores_200(tmp_path, code, file, inner):
    put(tmp_path / inner, *(f"{name}.devtest" for name in FLORES), "README")
    parallel = open_parallel(tmp_path, [code, "sv"])
    assert parallel.lines(code)[2] == f"{file}.devtest line 2"
    assert (parallel.languages, parallel.missing) == ((code,), ("sv",))


def test_flores_101(tmp_path):
    put(tmp_path, *(f"{name}.devtest" for name in ("ara", "eng", "zho_simpl", "zho_trad", "swh", "mon", "msa", "fas")))
    parallel = open_parallel(tmp_path, ["ar", "en", "zh", "sw", "mn", "ms", "fa"])
    assert parallel.missing == ()
    assert parallel.lines("zh")[0] == "zho_simpl.devtest line 0"
    assert parallel.lines("ar")[0] == "ara.devtest line 0"


def test_ntrex(tmp_path):
    references = [
        "arb",
        "eng-US",
        "eng-GB",
        "fra",
        "fra-CA",
        "zho-CN",
        "zho-TW",
        "swa",
        "srp-Cyrl",
        "srp-Latn",
        "msa",
        "aze-Latn",
        "ckb-Arab",
        "nob",
        "nno",
        "por",
        "por-BR",
        "lav",
        "sqi",
    ]
    names = [
        "newstest2019-src.eng.txt",
        "newstest2019-ref-2.spa.txt",
        *(f"newstest2019-ref.{x}.txt" for x in references),
    ]
    put(tmp_path / "NTREX-128", *names)
    parallel = open_parallel(tmp_path, ["ar", "en", "fr", "zh", "sw", "sr", "ms", "az", "ckb", "no", "nn", "pt", "es"])
    assert parallel.missing == ("es",)
    expected = {
        "en": "src.eng",
        "fr": "ref.fra",
        "zh": "ref.zho-CN",
        "sr": "ref.srp-Cyrl",
        "pt": "ref.por",
        "no": "ref.nob",
        "nn": "ref.nno",
        "sw": "ref.swa",
    }
    for code, name in expected.items():
        assert parallel.lines(code)[0] == f"newstest2019-{name}.txt line 0"


def test_plain_files_local_and_remote(tmp_path):
    put(tmp_path, "no.txt", "nan.txt", "sw.txt")
    memory = fsspec.filesystem("memory")
    for path in tmp_path.iterdir():
        memory.pipe(f"/aligned/{path.name}", path.read_bytes())
    local, remote = open_parallel(tmp_path, ["nan", "no"]), open_parallel("memory://aligned", ["no", "nan"])
    assert local.languages == remote.languages == ("nan", "no")
    assert local.fingerprint == remote.fingerprint != open_parallel(tmp_path, ["no"]).fingerprint
    with pytest.raises(InputError, match="has no 'sw'"):
        local.lines("sw")


def test_blank_lines_stay_and_line_ends_go(tmp_path):
    put(tmp_path, "en.txt", lines=3)
    (tmp_path / "sw.txt").write_bytes(b"\xef\xbb\xbfmoja\r\n\r\ntatu")
    assert open_parallel(tmp_path, ["en", "sw"]).lines("sw") == ("moja", "", "tatu")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"one\ntwo\n", "sw.txt: it has 2 lines, but .*en.txt has 5"),
        (b"", "sw.txt: it contains no line of text"),
        (b"a\nb\n\xff\nd\ne\n", "sw.txt, line 3: byte 4 of the text .* is not UTF-8"),
    ],
)
def test_faults_of_a_file(tmp_path, data, message):
    put(tmp_path, "en.txt")
    (tmp_path / "sw.txt").write_bytes(data)
    with pytest.raises(InputError, match=message):
        open_parallel(tmp_path, ["en", "sw"])


def test_faults_of_the_place(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        open_parallel(tmp_path / "none", ["en"])
    with pytest.raises(InputError, match="no parallel files"):
        open_parallel(tmp_path, ["en"])
    put(tmp_path, "en.txt")
    with pytest.raises(InputError, match=r"(?s)none of 'sw' in it.*it holds en.txt"):
        open_parallel(tmp_path, ["sw"])
    with pytest.raises(InputError, match="unknown language code 'swa'"):
        open_parallel(tmp_path, ["swa"])


@pytest.fixture
def text(tmp_path) -> Path:
    folder = tmp_path / "text"
    folder.mkdir()
    for code in ("en", "no"):
        lines = [f"{code} line {n} says {n * 7919 % 1009}" for n in range(2000)]
        (folder / f"{code}.txt").write_text("\n".join(lines))
    return folder


@pytest.mark.parametrize("workers", [1, 2])
def test_the_third_split_and_its_lines_out_of_training(text, tokenizer, tmp_path, workers):
    corpus = open_corpus(text)
    train, held_out = list(corpus.train("en")), list(corpus.held_out("en"))
    aligned = [train[7], "said nowhere else", held_out[3], train[70], train[7]]
    (tmp_path / "aligned").mkdir()
    (tmp_path / "aligned" / "en.txt").write_text("\n".join(aligned))
    parallel = open_parallel(tmp_path / "aligned", ["en", "no"])
    store = build_store(corpus, tokenizer, ["en", "no"], tmp_path / "store", parallel=parallel, workers=workers)
    assert (store.has_parallel("en"), store.has_parallel("no")) == (True, False)
    assert tokenizer.decode(store.parallel("en")) == "".join(line + "\n" for line in aligned)
    assert store.count("en", "parallel") == len(store.parallel("en"))
    assert store.bytes("en", "parallel") == sum(len(line) + 1 for line in aligned)
    starts = store.documents("en", "parallel").astype(np.int64)
    assert [tokenizer.decode(part) for part in np.split(store.parallel("en"), starts[1:])] == [
        x + "\n" for x in aligned
    ]
    kept = [line for line in train if line not in aligned]
    assert tokenizer.decode(store.train("en")) == "".join(line + "\n" for line in kept)
    assert tokenizer.decode(store.held_out("en")) == "".join(line + "\n" for line in held_out)
    facts = store.record.languages["en"]["train"]
    assert (facts.documents, facts.lines, store.record.dropped["en"].parallel_lines) == (len(kept), len(kept), 2)
    assert store.bytes("en", "train") == sum(len(line) + 1 for line in kept)
    assert store.record.parallel == parallel.fingerprint
    counts = np.fromfile(store.folder / "en.counts.bin", dtype="<u8")
    np.testing.assert_array_equal(counts, np.bincount(store.train("en"), minlength=store.vocabulary_size))
    with pytest.raises(InputError, match="no parallel lines of 'no'"):
        store.parallel("no")
    with pytest.raises(InputError, match="no parallel lines of 'no'"):
        store.count("no", "parallel")
    assert build_store(corpus, tokenizer, ["en", "no"], tmp_path / "without").hash != store.hash


def test_a_document_loses_single_lines(tokenizer, tmp_path):
    import json

    texts = [f"title {n}\nwords about {n * n}\nthe end of {n}" for n in range(500)]
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "en.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    corpus = open_corpus(tmp_path / "text")
    first = next(corpus.train("en"))
    whole = [document for document, out in corpus.split("en") if not out][1]
    put(tmp_path / "aligned", "en.txt")
    (tmp_path / "aligned" / "en.txt").write_text(first + "\n" + whole)
    parallel = open_parallel(tmp_path / "aligned", ["en"])
    store = build_store(corpus, tokenizer, ["en"], tmp_path / "store", parallel=parallel)
    starts = store.documents("en", "train").astype(np.int64)
    found = [tokenizer.decode(part) for part in np.split(store.train("en"), starts[1:])]
    wanted = [document + "\n" for document, out in corpus.split("en") if not out]
    wanted[0] = wanted[0].removeprefix(first + "\n")
    assert found == [wanted[0], *wanted[2:]]
    assert store.record.dropped["en"].parallel_lines == 4


def test_a_parallel_set_that_changes_is_seen_on_resuming(text, tokenizer, tmp_path):
    corpus = open_corpus(text)
    put(tmp_path / "aligned", "en.txt")
    stores = []
    for n, lines in enumerate((["a", "b"], ["b", "a"])):
        (tmp_path / "aligned" / "en.txt").write_text("\n".join(lines))

        def stop(label: str, done: int, total: int) -> None:
            if done == total:
                raise KeyboardInterrupt

        parallel = open_parallel(tmp_path / "aligned", ["en"])
        if n == 0:
            with pytest.raises(KeyboardInterrupt):
                build_store(corpus, tokenizer, ["en"], tmp_path / "store", parallel=parallel, progress=stop)
        else:
            stores.append(build_store(corpus, tokenizer, ["en"], tmp_path / "store", parallel=parallel))
    assert tokenizer.decode(stores[0].parallel("en")) == "b\na\n"


@pytest.mark.skipif(not MINI12.is_file(), reason=f"{MINI12} is not there")
def test_flores_of_mini12(tmp_path):
    with tarfile.open(MINI12) as archive:
        archive.extractall(tmp_path, filter="data")
    corpus = open_corpus(tmp_path / "mini12")
    parallel = open_parallel(tmp_path / "mini12" / "flores_devtest", corpus.languages)
    assert parallel.missing == ()
    assert {len(parallel.lines(code)) for code in corpus.languages} == {1012}
