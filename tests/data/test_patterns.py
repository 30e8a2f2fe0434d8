"""Patterns of files."""

import pytest

from cloob_jax.data import patterns


@pytest.mark.parametrize(
    ("pattern", "expanded"),
    [
        ("a.tar", ["a.tar"]),
        ("{08..11}.tar", ["08.tar", "09.tar", "10.tar", "11.tar"]),
        ("{0..2}", ["0", "1", "2"]),
        ("{a,b}/{1..2}", ["a/1", "a/2", "b/1", "b/2"]),
    ],
)
def test_braces_expand_as_in_a_shell(pattern, expanded):
    assert patterns.expand_braces(pattern) == expanded
