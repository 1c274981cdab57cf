"""Sections as GitHub-flavoured Markdown, with pictures in a folder beside the file.

Pictures are SVG files: GitHub shows pictures of a repository but removes `data:` addresses, and papers use the files
directly. A table that can be opened holds the numbers of each picture. Text from a table of runs (names of runs,
languages, mixtures) is escaped, so that it never becomes markup, a link or a cell.
"""

import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

from babelscale import files
from babelscale.charts.saving import svg
from babelscale.reporting.report.document import Figure, Section, Table

# Characters with a meaning anywhere in a line, and those with a meaning at its start.
_SPECIAL = re.compile(r"[\\`*_\[\]<>|~$]")
_STARTS = re.compile(r"^([#+=-]|\d+(?=[.)]))")
_WEB = re.compile(r"(?<=www)\.|:(?=//)", re.IGNORECASE)
# Control characters are replaced; a newline or tab becomes an entity.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def write(path: Path, title: str, subtitle: str, sections: Sequence[Section], *, footer: str = "") -> Path:
    """Write sections as Markdown and their figures into NAME-figures/, atomically; returns the path of the text.

    The folder of pictures of an earlier report is replaced.
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
    """The Markdown text.

    Args:
        pictures: folder of the figures, relative to the file.
    """
    blocks = [f"# {escape(title)}", _line(subtitle)]
    for section in sections:
        blocks += _section(section, pictures)
    blocks += ["---", _line(footer)] if footer else []
    return "\n\n".join(block for block in blocks if block) + "\n"


def escape(text: str) -> str:
    """Text escaped so that Markdown shows it unchanged, anywhere in a line."""
    escaped = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text).replace("&", "&amp;")
    escaped = _WEB.sub(r"\\\g<0>", _SPECIAL.sub(r"\\\g<0>", escaped))
    for sign in "\n\r\t":
        escaped = escaped.replace(sign, f"&#{ord(sign)};")
    # Parsers remove white space at the ends, some of them all of Unicode's.
    bare = escaped.strip()
    start = escaped.index(bare)
    return _entities(escaped[:start]) + bare + _entities(escaped[start + len(bare) :])


def _entities(text: str) -> str:
    return "".join(f"&#{ord(sign)};" for sign in text)


def _line(text: str) -> str:
    """Text as a paragraph that does not start a heading, list or rule."""
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
    """A Markdown table; numeric columns are aligned to the right."""
    rule = ["---:" if k in table.numeric else "---" for k in range(len(table.columns))]
    rows = [[escape(str(cell)) for cell in row] for row in (table.columns, *table.rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (rows[0], rule, *rows[1:]))
