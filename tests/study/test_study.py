"""A study from text to tables: trained once, resumed without loss, refused where it cannot be."""

import filecmp
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from babelscale.errors import InputError, StudyError
from babelscale.runs import Runs
from babelscale.study import Study
from babelscale.study.engines import Engine, run_local


@pytest.fixture(scope="module")
def trained(tiny_trained: Study, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A copy of its own, since tests of this module open the study to train it."""
    folder = tmp_path_factory.mktemp("studies") / "tiny"
    shutil.copytree(tiny_trained.folder, folder)
    return Study(tiny_trained.design, folder)


def test_the_tables_hold_every_run_exposure_and_loss(trained: Study):
    runs = Runs.read(trained.folder)
    assert sorted(runs.names) == sorted(trained.specs)
    for name, spec in trained.specs.items():
        row = runs.table.filter(run=name).row(0, named=True)
        assert row["tokens"] == spec.tokens
        assert row["params"] == spec.shape.params
        assert row["flops"] == spec.flops
        final = runs.exposure.filter(run=name, step=spec.steps)
        assert final["tokens"].sum() == spec.tokens
        assert set(final["language"]) == set(spec.mixture.languages)
    states = runs.losses.group_by("run", "language", "lr_state").len()
    assert set(states.filter(lr_state="decayed")["len"]) == {1}
    for name, spec in trained.specs.items():
        stable = len(spec.recipe.evaluation_steps(spec.steps)) - 1
        assert set(states.filter(run=name, lr_state="stable")["len"]) == {stable}
    assert runs.metric == "bits_per_byte"


def test_the_continued_run_names_its_base_and_measures_what_it_forgets(trained: Study):
    runs = Runs.read(trained.folder)
    row = runs.table.filter(start="checkpoint").row(0, named=True)
    assert row["base"] in trained.specs
    assert set(runs.losses.filter(run=row["run"])["language"]) == {"da", "sv", "sw"}
    # By default laws are not fitted to runs whose earlier tokens their exposure does not count.
    assert row["run"] not in runs.observations("sw").run


def test_a_second_time_nothing_is_trained(trained: Study, tiny: Path):
    before = {path: path.stat().st_mtime_ns for path in (trained.folder / "finished").rglob("*")}
    again = Study.create(tiny, trained.folder)
    again.prepare()
    assert again.train() == 0
    assert {path: path.stat().st_mtime_ns for path in (trained.folder / "finished").rglob("*")} == before


def test_a_study_stopped_and_resumed_equals_one_that_was_not(
    trained: Study, tiny: Path, in_process: Engine, tmp_path: Path
):
    study = Study.create(tiny, tmp_path / "cut")
    study.prepare()

    class Stop(Exception):
        pass

    def stop(event) -> None:
        # In the middle of a run, after some others are finished.
        if "step" in event and event["step"] >= 10 and len(study.missing) < 5:
            raise Stop

    with pytest.raises(Stop):
        study.train(on_event=stop)
    left = len(study.missing)
    assert 0 < left < 6
    events = []
    assert study.train(engine=in_process, on_event=events.append) == left
    assert sum("finished" in event for event in events) == left
    assert any("step" in event for event in events)
    assert_same_results(trained, study)


def test_a_study_whose_process_was_killed_goes_on(trained: Study, tiny: Path, in_process: Engine, tmp_path: Path):
    folder = tmp_path / "killed"
    script = (
        "import sys; from babelscale.study import Study; "
        "s = Study.create(sys.argv[1], sys.argv[2]); s.prepare(); s.train()"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tiny), str(folder)], start_new_session=True)
    deadline = time.monotonic() + 300
    while not list(folder.glob("finished/*/record.json")) and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    study = Study.create(tiny, folder)
    study.prepare()
    study.train(engine=in_process)
    assert_same_results(trained, study)


def assert_same_results(one: Study, two: Study) -> None:
    assert one.specs.keys() == two.specs.keys()
    for name in one.specs:
        for part in ("record.json", "log.jsonl"):
            first, second = (study.folder / "finished" / name / part for study in (one, two))
            assert filecmp.cmp(first, second, shallow=False), f"{name}/{part}"
    assert Runs.read(one.folder).hash == Runs.read(two.folder).hash


def test_a_failed_run_is_named_and_the_others_are_kept(tiny_text: str, in_process: Engine, tmp_path: Path):
    path = tmp_path / "hot.toml"
    path.write_text(tiny_text.replace("learning_rate = 1e-2", "learning_rate = 1e15"))
    study = Study.create(path, tmp_path / "hot")
    study.prepare()
    with pytest.raises(StudyError, match="6 of the runs failed") as caught:
        study.train(engine=in_process)
    assert "the loss is" in str(caught.value)
    assert "the run it continues from failed" in str(caught.value)


def test_a_run_published_by_another_process_is_left_alone(trained: Study, tmp_path: Path):
    from babelscale.study import record

    working, finished = tmp_path / "working", tmp_path / "finished"
    for folder, text in ((working / "late", "late"), (finished, "first")):
        folder.mkdir(parents=True)
        (folder / "record.json").write_text(text)
        (folder / "log.jsonl").write_text(text)
    assert record.publish(working / "late", finished) is False
    assert (finished / "record.json").read_text() == "first"
    assert not working.exists()


def test_two_processes_do_not_train_one_study(trained: Study):
    with trained.alone(), pytest.raises(StudyError, match="another process"):
        trained.train()


def test_a_folder_of_another_study_is_refused(trained: Study, tiny_text: str, tmp_path: Path):
    path = tmp_path / "other.toml"
    path.write_text(tiny_text.replace("vocabulary = 400", "vocabulary = 420"))
    with pytest.raises(InputError, match="another corpus, tokenizer"):
        Study.create(path, trained.folder)


def test_a_design_may_grow(trained: Study, tiny_text: str, tmp_path: Path):
    path = tmp_path / "grown.toml"
    path.write_text(tiny_text.replace('languages = ["sv", "da"]\nsizes', 'languages = ["sv", "da", "sw"]\nsizes'))
    grown = Study.create(path, trained.folder)
    assert len(grown.missing) == 1


PLENTY = "".join(f"mstari wa {n}\n" for n in range(200)).encode()
BAD_CORPORA = {
    "a missing language": ({"sv.txt": b"hej\n" * 9, "da.txt": b"hej\n" * 9}, "sw"),
    "an empty file": ({"sv.txt": b"hej\n", "da.txt": b"", "sw.txt": b"x\n"}, "da.txt"),
    "bytes that are not UTF-8": ({"sv.txt": PLENTY + b"\xff\xfe\n", "da.txt": PLENTY, "sw.txt": PLENTY}, "sv.txt"),
    "too little for its split": ({"sv.txt": b"hej\n", "da.txt": b"hej\n", "sw.txt": b"jambo\n"}, "too small"),
    "an unknown code": ({"qqq.txt": b"hej\n"}, "qqq"),
}


@pytest.mark.parametrize("case", BAD_CORPORA)
def test_a_bad_corpus_is_named_and_leaves_nothing_behind(tiny: Path, tmp_path: Path, case: str):
    files, said = BAD_CORPORA[case]
    (tmp_path / "text").mkdir()
    for name, content in files.items():
        (tmp_path / "text" / name).write_bytes(content)
    with pytest.raises(InputError, match=said):
        Study.create(tiny, tmp_path / "study", tmp_path / "text").prepare()
    assert not (tmp_path / "study").exists()


def test_a_worker_that_dies_is_reported(trained: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(StudyError, match="ended with status 1"):
        run_local(list(trained.specs.values())[:1], tmp_path)


def test_the_design_kept_in_the_folder_tells_what_was_trained_on(trained: Study):
    held = json.loads((trained.folder / "design.json").read_text())
    assert "phrasebook" in json.dumps(held["corpus"])
    assert sorted(run for group in held["groups"] for run in group["runs"]) == sorted(
        spec.name for specs in trained.groups.values() for spec in specs
    )
