"""Sections as one HTML file that contains its text, tables, charts and the code that draws them.

The file loads nothing: Vega's JavaScript is taken from the installed vl-convert, and a content security policy in the
file forbids any request. Charts are evaluated without `eval` (Vega's interpreter).
"""

import base64
import functools
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from importlib import resources

from babelscale.reporting.report.document import Section

# Draws every chart of the file as the served page does; a chart that fails is replaced by a message above its table.
_DRAW = """
for (const data of document.querySelectorAll('script[type="application/json"][data-chart]')) {
  const name = data.dataset.chart;
  const chart = new Chart(document.getElementById(name));
  chart.show(JSON.parse(data.textContent));
  const saving = document.querySelector(`[data-saves="${CSS.escape(name)}"]`);
  saving.hidden = false;
  saving.addEventListener("click", async ({ target }) => {
    const kind = target.dataset.as;
    if (kind === "csv") keep(new Blob([csv(chart.spec)], { type: "text/csv" }), `${name}.csv`);
    else if (kind) keep(await picture(chart.spec, kind), `${name}.${kind}`);
  });
}
"""


@functools.cache
def bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script."""
    import vl_convert

    return _inline(vl_convert.javascript_bundle())  # pyright: ignore[reportCallIssue]


@functools.cache
def drawing() -> str:
    """The script that draws the charts: that of the served page, and what a file needs in addition."""
    # A plain script exports nothing; browsers do not run modules of a local file.
    served = resources.files("babelscale.web").joinpath("static", "chart.js").read_text("utf-8")
    return _inline(re.sub(r"^export ", "", served, flags=re.MULTILINE) + _DRAW)


def content_policy() -> str:
    """The content security policy of a page: its two scripts by their hashes, its own style, no requests."""
    hashes = " ".join(f"'sha256-{_sha256(script)}'" for script in (bundle(), drawing()))
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'self'"
    )


def html_document(
    title: str, subtitle: str, sections: Sequence[Section], *, footer: str = "", asked: Mapping[str, str] | None = None
) -> str:
    """The page as HTML; all text is escaped, and charts are JSON that cannot close its element.

    Args:
        asked: values of `languages` and `compute` for the form of a plan above the sections; no form without them.
    """
    import jinja2

    loader = jinja2.FunctionLoader(
        lambda name: resources.files("babelscale.reporting.report").joinpath(name).read_text("utf-8")
    )
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["script_json"] = _script_json
    return environment.get_template("page.html").render(
        title=title,
        subtitle=subtitle,
        sections=sections,
        footer=footer,
        asked=asked,
        policy=content_policy(),
        scripts=[_markup(bundle()), _markup(drawing())] if any(section.figures for section in sections) else [],
    )


def _markup(text: str):
    import markupsafe

    return markupsafe.Markup(text)


def _script_json(value: object):
    """JSON for a script element, with `<`, `>` and `&` escaped so that no text can close the element."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return _markup(text)


def _inline(script: str) -> str:
    """A script for use inside an element: in its strings and patterns, `<\\/` means `</`."""
    return script.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _sha256(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
