"""Every trainer's text parses in its own syntax, keeps the codes, and its weights are those of the plan."""

import ast
import csv
import io
import re
import shlex

import pytest

import babelscale as bs
from babelscale.exporters import TRAINERS, export_mixture

yaml = pytest.importorskip("yaml", reason="PyYAML reads what is checked here")


@pytest.fixture(scope="module")
def plan() -> bs.Plan:
    return bs.plan(published=True, compute=1e21, languages=["sw", "no", "yo"], draws=0)


def weights_of(text: str, trainer: str) -> dict[str, float]:
    """Language -> weight, read as the trainer reads it."""
    match trainer:
        case "megatron":
            words = shlex.split(text, comments=True)
            pairs = words[words.index("--data-path") + 1 : -1]
            return {
                re.sub(r"DATA/(.*)_text_document", r"\1", name): float(w)
                for w, name in zip(pairs[::2], pairs[1::2], strict=True)
            }
        case "nanotron":
            (stage,) = yaml.safe_load(text)["data_stages"]
            found = stage["data"]["dataset"]
            return dict(
                zip((f.removeprefix("DATA/") for f in found["dataset_folder"]), found["dataset_weights"], strict=True)
            )
        case "levanter":
            found = yaml.safe_load(text)["data"]
            assert set(found["configs"]) == set(found["train_weights"])
            return found["train_weights"]
        case "olmo-core":
            return {source["source_name"]: source["target_ratio"] for source in yaml.safe_load(text)["sources"]}
        case "olmix":
            names = [source["name"] for source in yaml.safe_load(text)["sources"]]
            row = next(line for line in text.splitlines() if line.startswith("# plan,"))
            return dict(zip(names, map(float, row.split(",")[1:]), strict=True))
        case "huggingface" | "torchtitan":
            tree = ast.parse(text)
            probabilities = next(
                node.value
                for node in tree.body
                if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "probabilities"
            )
            return dict(zip(re.findall(r'"DATA/(.*?)/', text), ast.literal_eval(probabilities), strict=True))
        case _:
            return {row["language"]: float(row["weight"]) for row in csv.DictReader(io.StringIO(text))}


@pytest.mark.parametrize("trainer", TRAINERS)
def test_weights_are_those_of_the_plan(trainer: str, plan: bs.Plan) -> None:
    text = export_mixture(plan, trainer)
    wanted = {code: share for code, share in plan.shares.items() if share > 0}
    assert weights_of(text, trainer) == pytest.approx(wanted, abs=1e-8)


def test_repetition_is_allowed_where_the_plan_repeats(plan: bs.Plan) -> None:
    sources = yaml.safe_load(export_mixture(plan, "olmo-core"))["sources"]
    assert all(source["max_repetition_ratio"] >= plan.epochs[source["source_name"]] - 1e-9 for source in sources)


def test_an_unknown_trainer_is_refused(plan: bs.Plan) -> None:
    with pytest.raises(bs.InputError, match="no trainer is called 'fairseq'"):
        export_mixture(plan, "fairseq")
