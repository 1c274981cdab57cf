"""Endpoints that all pages use: the known languages, and a summary of runs."""

from typing import Annotated, Any

from pydantic import Field

from babelscale import languages
from babelscale.web.app_state import SERVED, AppState
from babelscale.web.endpoints import Endpoint
from babelscale.web.query import Query


class LanguagesQuery(Query):
    """A search for languages."""

    search: Annotated[
        str,
        Field(
            description="part of a code, or of a name in English or the language itself (default: all)",
            examples=["swa"],
        ),
    ] = ""


def _languages(state: AppState, query: LanguagesQuery) -> dict[str, Any]:
    """Languages that match the search; those with the most text come first."""
    search = query.search.casefold()
    found = [
        language
        for language in languages.table().values()
        if not search
        or any(search in name.casefold() for name in (language.name, language.autonym))
        or language.code.casefold().startswith(search)
    ]
    found.sort(key=lambda language: (-(language.unique_tokens or 0), language.code))
    return {
        "languages": [
            {
                "code": each.code,
                "name": each.name,
                "autonym": each.autonym,
                "script": each.script,
                "family": each.family,
                "unique_tokens": each.unique_tokens,
                "unique_tokens_source": each.unique_tokens_source,
            }
            for each in found
        ]
    }


class RunsQuery(Query):
    """The source of the runs."""

    source: Annotated[str, Field(description="served, or the name of an uploaded table")] = SERVED


def _runs(state: AppState, query: RunsQuery) -> dict[str, Any]:
    """A summary of the runs of a source."""
    analysis = state.analysis(query.source)
    table = analysis.runs.table
    return {
        "title": analysis.title,
        "runs": len(analysis.runs),
        "languages": list(analysis.runs.languages),
        "targets": list(analysis.runs.targets),
        "params": [table["params"].min(), table["params"].max()],
        "tokens": [table["tokens"].min(), table["tokens"].max()],
        "metric": analysis.runs.metric,
        "hash": analysis.runs.hash,
        "laws": [{"law": fit.law.name, "target": fit.target} for fit in analysis.fits],
        "limits": list(analysis.limits),
    }


ENDPOINTS = (
    Endpoint(
        "/api/runs", RunsQuery, _runs, "A summary of runs: languages, sizes, and the laws that were fitted to them."
    ),
    Endpoint(
        "/api/languages",
        LanguagesQuery,
        _languages,
        "Languages with their script, family and unique tokens. Those with the most text come first.",
    ),
)
