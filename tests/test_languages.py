import re

import pytest

from babelscale import languages
from babelscale.errors import InputError

# The study's 50 evaluation languages (ATLAS, section 5).
EVALUATED = (  # noqa: SIM905
    "af ar ba bm bn ca ckb cy de ee el en es fa fil fr gn gu ha he hi hr id it ja jv kk ko mr ms my nl no om pl ps pt "
    "ro ru sm sv sw te th tr uk ur vi yo zh"
).split()


def test_every_evaluation_language_of_the_study_is_known_with_script_family_and_size():
    for code in EVALUATED:
        language = languages.lookup(code)
        assert language.code == code
        assert language.script
        assert language.family
        assert language.unique_tokens is not None
        assert language.unique_tokens > 0


def test_codes_that_other_tools_take_for_missing_values_are_languages():
    assert languages.lookup("no").name == "Norwegian"
    assert languages.lookup("nan").name == "Min Nan Chinese"
    assert languages.lookup("nan").code == "nan"


def test_unique_tokens_of_the_study_are_not_estimates():
    assert languages.lookup("sw").unique_tokens == 7.7e8
    assert languages.lookup("sw").unique_tokens_source == "ATLAS Table C.1"
    assert "estimated" in languages.lookup("yo").unique_tokens_source


@pytest.mark.parametrize(
    ("code", "usual"), [("iw", "he"), ("eng", "en"), ("cmn", "zh"), ("tl", "fil"), ("Swahili", "sw"), ("EN", "en")]
)
def test_an_unknown_code_names_the_usual_one(code: str, usual: str):
    with pytest.raises(InputError, match=re.escape(repr(code))) as caught:
        languages.lookup(code)
    assert repr(usual) in (caught.value.hint or "")


@pytest.mark.parametrize("code", ["", "zz", "xx-foo", "sw yo", "x", "../sw"])
def test_what_is_no_code_is_refused(code: str):
    with pytest.raises(InputError):
        languages.lookup(code)


def test_private_codes_name_data_that_is_no_language():
    assert languages.lookup("x-law").unique_tokens is None
    assert languages.lookup("und").code == "und"


def test_check_says_where():
    with pytest.raises(InputError, match=r"--languages: unknown language code 'qqq'"):
        languages.check(["sw", "qqq"], "--languages")


def test_branches_agree_for_close_kin():
    assert languages.lookup("sv").branch[:4] == languages.lookup("no").branch[:4]
    assert languages.lookup("id").branch == languages.lookup("ms").branch


def test_names_in_their_own_script_are_those_of_cldr():
    localedata = pytest.importorskip("babel.localedata", reason="CLDR comes with the laboratory")
    expected = {"ar": "العربية", "he": "עברית", "ur": "اردو", "fa": "فارسی", "ko": "한국어", "no": "norsk"}
    for code, autonym in expected.items():
        assert languages.lookup(code).autonym == autonym
    named = [language for language in languages.table().values() if language.autonym]
    assert len(named) > 200
    for language in named:
        # Every one of them is a name that some locale of CLDR for this language gives itself.
        own = [place for place in localedata.locale_identifiers() if place.split("_")[0] == language.code]
        macro = ["no"] if language.code in ("nb", "nn") else []
        names = {localedata.load(place).get("languages", {}).get(language.code) for place in own + macro}
        assert language.autonym in names, language.code


def test_a_name_in_another_script_than_the_table_s_is_left_out():
    # The table has Uzbek in Cyrillic letters and Kashmiri in Devanagari, CLDR both under two scripts.
    assert languages.lookup("uz").autonym == "ўзбекча"
    assert languages.lookup("ks").autonym == "कॉशुर"
    assert languages.lookup("nan").autonym == ""
    assert languages.lookup("x-law").autonym == ""
