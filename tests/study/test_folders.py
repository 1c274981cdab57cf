"""A study is named by its design or by its folder, wherever that lies."""

import json
from pathlib import Path

import pytest

from babelscale import cli
from babelscale.reporting.design.study_forecast import forecast_study
from babelscale.study import Study, load


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    with pytest.raises(SystemExit) as ended:
        cli.main([str(argument) for argument in arguments])
    assert not ended.value.code, capsys.readouterr().err
    return capsys.readouterr().out


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study of another design than the name of its folder says, with no text yet."""
    monkeypatch.chdir(tmp_path)
    fields = load("quickstart").model_dump()
    groups = [group for group in fields["groups"] if group["mixture"] == "monolingual"][:1]
    study = Study.create(fields | {"name": "small", "groups": groups}, tmp_path / "elsewhere" / "mine")
    study.folder.mkdir(parents=True)
    (study.folder / "design.json").write_text(
        json.dumps({"format": 1, "design": study.design.model_dump(mode="json")}), encoding="utf-8"
    )
    return study.folder


def test_what_reads_a_design_takes_a_study_s_folder(capsys, folder: Path) -> None:
    plan = json.loads(said(capsys, "study", "plan", folder, "--json"))
    expected = forecast_study(load(Study.open(folder).design), folder=folder).to_dict()
    assert plan == json.loads(json.dumps(expected))
    power = said(capsys, "study", "power", folder, "--law", "chinchilla", "--target", "sv", "--tables", 1, "--json")
    assert json.loads(power)["design"] == "small"
    written = said(
        capsys,
        "study",
        "verify",
        folder,
        "--from",
        "sv,da",
        "--to",
        "sv,da,id",
        "--size",
        "xs",
        "--tokens",
        "3e5",
        "--out",
        "v.toml",
    )
    assert written.strip() == "v.toml"


def test_a_folder_is_trained_where_it_lies(folder: Path) -> None:
    from babelscale.cli.studies import created

    assert created(str(folder), None, None).folder == folder
    assert created("quickstart", None, None).folder == Path("studies/quickstart")


def test_a_folder_without_a_study_is_no_design(capsys, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["study", "plan", str(tmp_path)])
    assert ended.value.code == 2
    assert "no design named" in capsys.readouterr().err
