"""The notebook of the documentation, executed cell by cell."""

import json
import pathlib

import numpy as np
from matplotlib.figure import Figure

NOTEBOOK = pathlib.Path(__file__).resolve().parents[1] / "docs" / "first_steps.ipynb"


def code_cells():
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def run_cell(source, names):
    """Executes a cell; returns the value of its last line, which a notebook displays."""
    *lines, last = source.splitlines()
    exec(compile("\n".join(lines), "cell", "exec"), names)
    return eval(last, names)


def test_first_steps_lead_from_the_import_to_a_figure():
    cells = code_cells()
    names = {}
    model, shapes, scores, figure = [run_cell(cell, names) for cell in cells]

    assert "slot_attention_tetris" in repr(model)
    assert shapes == ((4, 4, 35, 35, 1), (4, 4, 64))
    assert scores.shape == (4,) and np.mean(scores) > 0.9
    assert isinstance(figure, Figure) and len(figure.axes) >= 4 * 8

    # As it is stored, a notebook has no results, which would go out of date.
    stored = json.loads(NOTEBOOK.read_text())["cells"]
    assert not any(cell.get("outputs") for cell in stored)
