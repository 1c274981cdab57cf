"""Codes as other tools write them; codes that look like something else stay as they are."""

import pytest

from babelscale.tabular.codes import members_beside_macro, translate


@pytest.mark.parametrize(
    "code", ["no", "nan", "NA", "on", "zh-Hans", "zh-Hant", "sr-Latn", "sr-Cyrl", "pt-BR", "x-law", "und", "fil"]
)
def test_codes_of_this_package_stay(code: str) -> None:
    assert translate(code).code == code


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("swh_Latn", "sw"), ("eng_Latn", "en"), ("zho_Hant", "zh-Hant"), ("srp_Latn", "sr-Latn"), ("nob_Latn", "nb"),
        ("eng", "en"), ("zho", "zh"), ("iw", "he"), ("tl*", "fil"), ("EN", "en"), ("zh_Hant", "zh-Hant"),
        ("Swahili", "sw"), ("en_US", "en-US"),
    ],
)  # fmt: skip
def test_other_codes_are_translated_and_say_why(written: str, code: str) -> None:
    found = translate(written)
    assert (found.code, bool(found.why)) == (code, True)


def test_what_is_no_code_is_none() -> None:
    assert translate("12!").code is None


def test_a_macro_language_beside_its_member() -> None:
    assert members_beside_macro(["no", "nb", "sw"]) == [("no", "nb")]
    assert members_beside_macro(["zh", "yue", "ar", "arz"]) == []
