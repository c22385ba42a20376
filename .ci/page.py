"""Counts how the pages of the code read and fails where a count misses its aim.

Usage: `python .ci/page.py [--files] [FOLDER ...]`; without folders, the whole repository.
With `--files`, it lists the files whose counts are furthest from the aims.
"""

import ast
import pathlib
import sys

LIBRARY = ("tfobj", "datasets", "launch")
"""The aims hold for these together; of the tests, only the width."""
WIDTH = 100
LONG_BODY = 12

AIMS = {
    "lines over 100 columns, %": (lambda c: percent(c["wide"], c["lines"]), 0.0),
    "long bodies without a blank line, %": (lambda c: percent(c["dense"], c["bodies"]), 25.0),
    "long bodies with a comment, %": (lambda c: percent(c["commented"], c["bodies"]), 40.0),
    "tuple assignments per 1,000 lines": (lambda c: 1000 * c["tuples"] / c["lines"], 3.0),
    "conditional expressions per 1,000 lines": (lambda c: 1000 * c["ternaries"] / c["lines"], 6.0),
}
AT_LEAST = {"long bodies with a comment, %"}
"""These should reach their aim; all others should stay below it."""


def percent(part, whole):
    """Returns `part` in percent of `whole`."""
    return 100 * part / max(whole, 1)


def body_lines(function, lines):
    """Returns the lines of a function's body, its docstring left out."""
    statements = function.body
    if ast.get_docstring(function, clean=False) is not None:
        statements = statements[1:]
    if not statements:
        return []

    # Comments above the first statement belong to the body.
    first = statements[0].lineno
    while lines[first - 2].lstrip().startswith("#"):
        first -= 1
    return lines[first - 1 : function.end_lineno]


def count(source):
    """Returns the counts of one file as a dict of integers."""
    lines = source.splitlines()
    counts = dict.fromkeys(("wide", "bodies", "dense", "commented", "tuples", "ternaries"), 0)
    counts["lines"] = sum(bool(line.strip()) for line in lines)
    counts["wide"] = sum(len(line) > WIDTH for line in lines)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            body = body_lines(node, lines)
            if len(body) >= LONG_BODY:
                counts["bodies"] += 1
                counts["dense"] += all(line.strip() for line in body)
                counts["commented"] += any(line.lstrip().startswith("#") for line in body)
        elif isinstance(node, ast.Assign):
            targets = isinstance(node.targets[0], ast.Tuple)
            counts["tuples"] += targets and isinstance(node.value, ast.Tuple)
        elif isinstance(node, ast.IfExp):
            counts["ternaries"] += 1
    return counts


def total(counts):
    """Returns the sums over files."""
    return {key: sum(c[key] for c in counts) for key in counts[0]}


def worst(files):
    """Returns (path, counts) of the files that need most work, worst first."""

    def work(item):
        c = item[1]
        missing_comments = max(0.4 * c["bodies"] - c["commented"], 0)
        return c["wide"] + 3 * c["dense"] + 2 * missing_comments + c["tuples"] + c["ternaries"]

    return sorted(files.items(), key=work, reverse=True)


def main(arguments):
    """Prints the table; returns 1 if an aim is missed."""
    chosen = [a for a in arguments if not a.startswith("--")]
    folders = chosen or [*LIBRARY, "tests"]
    files = {
        path: count(path.read_text())
        for folder in folders
        for path in sorted(pathlib.Path(folder).rglob("*.py"))
    }
    columns = {
        folder: total([c for p, c in files.items() if p.is_relative_to(folder)])
        for folder in folders
    }
    if not chosen:
        columns["library"] = total([columns[folder] for folder in LIBRARY])
    judged = columns.get("library", total(list(files.values())))

    missed = any(c["wide"] for c in files.values())
    print(f"{'':42}" + "".join(f"{name[-20:]:>22}" for name in columns) + f"{'aim':>8}")
    for name, (measure, aim) in AIMS.items():
        values = "".join(f"{measure(c):22.1f}" for c in columns.values())
        print(f"{name:42}{values}{aim:8.1f}")
        missed |= measure(judged) < aim if name in AT_LEAST else measure(judged) > aim

    if "--files" in arguments:
        for path, c in worst(files)[:40]:
            print(f"{path}: " + ", ".join(f"{value} {key}" for key, value in c.items() if value))
    return int(missed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
