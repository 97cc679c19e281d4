"""What people call themselves: the same line in Python as in JavaScript.

tests/js/room/test_modules.py has the same cases for `plainName`."""

import pytest

from rooms.names import LONGEST_NAME, plain_name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("  Ann \n\t B. ", "Ann B."),
        ("a\u202eb\u0000c\u200bd", "a b c d"),
        ("Zoë 👩\u200d🚀", "Zoë 👩\u200d🚀"),
        ("🚀" * 50, "🚀" * LONGEST_NAME),
        ("\u200d\u200d", ""),
        ("\ud800", ""),
        ("<img src=x>", "<img src=x>"),  # text, and shown as text
        ("x" * 39 + " y", "x" * 39),
        ("\u0301", ""),
        ("", ""),
    ],
)
def test_names_are_one_short_line(text, name):
    assert plain_name(text) == name
