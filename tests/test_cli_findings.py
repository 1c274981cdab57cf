"""`check` on the command line, and what may be wrong in a table said by the commands that read it."""

import json
from pathlib import Path

import pytest

from babelscale import cli

PERPLEXITIES = "run,params,language,tokens,loss\n" + "".join(
    f"r{n},{size},sw,{tokens},{20 + n / 7}\n"
    for n, (size, tokens) in enumerate((size, tokens) for size in (1e7, 3e7, 9e7) for tokens in (1e8, 3e8, 9e8))
)


@pytest.fixture
def perplexities(tmp_path: Path) -> Path:
    path = tmp_path / "runs.csv"
    path.write_text(PERPLEXITIES)
    return path


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command."""
    with pytest.raises(SystemExit) as stopped:
        cli.main([str(argument) for argument in arguments])
    return int(stopped.value.code or 0), *capsys.readouterr()


def test_check_exits_2_on_errors_and_prints_json_also_then(capsys, perplexities: Path, tmp_path: Path) -> None:
    code, out, error = call(capsys, "check", perplexities, "--json")
    assert (code, error) == (2, "")
    found = json.loads(out)
    assert (found["runs"], found["findings"][0]["severity"]) == (9, "error")
    assert "perplexities" in found["findings"][0]["hint"]
    code, out, _ = call(capsys, "check", perplexities)
    assert code == 2
    assert "error: run 'r0' has a loss of 20 nats per token" in out
    (tmp_path / "cut.csv").write_text(PERPLEXITIES + "r9,1e7\n")
    code, out, _ = call(capsys, "check", tmp_path / "cut.csv", "--json")
    assert (code, json.loads(out)["findings"][0]["kind"]) == (2, "unreadable")
    assert "row 11 has 2 cells" in json.loads(out)["findings"][0]["text"]


def test_check_of_a_sound_table_exits_0(capsys, tmp_path: Path) -> None:
    rows = [line.rpartition(",")[0] for line in PERPLEXITIES.splitlines()[1:]]
    losses = [1.7 + 400 / float(r.split(",")[1]) ** 0.34 + 420 / float(r.split(",")[3]) ** 0.28 for r in rows]
    lines = [f"{row},{loss}" for row, loss in zip(rows, losses, strict=True)]
    (tmp_path / "runs.csv").write_text("\n".join([PERPLEXITIES.splitlines()[0], *lines]) + "\n")
    code, out, _ = call(capsys, "check", tmp_path / "runs.csv", "--json")
    assert (code, json.loads(out)["findings"]) == (0, [])


@pytest.fixture
def two_tokenizers(tmp_path: Path) -> Path:
    """Runs of a law in nats per token, of two tokenizers: alone and in pairs."""
    lines = ["run,params,language,tokens,loss,tokenizer"]
    for params in (1e7, 3e7, 9e7):
        for tokens in (1e8, 3e8, 9e8):
            for mixture in (("sw",), ("yo",), ("sw", "yo")):
                for code in mixture:
                    seen = tokens / len(mixture)
                    loss = 1.7 + 0.1 * (code == "yo") + 400 / params**0.34 + 420 / (0.7 * seen + 0.3 * tokens) ** 0.28
                    name = f"{'-'.join(mixture)}-{params:g}-{tokens:g}"
                    lines.append(f"{name},{params},{code},{seen},{loss},{'A' if tokens < 5e8 else 'B'}")
    (tmp_path / "runs.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "runs.csv"


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("fit RUNS --law chinchilla --target sw", 0),
        ("compare RUNS --laws chinchilla --axes params", 0),
        ("plan RUNS --languages sw,yo --compute 1e17", 0),
        # A score needs checkpoints, which this table lacks; the finding comes before that refusal.
        ("transfer RUNS", 0),
    ],
)
def test_commands_say_serious_findings_on_standard_error(capsys, two_tokenizers: Path, command: str, code: int) -> None:
    found, out, error = call(capsys, *command.replace("RUNS", str(two_tokenizers)).split(), "--json")
    assert found == code, error
    assert error.startswith("error: losses are per token, and tokens are of 2 tokenizers (A, B)")
    assert json.loads(out) if code == 0 else not out
