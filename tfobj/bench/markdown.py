"""Tables in Markdown."""


def table(header, rows):
    """Returns the lines of a table.

    Args:
      header: titles of the columns.
      rows: iterable of sequences of cells, all of them texts.
    """
    return [_line(header), f"|{'---|' * len(header)}", *map(_line, rows)]


def _line(cells):
    return f"| {' | '.join(cells)} |"
