"""Building blocks of the HTML page of a report: page, tiles, tables, warnings and figures."""

import base64
import html
import math
import os
import pathlib

from tfobj.viz import canvas


class Markup(str):
    """Text that is HTML already and is not escaped again."""


_STYLE = """
:root { --ink: #1f2328; --soft: #6b7280; --line: #e5e7eb; --accent: #0072b2; --warn: #d55e00; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1180px; padding: 40px 28px 80px; background: #fff;
       color: var(--ink);
       font: 15px/1.55 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
h1 { font-size: 27px; margin: 0 0 4px; letter-spacing: -0.01em; }
h2 { font-size: 18px; margin: 44px 0 12px; padding-bottom: 6px;
     border-bottom: 1px solid var(--line); }
p.protocol, p.note, figcaption { color: var(--soft); margin: 0 0 14px; }
.tiles { display: flex; flex-wrap: wrap; gap: 12px; margin: 26px 0 8px; }
.tile { flex: 1 1 120px; border: 1px solid var(--line); border-radius: 8px; padding: 12px 14px; }
.tile b { display: block; font-size: 23px; font-variant-numeric: tabular-nums; line-height: 1.25; }
.tile span { color: var(--soft); font-size: 12.5px; }
abbr { text-decoration: underline dotted var(--soft); text-underline-offset: 3px; cursor: help; }
table.words td { text-align: left; white-space: normal; vertical-align: top; }
table.words td:first-child { white-space: nowrap; color: var(--soft); }
table.words td:nth-child(3) { white-space: nowrap; }
.warning { border-left: 4px solid var(--warn); background: #fdf3ec; padding: 10px 14px;
           margin: 10px 0; }
figure { margin: 0 0 22px; } img { max-width: 100%; height: auto; display: block; }
table { border-collapse: collapse; font-size: 13.5px; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 14px 5px 0; border-bottom: 1px solid var(--line); text-align: right;
         white-space: nowrap; }
th { color: var(--soft); font-weight: 600; } th:first-child, td:first-child { text-align: left; }
.wide { overflow-x: auto; }
pre { background: #f6f7f9; border-radius: 8px; padding: 16px; overflow-x: auto; font-size: 12.5px;
      line-height: 1.45; }
details summary { cursor: pointer; color: var(--accent); }
"""


def document(title, parts):
    """Returns the whole page: a title and the HTML of its parts."""
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body>\n{body}\n</body></html>\n"
    )


def heading(text, level=2):
    """Returns a heading; level 1 is the title of the page."""
    return f"<h{level}>{escape(text)}</h{level}>"


def note(text, kind="note"):
    """Returns a paragraph in soft ink."""
    return f'<p class="{kind}">{escape(text)}</p>'


def warning(text):
    """Returns a highlighted paragraph."""
    return f'<div class="warning">{escape(text)}</div>'


def tiles(numbers):
    """Returns large numbers side by side, from pairs (name, number)."""
    cells = "".join(
        f'<div class="tile"><b>{number(value)}</b><span>{escape(name)}</span></div>'
        for name, value in numbers
    )
    return f'<div class="tiles">{cells}</div>'


def explained(text, explanation):
    """Returns text that shows an explanation where the pointer rests on it."""
    return Markup(f'<abbr title="{escape(explanation)}">{escape(text)}</abbr>')


def words(rows):
    """Returns a table of text, without a head; the first column names the others."""
    lines = []
    for row in rows:
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in row)
        lines.append(f"<tr>{cells}</tr>")
    return f'<table class="words"><tbody>{"".join(lines)}</tbody></table>'


def table(head, rows):
    """Returns a table; the first column is text, the others are numbers."""
    head_cells = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    lines = []
    for row in rows:
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in row)
        lines.append(f"<tr>{cells}</tr>")
    body = "".join(lines)
    return f"<table><thead><tr>{head_cells}</tr></thead><tbody>{body}</tbody></table>"


def scrollable(content):
    """Returns HTML that scrolls sideways where it is wider than the page."""
    return f'<div class="wide">{content}</div>'


def folded(summary, text):
    """Returns preformatted text that is hidden until the reader opens it."""
    return f"<details><summary>{escape(summary)}</summary><pre>{escape(text)}</pre></details>"


def figure(caption, content):
    """Returns a captioned figure.

    Args:
      caption: text below it.
      content: matplotlib figure, PNG bytes, or path of a PNG file. It is embedded, so that the page
        loads nothing from anywhere.
    """
    if isinstance(content, bytes):
        png = content
    elif isinstance(content, str | os.PathLike):
        png = pathlib.Path(content).read_bytes()
    else:
        png = canvas.figure_to_png(content)

    data = base64.b64encode(png).decode("ascii")
    caption = escape(caption)
    image = f'<img alt="{caption}" src="data:image/png;base64,{data}">'
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"


def number(value):
    """Formats a number for a table or a tile; None is empty, and NaN is a dash."""
    if value is None:
        return ""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return str(value)
    if isinstance(value, int) or abs(value) >= 1_000:
        return f"{value:,.0f}"
    return f"{value:#.4g}"


def escape(text):
    """Escapes text for HTML, in attributes too; `Markup` stays as it is."""
    if isinstance(text, Markup):
        return text
    return html.escape(str(text))
