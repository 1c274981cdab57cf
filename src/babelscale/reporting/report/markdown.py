"""Sections as GitHub-flavoured Markdown, its pictures in a folder beside it.

Pictures are SVG files and not part of the text: GitHub shows pictures of a repository but drops those written as
`data:` addresses, and a paper takes the files as they are. The numbers behind each stand in a table that opens.
Whatever comes from a table of runs (names of runs, languages, mixtures) is text and never becomes markup, a link or a
cell of its own.
"""

import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

from babelscale import files
from babelscale.charts.saving import svg
from babelscale.reporting.report.document import Figure, Section, Table

# What means something in the middle of a line; at the start of one, more does.
_SPECIAL = re.compile(r"[\\`*_\[\]<>|~$]")
_STARTS = re.compile(r"^([#+=-]|\d+(?=[.)]))")
_WEB = re.compile(r"(?<=www)\.|:(?=//)", re.IGNORECASE)
# What no file of text should hold; a newline or tab stays, as an entity.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def write(path: Path, title: str, subtitle: str, sections: Sequence[Section], *, footer: str = "") -> Path:
    """Write sections as Markdown and their figures into NAME-figures/, atomically; returns the path of the text.

    The folder of pictures is taken anew: one of an earlier report is replaced.
    """
    place = path.with_name(f"{path.stem}-figures")
    figures = [figure for section in sections for figure in section.figures]
    old = place.with_name(f".{place.name}.old")
    if figures:
        shutil.rmtree(old, ignore_errors=True)
        fresh = place.with_name(f".{place.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        with files.new_folder(fresh) as partial:
            for figure in figures:
                (partial / f"{figure.name}.svg").write_text(svg(figure.spec), encoding="utf-8")
        if place.exists():
            place.rename(old)
        fresh.rename(place)
        shutil.rmtree(old, ignore_errors=True)
    return files.write_text(path, render(title, subtitle, sections, footer=footer, pictures=place.name))


def render(title: str, subtitle: str, sections: Sequence[Section], *, footer: str = "", pictures: str = "") -> str:
    """The text, blocks with an empty line between them.

    Args:
        pictures: folder of the figures, from where the text lies.
    """
    blocks = [f"# {escape(title)}", _line(subtitle)]
    for section in sections:
        blocks += _section(section, pictures)
    blocks += ["---", _line(footer)] if footer else []
    return "\n\n".join(block for block in blocks if block) + "\n"


def escape(text: str) -> str:
    """Text that Markdown gives back as it is, wherever in a line it stands."""
    told = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text).replace("&", "&amp;")
    told = _WEB.sub(lambda found: "\\" + found[0], _SPECIAL.sub(lambda found: "\\" + found[0], told))
    for sign in "\n\r\t":
        told = told.replace(sign, f"&#{ord(sign)};")
    # White space at the ends would be lost, some parsers take all of Unicode's for such.
    bare = told.strip()
    start = told.index(bare)
    return _entities(told[:start]) + bare + _entities(told[start + len(bare) :])


def _entities(text: str) -> str:
    return "".join(f"&#{ord(sign)};" for sign in text)


def _line(text: str) -> str:
    """Text as a paragraph: its start makes no heading, list or rule."""
    return _STARTS.sub(lambda found: f"{found[0]}\\" if found[0].isdigit() else f"\\{found[0]}", escape(text))


def _section(section: Section, pictures: str) -> Iterator[str]:
    yield f"## {escape(section.title)}"
    if section.warning:
        lines = "\n>\n".join(f"> {_line(line)}" for line in section.warning)
        yield f"> [!WARNING]\n{lines}"
    yield from map(_line, section.paragraphs)
    yield "\n".join(f"- {_line(line)}" for line in section.lines)
    for figure in section.figures:
        yield from _figure(figure, pictures)
    for table in section.tables:
        yield from (f"**{escape(table.caption)}**", tabulate(table))
    yield "\n".join(f"- {_line(note)}" for note in section.notes)


def _figure(figure: Figure, pictures: str) -> Iterator[str]:
    address = quote(f"{pictures}/{figure.name}.svg")
    yield f"![{escape(str(figure.spec.get('description', figure.name)))}]({address})"
    yield _line(figure.reading)
    yield "<details><summary>The numbers behind this chart</summary>"
    yield from (f"**{escape(figure.table.caption)}**", tabulate(figure.table))
    yield "</details>"


def tabulate(table: Table) -> str:
    """A table; numbers stand right."""
    rule = ["---:" if k in table.numeric else "---" for k in range(len(table.columns))]
    rows = [[escape(str(cell)) for cell in row] for row in (table.columns, *table.rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (rows[0], rule, *rows[1:]))
