"""Uploads: what is taken, what is refused and why, and that nothing hurts the server or stays behind."""

import asyncio
import bz2
import gzip
import io
import json
import lzma
import os
import random
import signal
import stat
import tarfile
import tempfile
import zipfile
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from urllib.parse import quote

import polars as pl
import pytest
from tests.tabular.test_excel import sheet, workbook

from babelscale import Runs
from babelscale.web import create_app, uploads
from babelscale.web.pages.laws import example
from babelscale.web.uploads import LIMIT, Refused, UploadParser, Uploads

PART = 65536
CSV = example().encode()


def _parquet(frame: pl.DataFrame) -> bytes:
    held = io.BytesIO()
    frame.write_parquet(held)
    return held.getvalue()


FLAT = pl.read_csv(CSV).cast({"params": pl.Float64, "tokens": pl.Float64, "unique_tokens": pl.Float64})
TABLES = {"csv": CSV, "parquet": _parquet(FLAT), "jsonl": FLAT.write_ndjson().encode()}


class Place:
    """An application whose temporary files lie in a folder of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.app = create_app()
        self.folder = folder

    @property
    def uploads(self) -> Path:
        (found,) = self.folder.glob("babelscale-uploads-*")
        return found

    def post(self, name: str, parts: Iterable[bytes], **headers: str) -> tuple[int, dict, int]:
        """Status, answer and the bytes of the body that were asked for."""
        return asyncio.run(self._post(name, list_of(parts), headers))

    async def _post(self, name: str, parts: AsyncIterator[dict], headers: dict[str, str]) -> tuple[int, dict, int]:
        given = {"host": "127.0.0.1:8765"} | {key.replace("_", "-"): value for key, value in headers.items()}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": "/api/tables",
            "raw_path": b"/api/tables",
            "query_string": f"name={quote(name)}".encode(),
            "root_path": "",
            "headers": [(key.encode(), value.encode()) for key, value in given.items()],
            "client": ("127.0.0.1", 5),
            "server": ("127.0.0.1", 8765),
        }
        taken, answers = 0, []

        async def receive() -> dict:
            nonlocal taken
            message = await anext(parts)
            taken += len(message.get("body", b""))
            return message

        async def send(message: dict) -> None:
            answers.append(message)

        await self.app(scope, receive, send)
        body = b"".join(message.get("body", b"") for message in answers[1:])
        return answers[0]["status"], json.loads(body), taken

    def get(self, path: str, query: str = "") -> tuple[int, dict]:
        from tests.web.test_app import patiently

        answer = patiently(self.app, path, query)
        return answer.status, answer.json()

    def left(self) -> set[str]:
        """What lies in the folder of uploads, every accepted table whole."""
        found = set()
        for path in self.uploads.iterdir():
            assert path.is_dir(), path.name
            assert sorted(file.name for file in path.iterdir()) == [
                "exposure.parquet",
                "losses.parquet",
                "runs.parquet",
            ]
            found.add(path.name)
        return found


async def list_of(parts: Iterable[bytes]) -> AsyncIterator[dict]:
    for part in parts:
        yield {"type": "http.request", "body": part, "more_body": True}
    yield {"type": "http.request", "body": b"", "more_body": False}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("temporary")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder))
        yield Place(folder)


@pytest.mark.parametrize("ending", TABLES)
def test_a_table_is_taken_and_asked_about(place: Place, ending: str) -> None:
    status, told, _ = place.post(f"mine.{ending}", [TABLES[ending]])
    assert status == 200
    assert told["runs"] == 36
    assert told["languages"] == ["en", "sw"]
    assert told["targets"] == ["sw"]
    assert told["name"] == f"mine.{ending}"
    assert place.post(f"other.{ending}", [TABLES[ending]])[1]["source"] == told["source"]
    source = f"source={told['source']}"
    assert place.get("/api/tables", source)[1]["runs"] == 36
    assert place.get("/api/runs", source)[1]["targets"] == ["sw"]
    status, fit = place.get("/api/fit", f"{source}&law=adaptive-transfer")
    assert status == 200
    assert fit["intervals"]["tau_en"][0] < 0.25 < fit["intervals"]["tau_en"][1]
    assert place.get("/api/plan", f"{source}&languages=sw&compute=1e20&draws=20")[0] == 200


def test_answers_are_those_of_the_python_functions(place: Place, tmp_path: Path) -> None:
    import babelscale as bs

    path = tmp_path / "mine.csv"
    path.write_bytes(CSV)
    runs = bs.Runs.read(path)
    source = f"source={place.post('mine.csv', [CSV])[1]['source']}"
    law = bs.laws.by_name("chinchilla", "sw", runs)
    assert place.get("/api/fit", source)[1] == json.loads(json.dumps(bs.fit(law, runs).to_dict()))
    told = place.get("/api/compare", f"{source}&laws=chinchilla&axes=params")[1]
    assert told == json.loads(json.dumps(bs.compare(["chinchilla"], runs, axes=["params"]).to_dict()))
    told = place.get("/api/profile", f"{source}&parameter=alpha&resamples=50")[1]
    assert told == json.loads(json.dumps(bs.profile(law, runs, "alpha", resamples=50).to_dict()))


def test_what_is_too_large_is_refused_before_it_is_read(place: Place) -> None:
    status, told, taken = place.post("big.csv", [b"x"], content_length=str(200 << 20))
    assert (status, taken) == (413, 0)
    assert "32 MB" in told["error"]


def test_what_grows_too_large_is_cut_off(place: Place) -> None:
    parts = (b"1,2,3\n" * (PART // 6) for _ in range((200 << 20) // PART))
    status, _, taken = place.post("big.csv", parts)
    assert status == 413
    assert taken <= LIMIT + PART
    place.left()


def _zip() -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("runs.csv", bytes(20_000_000))
    return held.getvalue()


def _tar() -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        info = tarfile.TarInfo("../../runs.csv")
        info.size = len(CSV)
        archive.addfile(info, io.BytesIO(CSV))
    return held.getvalue()


@pytest.mark.parametrize(
    ("name", "body", "word"),
    [
        ("runs.csv", _zip(), "zip"),
        ("runs.csv", gzip.compress(bytes(20_000_000), mtime=0), "gzip"),
        ("runs.parquet", gzip.compress(TABLES["parquet"], mtime=0), "gzip"),
        ("runs.csv", _tar(), "tar archive"),
        ("runs.csv", TABLES["parquet"], "Parquet"),
        ("runs.csv", b"runs,\x00" + CSV, "control characters"),
        ("runs.parquet", CSV, "not .parquet"),
        ("runs.csv.gz", CSV, "not .gz"),
        ("runs.csv.gz", TABLES["parquet"], "this is Parquet, not .gz"),
        ("runs.parquet.gz", gzip.compress(TABLES["parquet"], mtime=0), ".parquet.gz"),
        ("runs.zip", _zip(), ".zip"),
        ("runs.gz", b"", ".gz"),
        ("runs.tar", _tar(), ".tar"),
        ("runs.xlsx", CSV, "not .xlsx"),
        ("runs.pkl", CSV, ".pkl"),
        ("runs.html", CSV, ".html"),
        ("runs", CSV, "no ending"),
        ("/dev/zero", CSV, "no ending"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_kinds_of_file_are_refused_with_a_reason(place: Place, name: str, body: bytes, word: str) -> None:
    status, told, _ = place.post(name, [body[k : k + PART] for k in range(0, len(body), PART)])
    assert status == 415
    assert word in told["error"]
    assert told["hint"]
    place.left()


def test_every_ending_of_the_command_line_is_taken(place: Place, tmp_path: Path) -> None:
    """The same file gives the same runs here and on the command line, in every format and dialect."""
    FLAT.write_csv(tmp_path / "semicolon.csv", separator=";", decimal_comma=True)
    FLAT.write_csv(tmp_path / "tabs.tsv", separator="\t")
    (tmp_path / "wide.csv").write_bytes(CSV.decode().encode("utf-16"))
    (tmp_path / "old.csv").write_bytes(FLAT.with_columns(size=pl.lit("groß")).write_csv().encode("cp1252"))
    for name, pack in {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}.items():
        (tmp_path / f"runs.csv.{name}").write_bytes(pack(CSV))
    (tmp_path / "records.json").write_text(json.dumps(FLAT.to_dicts()))
    FLAT.write_ipc(tmp_path / "runs.feather")
    FLAT.write_ipc_stream(tmp_path / "runs.arrow")
    workbook(tmp_path / "runs.xlsx", sheet([FLAT.columns, *map(list, FLAT.iter_rows())]))
    for path in sorted(tmp_path.iterdir()):
        status, told, _ = place.post(path.name, [path.read_bytes()])
        assert status == 200, told
        assert told["findings"] == [], path.name
        assert Runs.read(place.uploads / told["source"]).hash == Runs.read(path).hash, path.name


def test_what_the_table_says_and_what_looks_wrong_comes_back(place: Place) -> None:
    rows = [
        f"{n},{size},{n % 4 + 1}e9,{loss}" for n, (size, loss) in enumerate([(1e7, 55.2), (2e7, 38.1), (4e7, 27.9)])
    ]
    told = place.post("ppl.csv", ["\n".join(["name,Model Size,tokens,loss", *rows]).encode()])[1]
    assert any("'Model Size' is read as params" in text for text in told["understood"])
    assert [each["severity"] for each in told["findings"]][:1] == ["error"]
    assert "are these perplexities?" in told["findings"][0]["text"]
    assert str(place.folder) not in json.dumps(told)


def test_a_packed_body_is_refused(place: Place) -> None:
    assert place.post("runs.csv", [gzip.compress(CSV, mtime=0)], content_encoding="gzip")[0] == 415


@pytest.mark.parametrize(
    "name",
    [
        "../../x.csv",
        "/etc/cron.d/x.csv",
        "..\\..\\x.csv",
        "C:\\x.csv",
        "....//x.csv",
        "%2e%2e%2fx.csv",
        "CON.csv",
        "nul.csv",
        ".csv.csv",
        "a b.csv",
        "-rf.csv",
        "$(id).csv",
        "روز.csv",
    ],
)
def test_a_name_is_never_a_path(place: Place, name: str, tmp_path: Path) -> None:
    before = place.left()
    status, told, _ = place.post(name, [CSV + f"{name!r},1e9,sw,1e9,1e9,2\n".encode()])
    assert status == 200
    assert "/" not in told["name"]
    assert "\\" not in told["name"]
    assert len(place.left() - before) == 1
    assert sorted(path.name for path in place.folder.iterdir()) == [place.uploads.name]


@pytest.mark.parametrize(
    "name", ["", "a\x00.csv", "a\r\nset-cookie: x.csv", "x" * 300 + ".csv", "../", "\u202egnp.csv"]
)
def test_names_that_are_none_are_refused(place: Place, name: str) -> None:
    status, told, _ = place.post(name, [CSV])
    assert status == 400
    assert "name" in told["error"]


def test_other_sites_may_not_upload(place: Place) -> None:
    assert place.post("a.csv", [CSV], origin="http://evil.example")[0] == 403
    assert place.post("a.csv", [CSV], sec_fetch_site="cross-site")[0] == 403


@pytest.mark.parametrize(
    ("name", "body", "status", "word"),
    [
        ("bad.csv", b"params,tokens,loss\n1e6,1e9,x\n", 400, "bad.csv: row 2, loss: 'x'"),
        ("BAD.CSV", b"params,tokens,loss\n1e6,1e9,x\n", 400, "BAD.CSV: row 2, loss: 'x'"),
        ("bad.jsonl", b'{"params":1,"tokens":1,"loss":-1}\n', 400, "bad.jsonl: row 1, loss is not positive"),
        ("bad.csv", b"", 400, "empty"),
        ("bad.csv", b"params,tokens,loss\n1e6,1e9,2\n1e300,1e9,2\n", 400, "1e300 is too large or too small"),
        ("bad.csv", b"params,tokens\n1,2\n", 400, "bad.csv: missing column loss"),
        ("bad.csv", b'params,tokens,loss\n"' + b"a" * 20_000_000, 400, "bad.csv"),
        ("bad.csv", b"params,tokens,loss\n" + b'"' * 20_000_001, 400, "bad.csv"),
        (
            "bad.csv",
            b"run,params,tokens,loss\n" + b"r" * 600 + b",1,2,3\n",
            400,
            "row 2, run: the text has 600 characters",
        ),
        ("bad.jsonl", b'{"params":' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}\n", 400, "bad.jsonl"),
        ("bad.jsonl", b'{"params":' + b'{"a":' * 500_000 + b"1" + b"}" * 500_000 + b"}\n", 400, "bad.jsonl"),
        ("big.csv", b"params,tokens,loss\n" + b"1,2,3\n" * 300_000, 413, "300000 rows"),
        ("wide.csv", b"a," * 8_000_000, 400, "8000000 columns"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_content_is_refused_in_the_users_own_words(
    place: Place, name: str, body: bytes, status: int, word: str
) -> None:
    before = place.left()
    found, told, _ = place.post(name, [body[k : k + PART] for k in range(0, len(body), PART)])
    assert found == status, told
    assert word in told["error"]
    assert str(place.folder) not in json.dumps(told)
    assert place.left() == before
    assert place.post("runs.csv", [CSV])[0] == 200


def test_parquet_that_unfolds_is_refused(place: Place) -> None:
    rows = _parquet(pl.select(params=pl.repeat(1e6, 3_000_000), tokens=pl.lit(1e9), loss=pl.lit(2.0)))
    assert len(rows) < 100_000
    status, told, _ = place.post("rows.parquet", [rows])
    assert (status, "3000000 rows" in told["error"]) == (413, True)
    # Few enough rows, and 1,800 columns that share their pages' few bytes: 2.9 GB unfolded.
    one = pl.repeat(1.0, 200_000, eager=True)
    held = io.BytesIO()
    pl.DataFrame([one.alias(f"c{k}") for k in range(1800)]).write_parquet(held, statistics=False)
    assert held.tell() < 4_000_000
    status, told, _ = place.post("columns.parquet", [held.getvalue()])
    assert (status, "larger than the limit" in told["error"]) == (413, True), told
    place.left()
    assert place.post("runs.csv", [CSV])[0] == 200


def test_an_upload_that_breaks_off_leaves_nothing(place: Place) -> None:
    before = place.left()

    async def broken() -> AsyncIterator[dict]:
        yield {"type": "http.request", "body": CSV[:500], "more_body": True}
        yield {"type": "http.disconnect"}

    assert asyncio.run(place._post("x.csv", broken(), {}))[0] == 400
    assert place.left() == before


def test_an_upload_that_stalls_is_ended(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    before = place.left()
    monkeypatch.setattr(uploads, "_SILENCE", 0.05)

    async def stalled() -> AsyncIterator[dict]:
        yield {"type": "http.request", "body": CSV[:500], "more_body": True}
        await asyncio.sleep(30)
        yield {"type": "http.request", "body": b"", "more_body": False}

    assert asyncio.run(place._post("x.csv", stalled(), {}))[0] == 408
    assert place.left() == before


def test_few_arrive_at_once(place: Place) -> None:
    async def crowd() -> list[int]:
        free = asyncio.Event()

        async def held() -> AsyncIterator[dict]:
            await free.wait()
            yield {"type": "http.request", "body": CSV, "more_body": False}

        waiting = [asyncio.create_task(place._post("x.csv", held(), {})) for _ in range(4)]
        await asyncio.sleep(0.05)
        refused = (await place._post("x.csv", list_of([CSV]), {}))[0]
        free.set()
        return [refused, *[answer[0] for answer in await asyncio.gather(*waiting)]]

    assert asyncio.run(crowd()) == [503, 200, 200, 200, 200]


def test_the_oldest_go_and_are_asked_for_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "_STORED", 2)
    sources = [place.post("x.csv", [CSV + f"x{k},1e9,sw,1e9,1e9,2\n".encode()])[1]["source"] for k in range(3)]
    assert place.left() == set(sources[1:])
    status, told = place.get("/api/runs", f"source={sources[0]}")
    assert status == 400
    assert "upload the table again" in told["hint"]


def test_the_folder_is_private_and_ends_with_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    held = Uploads()
    assert stat.S_IMODE(held.folder.stat().st_mode) == 0o700
    file = tmp_path / "x.csv"
    file.write_bytes(CSV)
    held.take(file, "x.csv", "upload-x")
    pid = held.parser.worker.pid
    assert pid is not None
    held.close()
    assert not Path(f"/proc/{pid}").exists()
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.skipif(not Path("/proc/self/limits").exists(), reason="limits of another process are read from /proc")
def test_the_reading_process_is_limited_and_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "x.csv"
    file.write_bytes(CSV)
    held = UploadParser()
    assert held.read(file, "x.csv", tmp_path / "a")["runs"] == 36
    first = held.worker.pid
    assert first is not None
    lines = Path(f"/proc/{first}/limits").read_text().splitlines()
    limits = {line[:26].strip(): line[26:].split()[0] for line in lines}
    assert limits["Max core file size"] == "0"
    assert int(limits["Max address space"]) <= 2_500_000_000
    assert int(limits["Max cpu time"]) <= 60
    os.kill(first, signal.SIGKILL)
    held.worker.wait()
    assert held.read(file, "x.csv", tmp_path / "b")["runs"] == 36
    assert held.worker.pid is not None
    # One that hangs is not waited for.
    os.kill(held.worker.pid, signal.SIGSTOP)
    monkeypatch.setattr(uploads, "_PARSE_SECONDS", 0.2)
    with pytest.raises(Refused, match="failed or took too long"):
        held.read(file, "x.csv", tmp_path / "c")
    monkeypatch.undo()
    assert held.read(file, "x.csv", tmp_path / "d")["runs"] == 36
    held.close()


def mutated(rng: random.Random) -> tuple[str, bytes]:
    """A valid table damaged: bits flipped, cut short, parts repeated, moved, or taken from another format."""
    ending = rng.choice(sorted(TABLES))
    body = bytearray(TABLES[ending])
    for _ in range(rng.choice((1, 1, 2, 8))):
        at = rng.randrange(len(body) or 1)
        # Parquet says at its end how it is to be read; damage there goes deepest.
        at = max(0, len(body) - 1 - at % 700) if ending == "parquet" and rng.random() < 0.5 else at
        match rng.choice(("flip", "cut", "splice", "repeat", "digits", "byte")):
            case "flip" if body:
                body[at] ^= 1 << rng.randrange(8)
            case "byte" if body:
                body[at] = rng.randrange(256)
            case "cut":
                del body[at : at + rng.choice((1, 4, 50, len(body)))]
            case "splice":
                other = TABLES[rng.choice(sorted(TABLES))]
                start = rng.randrange(len(other))
                body[at:at] = other[start : start + rng.randrange(200)]
            case "repeat":
                body[at:at] = body[at : at + rng.randrange(400)] * rng.randrange(1, 20)
            case "digits":
                body[at : at + 4] = rng.choice(
                    (b"1e308", b"-1", b"nan", b"inf", b"1e-320", b"\xff\xff\xff\x7f", b"null")
                )
    if ending == "parquet" and rng.random() < 0.8:
        body[:4], body[-4:] = b"PAR1", b"PAR1"
    return ending, bytes(body)


def _storm(place: Place, count: int) -> Counter[str]:
    rng = random.Random(20261125)
    found: Counter[str] = Counter()
    for number in range(count):
        ending, body = mutated(rng)
        status, told, _ = place.post(f"mutated-{number}.{ending}", [body])
        assert status in (200, 400, 413, 415), told
        found[f"{ending} {status}"] += 1
        if status == 200:
            assert told["runs"] > 0
            # What was taken can be asked about: numbers at the edge of what a float holds are refused in words.
            assert place.get("/view/laws", f"source={told['source']}&laws=chinchilla")[0] in (200, 400)
        else:
            assert told["error"].startswith(f"mutated-{number}.{ending}"), told
            assert str(place.folder) not in json.dumps(told)
        assert "Traceback" not in json.dumps(told)
    place.left()
    assert place.post("runs.csv", [CSV])[0] == 200
    return found


def test_damaged_tables_are_read_or_refused(place: Place) -> None:
    found = _storm(place, 40)
    assert sum(found.values()) == 40


@pytest.mark.slow
def test_a_thousand_damaged_tables_are_read_or_refused(place: Place) -> None:
    found = _storm(place, 1000)
    print(sorted(found.items()))
    assert sum(found.values()) == 1000
