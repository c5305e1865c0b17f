"""Tables of texts, and their output as Markdown, LaTeX, CSV or HTML."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import accumulate
from types import MappingProxyType

from anymri.evaluation.metrics.printing import NOTHING

# Characters of a name that Markdown would take for markup; `_` inside a word is not one of them.
_MARKDOWN = re.compile(
    r"[\\`*]|~(?=~)|<(?=[\w/!?])|&(?=#?\w+;)|\](?=[(\[])|(?<![^\W_])_|_(?![^\W_])|^[#+>-](?= )|^\d+(?=[.)] )"
)

# Signs of modalities.
PRESENT, MISSING = "●", "○"


@dataclass(frozen=True)
class Cell:
    """Cell of a table.

    text    content
    best    whether it is printed bold
    marks   footnote signs after the text
    quoted  whether it is a published number, printed in italics
    """

    text: str
    best: bool = False
    marks: str = ""
    quoted: bool = False


@dataclass(frozen=True)
class Group:
    """Group of columns under one heading, which may be empty."""

    heading: str
    columns: Sequence[str]


@dataclass(frozen=True)
class Grid:
    """Table of texts.

    first    names of the first columns, which hold words or the signs of modalities
    rows     one cell for each of `first`, then one for each column of `groups`
    reading  sentences above the table: how to read its numbers
    notes    sentences below the table
    total    whether the last row summarises the rows above
    """

    title: str
    first: Sequence[str]
    groups: Sequence[Group]
    rows: Sequence[Sequence[Cell]]
    reading: Sequence[str] = ()
    notes: Sequence[str] = ()
    total: bool = field(default=False)

    @property
    def columns(self) -> list[str]:
        """Names of all columns, each with the heading above it."""
        named = [f"{group.heading} {column}".strip() for group in self.groups for column in group.columns]
        return [*self.first, *named]


def to_markdown(grid: Grid) -> str:
    """Return a Markdown document that is also readable in a terminal."""
    parts = [f"# {markdown_text(grid.title)}", "\n".join(grid.reading), "\n".join(markdown_lines(grid))]
    parts.append("\n".join(f"- {markdown_text(note)}" for note in grid.notes))
    return "\n\n".join(part for part in parts if part) + "\n"


def markdown_text(text: str) -> str:
    """Return a text with a backslash before what Markdown would read as markup."""
    return _MARKDOWN.sub(lambda found: f"{found[0]}\\" if found[0].isdigit() else f"\\{found[0]}", text)


def markdown_lines(grid: Grid) -> list[str]:
    """Return the lines of the table only, columns padded to equal width; signs centred, words left, numbers right."""
    heads = [_in_markdown_table(name) for name in grid.columns]
    rows = [heads, *([_markdown_cell(cell) for cell in row] for row in grid.rows)]
    widths = [max(3, *map(len, column)) for column in zip(*rows, strict=True)]
    signs = [all(row[i].text in (PRESENT, MISSING) for row in grid.rows[:1]) for i in range(len(grid.first))]
    places = [str.center if sign else str.ljust for sign in signs] + [str.rjust] * (len(widths) - len(signs))
    rules = {str.center: ":{}:", str.ljust: ":{}-", str.rjust: "-{}:"}
    rule = [rules[place].format("-" * (width - 2)) for place, width in zip(places, widths, strict=True)]
    lines = [[place(cell, width) for place, cell, width in zip(places, row, widths, strict=True)] for row in rows]
    return [f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:])]


def to_latex(grid: Grid) -> str:
    r"""Return a LaTeX `table`, which needs `\usepackage{booktabs}`; signs of modalities are bullets and circles."""
    numbers = sum(len(group.columns) for group in grid.groups)
    heads, rules, column = [" & ".join([""] * len(grid.first))], [], len(grid.first) + 1
    for group in grid.groups:
        span = len(group.columns)
        heads.append(rf"\multicolumn{{{span}}}{{c}}{{{_latex(group.heading)}}}")
        if group.heading:
            rules.append(rf"\cmidrule(lr){{{column}-{column + span - 1}}}")
        column += span
    body = [" & ".join(map(_latex_cell, row)) + r" \\" for row in grid.rows]
    if grid.total:
        body.insert(-1, r"\midrule")
    names = [*grid.first, *(name for group in grid.groups for name in group.columns)]
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_latex(' '.join([f'{grid.title}.', *grid.reading]))}}}",
        rf"\begin{{tabular}}{{{'c' * len(grid.first)}{'r' * numbers}}}",
        r"\toprule",
        " & ".join(heads) + r" \\",
        "".join(rules),
        " & ".join(map(_latex, names)) + r" \\",
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
        *(rf"\par\footnotesize {_latex(note)}" for note in grid.notes),
        r"\end{table}",
    ]
    return "\n".join(line for line in lines if line) + "\n"


def to_csv(grid: Grid) -> str:
    """Return comma-separated values: modalities as 1 and 0, missing numbers empty, footnote signs in extra columns."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    shown = {PRESENT: "1", MISSING: "0", NOTHING: ""}
    marked = [i for i in range(len(grid.columns)) if any(row[i].marks for row in grid.rows)]
    writer.writerow([*grid.columns, *(f"{grid.columns[i]} marks" for i in marked)])
    for row in grid.rows:
        writer.writerow([*(shown.get(cell.text, cell.text) for cell in row), *(row[i].marks for i in marked)])
    return stream.getvalue()


def to_html(grid: Grid) -> str:
    """Return a `<table>` with its caption and notes, without a page around it.

    Classes of cells for a style sheet: `sign` of a modality, `word`, and `group` for the first column under a heading.
    """
    heads = f'<td colspan="{len(grid.first)}"></td>'
    for group in grid.groups:
        span = f'colspan="{len(group.columns)}"'
        named = f'<th scope="colgroup" class="group" {span}>{_html_name(group.heading)}</th>'
        heads += named if group.heading else f"<td {span}></td>"
    begins = _begins(grid)
    names = [*grid.first, *(name for group in grid.groups for name in group.columns)]
    columns = "".join(
        f'<th scope="col"{_html_class(i, begins, grid)}>{_html_name(name)}</th>' for i, name in enumerate(names)
    )
    body = [_html_row(row, begins, grid) for row in grid.rows]
    foot = f"<tfoot>\n{body.pop()}\n</tfoot>" if grid.total else ""
    lines = [
        "<table>",
        f"<caption>{escape(' '.join([f'{grid.title}.', *grid.reading]))}</caption>",
        f"<thead>\n<tr>{heads}</tr>" if any(group.heading for group in grid.groups) else "<thead>",
        f"<tr>{columns}</tr>\n</thead>",
        "<tbody>",
        *body,
        "</tbody>",
        foot,
        "</table>",
        *(f"<p>{escape(note)}</p>" for note in grid.notes),
    ]
    return "\n".join(line for line in lines if line) + "\n"


FORMATS: Mapping[str, Callable[[Grid], str]] = MappingProxyType(
    {"markdown": to_markdown, "latex": to_latex, "csv": to_csv, "html": to_html}
)


def _in_markdown_table(text: str) -> str:
    return markdown_text(text).replace("|", r"\|")


def _markdown_cell(cell: Cell) -> str:
    text = _in_markdown_table(cell.text)
    if cell.best:
        text = f"**{text}**"
    elif cell.quoted and cell.text != NOTHING:
        text = f"*{text}*"
    return text + cell.marks


def _latex_cell(cell: Cell) -> str:
    text = _latex(cell.text)
    if text[:1] in ("[", "*"):  # which would be an argument of the line break before
        text = "{}" + text
    if cell.best:
        text = rf"\textbf{{{text}}}"
    elif cell.quoted and cell.text != NOTHING:
        text = rf"\textit{{{text}}}"
    return text + (rf"$^{{{_latex(cell.marks)}}}$" if cell.marks else "")


def _latex(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {sign: rf"\{sign}" for sign in "&%$#_{}"}
    special |= {PRESENT: r"$\bullet$", MISSING: r"$\circ$", "†": r"\dag{}", "³": r"$^3$", "²": r"$^2$"}
    special |= {"<": "$<$", ">": "$>$", "|": "$|$"}
    return "".join(special.get(sign, sign) for sign in text)


def _html_name(text: str) -> str:
    """Return a name above a column, with possible line breaks after underscores: names of systems can be long."""
    return escape(text).replace("_", "_<wbr>")


def _html_row(row: Sequence[Cell], begins: Collection[int], grid: Grid) -> str:
    cells = ""
    for i, cell in enumerate(row):
        text = escape(cell.text)
        if cell.text in (PRESENT, MISSING):
            text = f'<span aria-label="{"present" if cell.text == PRESENT else "missing"}" role="img">{text}</span>'
        if cell.best:
            text = f"<strong>{text}</strong>"
        elif cell.quoted:
            text = f"<em>{text}</em>"
        tag = "td" if i else "th"
        scope = "" if i else ' scope="row"'
        cells += f"<{tag}{scope}{_html_class(i, begins, grid)}>{text}{escape(cell.marks)}</{tag}>"
    return f"<tr>{cells}</tr>"


def _begins(grid: Grid) -> list[int]:
    """Return the columns at which groups with a heading begin."""
    places = accumulate((len(group.columns) for group in grid.groups), initial=len(grid.first))
    return [place for place, group in zip(places, grid.groups, strict=False) if group.heading]


def _html_class(column: int, begins: Collection[int], grid: Grid) -> str:
    """Return the `class` attribute of the cells of a column."""
    if column < len(grid.first):
        signs = bool(grid.rows) and grid.rows[0][column].text in (PRESENT, MISSING)
        return ' class="sign"' if signs else ' class="word"'
    return ' class="group"' if column in begins else ""
