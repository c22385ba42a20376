"""Messages of other libraries as parts of one line."""

import pytest

from tfobj.errors import first_line


@pytest.mark.parametrize(
    "text, expected",
    [
        ("No space left on device", "No space left on device"),
        ("first\nsecond", "first"),
        ("\n  first  \nsecond", "first"),
        ("", "OSError"),
        (
            "{{function_node __wrapped__SaveV2}} a.data; No space left [Op:SaveV2]",
            "a.data; No space left",
        ),
        ("No such file [Op:RestoreV2] name: x", "No such file"),
        ("{{node}}", "{{node}}"),
        ("shape [3, 4] of {a}", "shape [3, 4] of {a}"),
    ],
)
def test_only_the_reason_is_kept(text, expected):
    assert first_line(OSError(text)) == expected
