"""The command line as its users meet it: one JSON object, one error, the right exit code."""

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from babelscale import cli
from babelscale.laws import LAWS
from babelscale.runs import Runs


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of one language whose law is known, under a code that other tools lose."""
    rows = [
        {"language": "no", "params": N, "tokens": D, "unique_tokens": 1e9, "loss": 1.5 + 400 / N**0.35 + 900 / D**0.35}
        for N in (1e6, 4e6, 1.6e7, 6.4e7)
        for D in (1e7, 4e7, 1.6e8, 6.4e8)
    ]
    path = tmp_path_factory.mktemp("tables") / "runs.csv"
    pl.DataFrame(rows).write_csv(path)
    return path


def call(*arguments: object) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main([str(argument) for argument in arguments])
    if stopped.value.code:
        raise stopped.value


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    call(*arguments)
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    with pytest.raises(SystemExit) as stopped:
        call(*arguments)
    assert stopped.value.code == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith("error: ")
    assert "Traceback" not in error
    return error


def strict(text: str) -> dict:
    """JSON as other languages read it: one object, and neither NaN nor Infinity."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize(
    "command",
    [
        "plan --languages sw,yo,ha --compute 1e21 --published",
        "plan --languages no,nan --compute 1e20",
        "transfer --published",
        "transfer --published --target sw",
        "expand --from 4 --to 16",
        "expand --from 4 --to 16 --params 1e9 --tokens 1e11",
        "expand --from sw,en --to 6 --candidates fr,hi",
        "plan --languages sw,hi --loss 1.2 --ladder atlas --draws 20",
        "plan --languages sw,hi --compute 1e20 --objective worst --max-epochs 8 --draws 10",
        "plan --languages ms --helpers id --compute 1e22 --robust cvar --draws 20",
        "modular --languages sw,hi,en --compute 1e20",
        "modular --languages sw,hi,en --compute 1e20 --pivot en --split hub --memory same",
        "decide --params 2e9 --tokens 1e11 --language en --charge",
        "decide --params 2e9 --tokens 1e11 --language en",
        "study plan quickstart",
    ],
)
def test_json_is_one_object_and_the_table_is_for_people(capsys, command: str):
    assert strict(said(capsys, *command.split(), "--json"))
    text = said(capsys, *command.split())
    assert text.strip()
    assert not text.lstrip().startswith("{")


@pytest.mark.parametrize("law", ["chinchilla", "adaptive-transfer"])
def test_a_fit_is_saved_and_planned_from(capsys, table: Path, tmp_path: Path, law: str):
    saved = tmp_path / "fit.json"
    fitted = strict(said(capsys, "fit", table, "--law", law, "--target", "no", "--save", saved, "--json"))
    assert fitted["parameters"]["E"] == pytest.approx(1.5, abs=0.02)
    plan = strict(said(capsys, "plan", saved, "--languages", "no", "--compute", "1e17", "--json"))
    assert plan == strict(said(capsys, "plan", saved, "--languages", "no", "--compute", "1e17", "--json"))
    assert "no" in json.dumps(plan)


def test_many_targets_share_exponents_and_are_planned_from_a_folder(capsys, runs: Runs, tmp_path: Path):
    runs.write(tmp_path / "runs")
    command = ("fit", tmp_path / "runs", "--law", "chinchilla", "--target", "sv,da", "--resamples", 20)
    fits = strict(said(capsys, *command, "--share", "alpha", "--save", tmp_path / "fits", "--json"))["fits"]
    assert list(fits) == ["sv", "da"]
    assert fits["sv"]["parameters"]["alpha"] == pytest.approx(fits["da"]["parameters"]["alpha"], rel=1e-9)
    plan = said(capsys, "plan", tmp_path / "fits", "--compute", "1e14")
    assert "sv" in plan
    assert "da" in plan


def test_a_plan_is_written_as_chart_and_as_a_design(capsys, tmp_path: Path):
    from babelscale.study import load

    places = {"--chart": tmp_path / "plan.svg", "--config": tmp_path / "mine.toml", "--save": tmp_path / "p.json"}
    command = ("plan", "--languages", "sw,no", "--compute", "1e20", "--draws", 10, "--json")
    told = strict(said(capsys, *command, *(word for pair in places.items() for word in pair)))
    assert (tmp_path / "plan.svg").read_text().startswith("<svg")
    (group,) = load(tmp_path / "mine.toml").groups
    assert (group.shares or ({},))[0]["no"] == pytest.approx(told["languages"]["no"]["share"])
    assert strict((tmp_path / "p.json").read_text()) == told


def test_a_profile_and_the_power_of_a_design(capsys, table: Path, tiny_design: Path):
    found = strict(said(capsys, "profile", table, "alpha", "--law", "chinchilla", "--resamples", 20, "--json"))
    assert found["parameter"] == "alpha"
    told = strict(said(capsys, "study", "power", tiny_design, "--target", "sv", "--tables", 2, "--json"))
    assert [row["law"] for row in told["laws"]] == list(LAWS)
    assert {row["runs"] for row in told["laws"]} == {12}
    assert {"alpha", "beta"} <= {row["name"] for row in told["laws"][0]["parameters"]}
    assert "not measurable" in said(capsys, "study", "power", tiny_design, "--law", "chinchilla", "--tables", 2)


@pytest.fixture
def tiny_design(tmp_path: Path) -> Path:
    path = tmp_path / "design.toml"
    sizes = "\n".join(f"s{d} = {{ layers = 1, heads = 1, d_model = {d}, d_ff = {d}, d_head = 8 }}" for d in (8, 16, 32))
    path.write_text(
        f'name = "tiny"\nlanguages = ["sv"]\n[tokenizer]\nvocabulary = 400\n[sizes]\n{sizes}\n[[groups]]\n'
        'name = "all"\nmixture = "monolingual"\nsizes = ["s8", "s16", "s32"]\ntokens = [1e4, 4e4, 1.6e5, 6.4e5]\n'
    )
    return path


def test_compare_and_transfer_read_tables(capsys, table: Path):
    assert strict(said(capsys, "compare", table, "--laws", "chinchilla", "--json"))
    error = refused(capsys, "transfer", table)
    assert "hint" in error


@pytest.mark.parametrize(
    ("command", "named"),
    [
        ("plan --languages sw,qqq --compute 1e21", "'qqq'"),
        ("plan --languages sw --compute -1", "-1"),
        ("plan --languages sw --compute many", "--compute"),
        ("plan --compute 1e21", "--languages"),
        ("plan --languages sw", "compute, loss, params or tokens"),
        ("plan --languages sw --compute 1e21 --max-epochs often", "--max-epochs"),
        ("plan --languages sw --compute 1e21 --ladder steps", "--ladder"),
        ("plan --languages sw --compute 1e21 --min-share sw=2", "between 0 and 1"),
        ("plan --languages sw --compute 1e21 --chart plan.txt", ".svg"),
        ("modular --languages sw --compute 1e21", "two languages"),
        ("modular --languages sw,en --compute 1e21 --memory sw=1", "--memory"),
        ("expand --from four --to many", "--to"),
        ("decide --tokens 1e9 --checkpoint-params 1e9", "checkpoint_tokens"),
        ("fit nowhere/", "nowhere"),
        ("fit {table} --law perpetual", "'perpetual'"),
        ("fit {table} --target zz", "'zz'"),
        ("fit {table} --metric furlongs", "furlongs"),
        ("fit {table} --fix alpha=steep", "--fix"),
        ("fit {table} --objective median", "--objective"),
        ("profile {table} omega", "omega"),
        ("study power quickstart --target qqq", "qqq"),
        ("fit {table} --metric bits_per_byte", "bits_per_byte"),
        ("transfer", "--published"),
        ("transfer --published --target qqq", "qqq"),
        ("expand --from 0 --to 4", "--from '0'"),
        ("expand --from four --to 6", "four"),
        ("decide --params 1e9", "tokens"),
        ("study run nothing-of-this-name", "quickstart"),
        ("study status nowhere", "nowhere"),
        ("frobnicate", "frobnicate"),
    ],
)
def test_wrong_input_is_one_error_with_exit_code_2(capsys, table: Path, command: str, named: str):
    assert named in refused(capsys, *command.format(table=table).split())


def test_every_command_has_help_with_an_example(capsys):
    for command in (
        "fit",
        "compare",
        "transfer",
        "profile",
        "plan",
        "expand",
        "decide",
        "modular",
        "report",
        "serve",
        "study run",
        "study power",
        "study next",
    ):
        assert "babelscale " in said(capsys, *command.split(), "--help").split("Usage:")[1].split("\n", 1)[1], command


@pytest.mark.parametrize("code", ["import babelscale", "from babelscale.cli import app; app(['--help'])"])
def test_neither_import_nor_help_pulls_in_jax_or_the_fitting_libraries(code: str):
    heavy = "{'jax', 'scipy', 'polars', 'altair', 'sentencepiece'}"
    subprocess.run([sys.executable, "-c", f"{code}; import sys; assert not {heavy} & set(sys.modules)"], check=True)


PAGE = ("altair", "jinja2", "starlette", "uvicorn", "vl_convert")
LABORATORY = ("jax", "jaxlib", "optax", "orbax", "sentencepiece", "babel")


def without(modules: tuple[str, ...], *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command where some modules are not installed."""
    script = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] in {modules}: raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        f"from babelscale.cli import main; main({[str(argument) for argument in arguments]})\n"
    )
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "command",
    ["fit {table} --target no", "plan --languages no --compute 1e20", "transfer --published", "study plan quickstart"],
)
def test_the_analysis_half_runs_where_neither_laboratory_nor_page_is_installed(table: Path, command: str):
    done = without(PAGE + LABORATORY, *command.format(table=table).split(), "--json")
    assert done.returncode == 0, done.stderr
    assert strict(done.stdout)


@pytest.mark.parametrize(
    ("command", "extra"), [("study run quickstart --out {folder}", "lab"), ("report {table}", "page")]
)
def test_a_command_without_its_extra_says_which_to_install(table: Path, tmp_path: Path, command: str, extra: str):
    done = without(PAGE + LABORATORY, *command.format(table=table, folder=tmp_path / "new").split())
    assert done.returncode == 2
    assert f"babelscale[{extra}]" in done.stderr
    assert not (tmp_path / "new").exists()


def test_from_columns_and_the_command_line_agree(capsys, table: Path):
    import babelscale as bs

    frame = pl.read_csv(table)
    runs = bs.Runs.from_columns(params=frame["params"], tokens=frame["tokens"], loss=frame["loss"])
    ours = bs.fit(bs.laws.Chinchilla(), runs, resamples=20).parameters
    theirs = strict(said(capsys, "fit", table, "--target", "no", "--resamples", 20, "--json"))["parameters"]
    assert dict(ours) == pytest.approx(theirs, rel=1e-9)
    assert isinstance(runs, Runs)


@pytest.mark.parametrize(
    ("ending", "begins"), [(".svg", b"<svg"), (".png", b"\x89PNG"), (".pdf", b"%PDF"), (".html", b"<!DOCTYPE")]
)
def test_a_fit_is_drawn(capsys: pytest.CaptureFixture[str], table: Path, tmp_path: Path, ending: str, begins: bytes):
    chart = tmp_path / f"fit{ending}"
    json.loads(said(capsys, "fit", table, "--resamples", 20, "--chart", chart, "--json"))
    assert chart.read_bytes().lstrip()[: len(begins)].lower() == begins.lower()


def test_several_fits_are_drawn_together_and_a_profile_as_well(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    rows = [
        {
            "run": f"{code}-{N:g}-{D:g}",
            "language": code,
            "params": N,
            "tokens": D,
            "unique_tokens": 1e12,
            "loss": floor + 400 / N**0.35 + 900 / D**0.35,
        }
        for code, floor in (("sv", 1.5), ("da", 1.6))
        for N in (1e6, 4e6, 1.6e7, 6.4e7)
        for D in (1e7, 4e7, 1.6e8, 6.4e8)
    ]
    both, one = tmp_path / "both.json", tmp_path / "alpha.json"
    pl.DataFrame(rows).write_csv(tmp_path / "runs.csv")
    said(capsys, "fit", tmp_path / "runs.csv", "--target", "all", "--resamples", 20, "--chart", both)
    drawn = both.read_text(encoding="utf-8")
    assert "Swedish" in drawn
    assert "Danish" in drawn
    said(
        capsys,
        "profile",
        tmp_path / "runs.csv",
        "alpha",
        "--law",
        "chinchilla",
        "--target",
        "sv",
        "--resamples",
        20,
        "--chart",
        one,
    )
    assert "alpha" in one.read_text(encoding="utf-8")


def test_a_chart_of_another_ending_is_refused(capsys: pytest.CaptureFixture[str], table: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["fit", str(table), "--resamples", "0", "--chart", str(tmp_path / "fit.gif")])
    assert stopped.value.code == 2
    assert ".svg" in capsys.readouterr().err
