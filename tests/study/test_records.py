"""Records of finished runs outlive their study's folder, and what they lack is trained again to the same bytes."""

import json
import lzma
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from babelscale import cli
from babelscale.errors import BabelscaleWarning, InputError
from babelscale.study import Study, cost, record, records, timing
from babelscale.study.engines import Engine
from babelscale.study.records import _compressed, _line, _sha256
from babelscale.training import BRANCHES, LOG, STATE

GROUPS = """
[[groups]]
name = "mono"
mixture = "monolingual"
languages = ["sv"]
sizes = ["xs"]
tokens = [3e3, 6e3]

[[groups]]
name = "all"
mixture = "uniform"
sizes = ["s"]
tokens = [3e3]

[[groups]]
name = "second"
mixture = "monolingual"
languages = ["sw"]
sizes = ["s"]
tokens = [2e3]
continue_from = "all"

[[groups]]
name = "third"
mixture = "monolingual"
languages = ["da"]
sizes = ["s"]
tokens = [2e3]
continue_from = "second"
"""


@pytest.fixture(scope="module")
def design(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a branch, and a chain of three runs that continue from each other."""
    text = tiny.read_text().partition("[[groups]]")[0].replace("[recipe]", "[recipe]\nwarmup_steps = 2")
    path = tmp_path_factory.mktemp("designs") / "chain.toml"
    path.write_text(text + GROUPS)
    return path


@pytest.fixture(scope="module")
def whole(design: Path, in_process: Engine, tmp_path_factory: pytest.TempPathFactory) -> Study:
    study = Study.create(design, tmp_path_factory.mktemp("studies") / "whole")
    study.prepare()
    assert study.train(engine=in_process) == 5
    return study


@pytest.fixture
def file(whole: Study, tmp_path: Path) -> Path:
    records.write(whole, tmp_path / "records.jsonl.xz")
    return tmp_path / "records.jsonl.xz"


def fresh(whole: Study, folder: Path) -> Study:
    """The study as it is after its text was prepared again."""
    (folder / "working").mkdir(parents=True)
    for name in ("corpus", "tokenizer", "working/compiled"):
        (folder / name).symlink_to(whole.folder / name)
    shutil.copy(whole.folder / "design.json", folder)
    return Study(whole.design, folder)


def bytes_of(study: Study, part: str) -> dict[str, bytes]:
    return {name: (study.finished(name) / part).read_bytes() for name in study.specs}


def only(study: Study, group: str) -> str:
    (spec,) = study.groups[group]
    return spec.name


def short_of(study: Study) -> str:
    (name,) = study.trunks
    return name


def lines_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lzma.decompress(file.read_bytes()).splitlines()]


def rewrite(file: Path, lines: list[dict[str, Any]], *, sealed: bool = True) -> Path:
    """The file with other lines; `sealed` gives the header their count and hash."""
    head, *rest = lines
    texts = [_line(line) for line in rest]
    if sealed:
        head = head | {"count": len(rest), "sha256": _sha256(texts)}
    file.write_bytes(_compressed([_line(head), *texts], None))
    return file


def without(file: Path, *names: str) -> Path:
    return rewrite(file, [line for line in lines_of(file) if line.get("name") not in names])


def test_restored_records_are_those_that_training_wrote(whole: Study, file: Path, tmp_path: Path):
    study = fresh(whole, tmp_path / "again")
    done = records.restore(study, file)
    assert set(done.restored) == set(study.specs)
    assert (done.already, done.foreign) == (0, {})
    for part in (record.RECORD, timing.TIMING):
        assert bytes_of(study, part) == bytes_of(whole, part)
    assert study.missing == []
    assert study.train() == 0
    for table in (whole.folder / "runs").iterdir():
        assert (study.folder / "runs" / table.name).read_bytes() == table.read_bytes()
    assert len(cost.status(study).finished) == 5
    planned = [cost.estimate(study.design, folder=one.folder).done for one in (study, whole)]
    assert planned[0] is not None
    assert planned[1] is not None
    assert (planned[0].runs, planned[0].throughput) == (planned[1].runs, planned[1].throughput)
    again = records.restore(study, file)
    assert (again.restored, again.already) == ((), 5)


def test_the_same_records_give_the_same_bytes(whole: Study, file: Path, tmp_path: Path):
    study = fresh(whole, tmp_path / "again")
    records.restore(study, file)
    written = records.write(study, tmp_path / "other.jsonl.xz")
    assert (tmp_path / "other.jsonl.xz").read_bytes() == file.read_bytes()
    assert (written.runs, written.added, written.bytes) == (5, 5, file.stat().st_size)
    header, *lines = lines_of(file)
    assert (header["design"], header["count"]) == (whole.design.name, 5)
    assert [line["name"] for line in lines] == sorted(whole.specs)


def test_a_file_keeps_runs_that_the_folder_lost(whole: Study, file: Path, tmp_path: Path):
    study = fresh(whole, tmp_path / "again")
    everything = file.read_bytes()
    records.restore(study, without(file, short_of(whole)))
    shutil.rmtree(study.finished(only(study, "all")))
    assert records.write(study, file).added == 0
    assert len(lines_of(file)) == 1 + 4
    assert records.write(whole, file).added == 1
    assert file.read_bytes() == everything


def test_another_record_of_a_run_is_refused(whole: Study, file: Path, tmp_path: Path):
    lines = lines_of(file)
    lines[1]["record"]["losses"][0]["nats"] += 1.0
    name = lines[1]["name"]
    rewrite(file, lines)
    before = file.read_bytes()
    with pytest.raises(InputError, match=f"run {name} has another record"):
        records.write(whole, file)
    assert file.read_bytes() == before
    with pytest.raises(InputError, match=f"run {name} has another record"):
        records.restore(whole, file)


def test_a_file_of_another_study_is_not_added_to(whole: Study, file: Path):
    lines = lines_of(file)
    lines[0]["design"] = "another"
    with pytest.raises(InputError, match="design is another, the study's is tiny"):
        records.write(whole, rewrite(file, lines))


def test_runs_that_do_not_belong_are_named_with_the_reason(
    whole: Study, file: Path, tmp_path: Path, design: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "less.toml").write_text(design.read_text().replace("[3e3, 6e3]", "[6e3]"))
    less = Study.create(tmp_path / "less.toml", fresh(whole, tmp_path / "less").folder)
    done = records.restore(less, file)
    assert done.foreign == {short_of(whole): "not in the design"}
    assert short_of(whole) in str(done)
    for field, value, reason in (
        ("bytes_per_language", "50_000", "a text that differs"),
        ("vocabulary", "390", "tokenizer"),
    ):
        text = design.read_text().replace(f"{field} = {'60_000' if field[0] == 'b' else '400'}", f"{field} = {value}")
        (tmp_path / "other.toml").write_text(text)
        other = Study.create(tmp_path / "other.toml", tmp_path / field)
        other.prepare()
        done = records.restore(other, file)
        assert done.restored == ()
        assert set(done.foreign) == set(whole.specs)
        assert all(reason in said for said in done.foreign.values())
        with pytest.raises(SystemExit) as stopped:
            cli.main(
                [
                    "study",
                    "prepare",
                    str(tmp_path / "other.toml"),
                    "--out",
                    str(tmp_path / field),
                    "--records",
                    str(file),
                ]
            )
        assert stopped.value.code == 2
        assert f"error: no run of {file}" in capsys.readouterr().err


def renamed(lines: list[dict[str, Any]]) -> None:
    lines[2]["record"]["identity"]["steps"] += 1


def misnamed(lines: list[dict[str, Any]]) -> None:
    part = lines[2]
    part["name"] = part["record"]["run"]["run"] = f"{part['name'][:-10]}0000000000"
    for row in (*part["record"]["exposure"], *part["record"]["losses"]):
        row["run"] = part["name"]


def text_for_a_number(lines: list[dict[str, Any]]) -> None:
    lines[3]["record"]["losses"][1]["nats"] = "12"


def extra(lines: list[dict[str, Any]]) -> None:
    lines[1]["record"]["run"]["note"] = "mine"


def another_version(lines: list[dict[str, Any]]) -> None:
    lines[0]["format"] = "babelscale run records 2"


def another_run_inside(lines: list[dict[str, Any]]) -> None:
    lines[1]["record"]["losses"][2]["run"] = "x"


TAMPERED: dict[Callable[[list[dict[str, Any]]], None], str] = {
    renamed: r"line 3: record\.hash: is",
    misnamed: r"line 3: name, its last part: is '0000000000'",
    text_for_a_number: r"line 4: record\.losses\.1\.nats: Input should be a valid number",
    extra: r"line 2: record\.run\.note: Extra inputs",
    another_version: r"line 1: format: ",
    another_run_inside: r"line 2: record\.losses\.2\.run: is 'x'",
}


@pytest.mark.parametrize("change", TAMPERED)
def test_a_changed_file_is_refused_by_line_and_field(change: Callable[[list[dict[str, Any]]], None], file: Path):
    lines = lines_of(file)
    change(lines)
    with pytest.raises(InputError, match=TAMPERED[change]) as caught:
        records.read(rewrite(file, lines))
    assert str(file) in caught.value.message


def test_numbers_that_are_not_finite_are_refused(file: Path):
    text = lzma.decompress(file.read_bytes()).decode().replace('"nats":', '"nats":NaN,"was":', 1)
    file.write_bytes(lzma.compress(text.encode()))
    with pytest.raises(InputError, match=r"line 2: record\.losses\.0\.(nats|was)"):
        records.read(file)


def test_a_file_whose_hash_does_not_fit_or_that_is_cut_short_is_refused(file: Path):
    whole_file = file.read_bytes()
    lines = lines_of(file)
    lines[1]["record"]["losses"][0]["nats"] += 1.0
    with pytest.raises(InputError, match="line 1: sha256 is"):
        records.read(rewrite(file, lines, sealed=False))
    with pytest.raises(InputError, match="line 1: count is 5, the lines after it give 4"):
        records.read(rewrite(file, lines[:-1], sealed=False))
    for part in (whole_file[: len(whole_file) // 2], b"", b"{}\n"):
        file.write_bytes(part)
        with pytest.raises(InputError, match=f"{file}: not a complete file of records"):
            records.read(file)
    with pytest.raises(InputError, match="cannot be read"):
        records.read(file.with_name("none"))


def test_a_damaged_record_in_the_folder_is_named(whole: Study, file: Path, tmp_path: Path):
    study = fresh(whole, tmp_path / "again")
    records.restore(study, file)
    path = study.finished(short_of(study)) / record.RECORD
    for text, told in (("{", "damaged"), (path.read_text().replace(" ", ""), "not in the form")):
        path.write_text(text)
        with pytest.raises(InputError, match=told) as caught:
            records.write(study, tmp_path / "new.xz")
        assert str(path.parent) in caught.value.message
        assert "elsewhere" in (caught.value.hint or "")


def test_what_is_lost_is_trained_from_restored_runs_to_the_same_bytes(
    whole: Study, file: Path, in_process: Engine, tmp_path: Path
):
    """A branch whose trunk was restored, and a run whose base and its base were."""
    study = fresh(whole, tmp_path / "lost")
    short, third = short_of(whole), only(whole, "third")
    records.restore(study, without(file, short, third))
    chain = [only(study, group) for group in ("all", "second", "third")]
    assert [spec.name for spec in study.missing_of(["mono"])] == [short]
    assert [spec.name for spec in study.missing_of(["second"])] == []
    assert [spec.name for spec in study.missing_of(["third"])] == chain
    assert {spec.name for spec in study.missing} == {short, *chain}
    before = {
        name: (study.finished(name) / record.RECORD).stat().st_mtime_ns
        for name in study.specs
        if study.is_finished(name)
    }
    events: list[dict[str, Any]] = []
    assert study.train(engine=in_process, on_event=events.append) == 4
    assert not [event for event in events if "warning" in event or "failed" in event]
    assert bytes_of(study, record.RECORD) == bytes_of(whole, record.RECORD)
    for name, at in before.items():
        assert (study.finished(name) / record.RECORD).stat().st_mtime_ns == at
        assert not (study.finished(name) / record.AGAIN).exists()
    for name in (short, *chain):
        assert (study.finished(name) / LOG).read_bytes() == (whole.finished(name) / LOG).read_bytes()
        assert not (study.folder / "working" / name).exists()
    trunk = study.finished(study.trunks[short].name)
    assert not (trunk / LOG).exists()
    assert not (trunk / BRANCHES).exists()
    for name in chain[:2]:
        assert study.has_state(study.specs[name])
    assert study.missing == []
    assert study.train() == 0


def test_a_trunk_that_is_trained_again_for_its_state_serves_its_branches(
    whole: Study, file: Path, in_process: Engine, tmp_path: Path, design: Path
):
    text = design.read_text().replace('continue_from = "all"', 'continue_from = "mono"').replace('"s"', '"xs"')
    (tmp_path / "trunk.toml").write_text(text)
    reference = Study.create(tmp_path / "trunk.toml", tmp_path / "reference")
    reference.prepare()
    reference.train(engine=in_process)
    records.write(reference, tmp_path / "trunk.xz")
    short = short_of(reference)
    trunk, second = reference.trunks[short].name, only(reference, "second")
    study = fresh(reference, tmp_path / "again")
    records.restore(study, without(tmp_path / "trunk.xz", short, second))
    assert [spec.name for spec in study.missing_of(["mono", "second"])] == [short, trunk, second]
    study.train(engine=in_process)
    assert bytes_of(study, record.RECORD) == bytes_of(reference, record.RECORD)
    assert list((study.finished(trunk) / BRANCHES).iterdir())
    assert study.has_state(study.specs[trunk])


def test_a_base_with_another_result_is_told_and_its_first_record_kept(
    whole: Study, file: Path, in_process: Engine, tmp_path: Path
):
    lines = lines_of(file)
    base, second = only(whole, "all"), only(whole, "second")
    changed = next(line for line in lines if line.get("name") == base)
    changed["record"]["losses"][0]["nats"] *= 1 + 1e-6
    study = fresh(whole, tmp_path / "lost")
    records.restore(study, without(rewrite(file, lines), second, only(whole, "third")))
    kept = (study.finished(base) / record.RECORD).read_bytes()
    events: list[dict[str, Any]] = []
    assert study.train(engine=in_process, on_event=events.append) == 3
    (told,) = [event["warning"] for event in events if "warning" in event]
    assert base in told
    assert "1.0e-06" in told
    for name in (record.RECORD, record.AGAIN):
        assert str(study.finished(base) / name) in told
    assert (study.finished(base) / record.RECORD).read_bytes() == kept
    assert (study.finished(base) / record.AGAIN).read_bytes() == (whole.finished(base) / record.RECORD).read_bytes()
    assert (study.finished(second) / record.RECORD).read_bytes() == (
        whole.finished(second) / record.RECORD
    ).read_bytes()
    assert not (study.finished(base) / LOG).exists()


def test_a_publication_that_was_cut_short_goes_on(whole: Study, file: Path, tmp_path: Path):
    """Training again had ended, and the process was killed after it had moved the log alone."""
    from babelscale.study.worker import train_runs

    study = fresh(whole, tmp_path / "cut")
    records.restore(study, file)
    spec = study.specs[only(study, "all")]
    attempt = study.folder / "working" / spec.name / "0000000a"
    shutil.copytree(whole.finished(spec.name), attempt)
    shutil.copy(attempt / LOG, study.finished(spec.name))
    assert not study.is_whole(spec)
    assert train_runs(study, [spec]) == []
    assert study.has_state(spec)
    assert not (study.folder / "working" / spec.name).exists()
    saved = (study.finished(spec.name) / STATE / str(spec.steps)).stat().st_mtime_ns
    assert saved == (whole.finished(spec.name) / STATE / str(spec.steps)).stat().st_mtime_ns


@pytest.mark.parametrize("left", [None, "", "[]", '{"design": {"name": 3}}'])
def test_a_study_goes_on_without_a_readable_design_json(
    left: str | None, whole: Study, file: Path, design: Path, tmp_path: Path, recwarn: pytest.WarningsRecorder
):
    folder = fresh(whole, tmp_path / "lost").folder
    records.restore(Study.open(folder), file)
    (folder / "design.json").unlink()
    if left is not None:
        (folder / "design.json").write_text(left)
        with pytest.raises(InputError, match="not a study's design") as caught:
            Study.open(folder)
        assert f"babelscale study run NAME --out {folder}" in (caught.value.hint or "")
        assert "remove" not in (caught.value.hint or "")
    study = Study.create(design, folder)
    assert (left is not None) == any(issubclass(one.category, BabelscaleWarning) for one in recwarn)
    study.prepare()
    assert (folder / "design.json").read_bytes() == (whole.folder / "design.json").read_bytes()
    assert study.train() == 0


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [("60_000", "50_000", "made from another corpus"), ("vocabulary = 400", "vocabulary = 390", "vocabulary is 390")],
)
def test_a_folder_without_design_json_is_not_taken_over_by_another_text(
    old: str, new: str, told: str, whole: Study, design: Path, tmp_path: Path
):
    folder = fresh(whole, tmp_path / "lost").folder
    (folder / "design.json").unlink()
    (tmp_path / "other.toml").write_text(design.read_text().replace(old, new))
    with pytest.raises(InputError, match=told):
        Study.create(tmp_path / "other.toml", folder).prepare()


def command(*arguments: object) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main([str(argument) for argument in arguments])
    if stopped.value.code:
        raise stopped.value


def test_the_commands(
    whole: Study, design: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as here:
        here.chdir(tmp_path)
        command("study", "records", whole.folder, "--json")
    file = tmp_path / "tiny-records.jsonl.xz"
    assert json.loads(capsys.readouterr().out) == {
        "file": file.name,
        "runs": 5,
        "added": 5,
        "bytes": file.stat().st_size,
    }
    command("study", "records", whole.folder, "--out", file)
    assert "5 runs, 0 of them added now" in capsys.readouterr().out
    folder = fresh(whole, tmp_path / "again").folder
    command("study", "prepare", design, "--out", folder, "--records", without(file, only(whole, "second")))
    told = capsys.readouterr()
    assert told.out == f"{folder}\n"
    assert "4 runs restored, 0 were there already" in told.err
    command("study", "status", folder)
    assert "4 finished, 0 begun, 1 missing" in capsys.readouterr().out
    command("study", "run", design, "--out", folder, "--records", file, "--no-report")
    told = capsys.readouterr().err
    assert "0 runs restored, 4 were there already" in told
    assert "5 runs, 2 to train (1 of them again, for states that others continue from)" in told
    assert bytes_of(Study.open(folder), record.RECORD) == bytes_of(whole, record.RECORD)


def test_a_run_whose_base_has_no_state_is_refused_by_name(whole: Study, file: Path, tmp_path: Path):
    from babelscale.reporting.monitor import running

    study = fresh(whole, tmp_path / "again")
    second = only(whole, "second")
    records.restore(study, without(file, second))
    with pytest.raises(InputError, match="which has no saved state"):
        running.train(study, [second])
