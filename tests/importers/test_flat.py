"""Foreign tables: their column names, our checks."""

from pathlib import Path

import pytest

from babelscale import importers
from babelscale.errors import InputError

TABLE = "Model Size,Training FLOP,val\n1e6,6e13,3.5\n2e6,12e13,3.1\n"
COLUMNS = {"params": "Model Size", "flops": "Training FLOP", "loss": "val"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "theirs.csv"
    file.write_text(TABLE)
    return file


def test_columns_are_mapped_and_tokens_derived(path: Path) -> None:
    runs = importers.table(path, COLUMNS, tokens_from_flops=True, language="sw")
    assert runs.table["params"].to_list() == [1e6, 2e6]
    assert runs.table["tokens"].to_list() == [1e7, 1e7]
    assert runs.targets == ("sw",)
    assert runs.observations().loss.tolist() == [3.5, 3.1]


def test_language_codes_survive(tmp_path: Path) -> None:
    file = tmp_path / "codes.csv"
    file.write_text("run,N,tokens,loss,lang\na,1e6,1e7,3,no\nb,1e6,2e7,3,nan\nc,1e6,3e7,3,on\n")
    assert importers.table(file, {"params": "N", "language": "lang"}).targets == ("nan", "no", "on")


def test_errors_name_file_and_column(path: Path) -> None:
    with pytest.raises(InputError, match=r"theirs\.csv: no column 'size'"):
        importers.table(path, {"params": "size"})
    with pytest.raises(InputError, match="no field is called 'parameters'"):
        importers.table(path, {"parameters": "Model Size"})
    with pytest.raises(InputError, match=r"theirs\.csv: missing column tokens"):
        importers.table(path, COLUMNS)
    other = path.with_name("other.csv")
    other.write_text(TABLE.replace("Training FLOP", "hours"))
    with pytest.raises(InputError, match=r"other\.csv: tokens_from_flops needs flops"):
        importers.table(other, {"params": "Model Size", "loss": "val"}, tokens_from_flops=True)
    with pytest.raises(InputError, match="no such file"):
        importers.table(path.with_name("absent.csv"), COLUMNS)


@pytest.mark.parametrize(
    ("cell", "says"), [("-3", "not positive"), ("NaN", "NaN"), ("x", "not a number"), ("", "empty")]
)
def test_bad_flops_name_the_row(path: Path, cell: str, says: str) -> None:
    path.write_text(TABLE.replace("12e13", cell))
    with pytest.raises(InputError, match=rf"theirs\.csv: row 3, Training FLOP.*{says}"):
        importers.table(path, COLUMNS, tokens_from_flops=True)
