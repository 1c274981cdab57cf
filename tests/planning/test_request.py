"""An option of a plan is declared once: the Python signature, the command, the form and the API follow from it."""

import inspect
from collections.abc import Mapping

import pytest
from cyclopts import App
from planning_cases import transfer_fit

from babelscale.cli.options import read_options, takes_options
from babelscale.errors import InputError
from babelscale.options import Positive, option, options_of, read, takes
from babelscale.planning import (
    Decision,
    Expansion,
    ModelPartition,
    Plan,
    PlanRequest,
    decide,
    expand,
    partition_models,
    plan,
)
from babelscale.result import JsonResult
from babelscale.web.endpoints import Endpoint, Page, openapi
from babelscale.web.pages.planning import PlanPageQuery


class PatientRequest(PlanRequest):
    """A plan's options and one more."""

    patience: Positive = option(9.0, "Days that the training may take.", "Budget", "Days", example="30")


def test_one_declaration_is_an_option_of_python_the_command_the_form_and_the_api(capsys):
    @takes(PatientRequest)
    def planned(request: PatientRequest) -> float:
        """Plan.

        Args:
            OPTIONS
        """
        return request.patience

    assert inspect.signature(planned).parameters["patience"].default == 9.0
    assert "patience: Days that the training may take." in (planned.__doc__ or "")
    assert (planned(), planned(patience=3)) == (9.0, 3.0)

    got: list[Mapping[str, object]] = []

    @takes_options(PatientRequest)
    def command(**options: object) -> None:
        """Plan."""
        got.append(read_options(PatientRequest, options).model_dump())

    app = App(help_format="plaintext", result_action="return_value")
    app.command(command)
    app(["command", "--patience", "4", "--unique", "sw=2,yo=1"])
    assert got[0]["patience"] == 4.0
    assert got[0]["unique_tokens"] == {"sw": 2.0, "yo": 1.0}
    app(["command", "--help"])
    assert "--patience FLOAT" in capsys.readouterr().out

    class PatientQuery(PlanPageQuery, PatientRequest):
        """The page's query with one more option."""

    from babelscale.web.app import page_text
    from babelscale.web.app_state import AppState

    endpoint = Endpoint("/api/plan", PatientQuery, lambda state, query: {"patience": query.patience}, "A plan.")
    page = Page("plan", "Plan", "A plan.", (endpoint,), PatientQuery)
    text = page_text(page, AppState())
    assert '<input type="text" id="patience" name="patience"' in text
    assert "Days that the training may take." in text
    parameters = openapi([endpoint], {})["paths"]["/api/plan"]["get"]["parameters"]
    assert {"name": "patience", "example": "30"}.items() <= next(
        p for p in parameters if p["name"] == "patience"
    ).items()
    assert endpoint.respond(AppState(), {"patience": "5"}).body == b'{"patience":5.0}'


def test_every_option_has_a_sentence_and_a_group():
    for each in options_of(PlanRequest).values():
        assert each.help.endswith("."), each.name
        assert each.group, each.name
    names = set(inspect.signature(plan).parameters)
    assert names == {"fits", *options_of(PlanRequest)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": "sw"}, "weights 'sw': write numbers by name"),
        ({"ladder": "steps"}, "ladder 'steps': write atlas"),
        ({"max_epochs": "often"}, "max_epochs 'often': 'often' is not a number"),
        ({"compute": True}, "compute True: is not a number"),
        ({"colour": "red"}, "colour: no such option"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(InputError, match=message) as refused:
        read(PlanRequest, options)
    assert refused.value.hint
    with pytest.raises(TypeError, match="colour"):
        plan(published=True, colour="red")  # pyright: ignore[reportCallIssue]


def test_texts_are_read_as_values():
    request = read(
        PlanRequest,
        {"languages": "no,nan,no", "max_epochs": "4", "min_share": "no=0.1", "ladder": "atlas", "tail": "0.2"},
    )
    assert request.languages == ("no", "nan")
    assert (request.max_epochs, request.min_share, request.ladder, request.tail) == (4.0, {"no": 0.1}, True, 0.2)


FITS = [transfer_fit("sw", {"en": 0.2}), transfer_fit("en", {"sw": 0.1}, B=2000.0)]
QUICK = {"published": True, "languages": ["sw", "hi", "en"], "compute": 1e21, "draws": 20}


@pytest.mark.parametrize(
    ("kind", "made"),
    [
        (Plan, lambda: plan(**QUICK)),
        (Plan, lambda: plan(FITS, loss=0.619, draws=20, unique_tokens={"sw": 5e8, "en": 1e12}, baselines=False)),
        (Expansion, lambda: expand(4, 16, params=2e9, tokens=3e11)),
        (Decision, lambda: decide(2e9, tokens=1e11, language="en", charge=True)),
        (ModelPartition, lambda: partition_models(**QUICK)),
        (ModelPartition, lambda: partition_models(**QUICK | {"draws": 0})),
    ],
)
def test_results_have_every_handle_and_are_read_back(kind: type[JsonResult], made, tmp_path):
    result = made()
    assert isinstance(result, kind)
    again = kind.load(result.save(tmp_path / "result.json"))
    assert str(again) == str(result) == result.summary()
    assert again.to_dict() == result.to_dict()
    assert repr(result) == f"<{kind.__name__}: {result.headline}>"
    assert "\n" not in repr(result)
    frame = result.to_frame()
    assert frame.height
    assert result._repr_html_().count("<tr>") == frame.height + 1
    assert result.plot().to_dict()["$schema"]
    broken = result.to_dict() | {"notes": 3}
    with pytest.raises(InputError, match="field notes"):
        kind.from_dict(broken)
