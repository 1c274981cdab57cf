"""Features of pairs: symmetric where they should be, unknown where nothing is known, the same after a file."""

import numpy as np
import pytest

from babelscale.errors import InputError
from babelscale.transfer import Relations, same

CODES = ("sr", "hr", "ru", "de", "id", "ms", "x-code")


@pytest.fixture(scope="module")
def relations() -> Relations:
    overlap = np.arange(49.0).reshape(7, 7)
    return Relations.of(CODES, pairs={"overlap": overlap}, traits={"share": np.arange(7.0)})


def test_serbian_and_croatian_differ_in_script_alone(relations: Relations):
    assert relations.pairs["script"][0, 1] == 0
    assert relations.pairs["branch"][0, 1] == relations.pairs["family"][0, 1] == 1
    assert relations.pairs["lineage"][0, 1] > relations.pairs["lineage"][0, 2] > relations.pairs["lineage"][0, 3] > 0
    assert relations.pairs["lineage"][0, 4] == 0
    assert relations.pairs["place"][0, 1] > relations.pairs["place"][0, 4] > 0
    for name in ("script", "family", "branch", "lineage", "place"):
        np.testing.assert_array_equal(relations.pairs[name], relations.pairs[name].T)


def test_what_is_no_language_has_no_place(relations: Relations):
    assert np.isnan(relations.pairs["place"][-1, 0])
    assert np.isnan(relations.traits["text"][-1])
    assert not same(CODES, "family")[-1, :-1].any()


def test_kin_lie_near(relations: Relations):
    kin = relations.kin
    assert np.linalg.norm(kin[4] - kin[5]) < np.linalg.norm(kin[4] - kin[3])


def test_some_of_them_and_joined(relations: Relations):
    part = relations.at(("ms", "sr"))
    assert part.pairs["overlap"].tolist() == [[40, 35], [5, 0]]
    assert part.traits["share"].tolist() == [5, 0]
    wide = Relations.of(("sr", "sw", "ms")).joined(relations)
    assert wide.pairs["overlap"][0, 2] == 5
    assert np.isnan(wide.pairs["overlap"][1]).all()
    assert np.isnan(wide.traits["share"][1])


def test_files_keep_them(relations: Relations, tmp_path):
    back = Relations.load(relations.save(tmp_path / "relations.json"))
    assert back.languages == relations.languages
    for name, grid in relations.pairs.items():
        np.testing.assert_array_equal(back.pairs[name], grid)
    np.testing.assert_array_equal(back.kin, relations.kin)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", r"pairs is no table"),
        ("{", r"line 1 is not JSON"),
        ('{"languages": ["sw"], "pairs": {}, "traits": [1]}', r"traits is no table of features"),
        ('{"languages": [7], "pairs": {}, "traits": {}}', r"languages is no list of codes"),
        ('{"languages": ["sw", "sw"], "pairs": {}, "traits": {}}', r"languages: 'sw' stands twice"),
        ('{"languages": ["sw"], "pairs": {"near": [["x"]]}, "traits": {}}', r"pairs\.near holds no numbers"),
        ('{"languages": ["sw"], "pairs": {}, "traits": {"size": [1e999]}}', r"traits\.size holds an infinite number"),
        ('{"languages": ["sw"], "pairs": {}, "traits": {"size": [1, 2]}}', r"relation 'size' has shape"),
    ],
)
def test_a_damaged_file_is_refused_by_its_field(tmp_path, text: str, said: str):
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"bad\.json: {said}"):
        Relations.load(path)


def test_wrong_shapes_are_refused():
    with pytest.raises(InputError, match="'overlap' has shape"):
        Relations.of(("sr", "hr"), pairs={"overlap": np.zeros((3, 3))})
