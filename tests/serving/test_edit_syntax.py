"""The command line of edits: what is read, and mistakes named with what is valid."""

import pytest

from tfobj.errors import UserError
from tfobj.serving import edit_syntax


def test_options_are_read_by_kind():
    edit = edit_syntax.parse(" move:slot=1, rows=5,columns=-8.5 ")
    assert edit == (
        "move",
        {"slot": 1, "rows": 5.0, "columns": -8.5},
        "move:slot=1, rows=5,columns=-8.5",
    )
    assert edit_syntax.parse("depth:order=2+1+3").options == {"order": [2, 1, 3]}


def test_options_may_be_left_out():
    assert edit_syntax.parse("interpolate").options == {}
    assert edit_syntax.parse("tour").name == "tour"


@pytest.mark.parametrize(
    "text, message",
    [
        (
            "mov:slot=1",
            "Unknown edit 'mov'. Did you mean 'move'? Valid: depth, duplicate, insert, "
            "interpolate, move, remove, set, swap, tour, traverse.",
        ),
        ("", "Unknown edit ''."),
        ("tour:slot=1", "Unknown edit 'tour'."),
        (
            "move:slto=1",
            "Unknown key of --edit=move 'slto'. Did you mean 'slot'? "
            "Valid: column, columns, row, rows, slot.",
        ),
        (
            "move:1",
            "`--edit=move` must have options key=value, joined by commas, "
            "as in move:slot=1,rows=5,columns=-8. Received: '1'.",
        ),
        ("move:slot=x", "`slot` of --edit=move must be a whole number. Received: slot=x."),
        ("move:slot=1.5", "`slot` of --edit=move must be a whole number. Received: slot=1.5."),
        ("move:slot=1,rows=inf", "`rows` of --edit=move must be a number. Received: rows=inf."),
        ("depth:slot=1,to=", "`to` of --edit=depth must be a word. Received: to=."),
        ("swap:slots=1,2", "`--edit=swap` must have options key=value"),
        ("swap:slots=1-2", "`slots` of --edit=swap must be whole numbers joined by +."),
        ("move:slot=1,slot=2", "`slot` of --edit=move must be given once."),
    ],
)
def test_mistakes_of_spelling_are_named(text, message):
    with pytest.raises(UserError) as caught:
        edit_syntax.parse(text)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
