"""Parameters by their paths."""

import pytest

from cloob_jax import selection
from cloob_jax.errors import UserError

PARAMS = {
    "visual": {"conv1": {"kernel": 0}, "ln_pre": {"scale": 0}},
    "text": {"ln_final": {"scale": 0}},
}


@pytest.mark.parametrize(
    "wanted, expected",
    [
        (None, (False, False, False)),
        ("image", (True, True, False)),
        ("text", (False, False, True)),
        ("scale$", (False, True, True)),
        ("^visual/conv", (True, False, False)),
    ],
)
def test_what_is_meant(wanted, expected):
    found = selection.select(PARAMS, wanted, "config.freeze")
    assert (
        found["visual"]["conv1"]["kernel"],
        found["visual"]["ln_pre"]["scale"],
        found["text"]["ln_final"]["scale"],
    ) == expected


@pytest.mark.parametrize(
    "wanted, message", [("vision", "no parameter"), ("(", "not a regular expression")]
)
def test_what_means_nothing_is_named(wanted, message):
    with pytest.raises(UserError, match=rf"config\.freeze=.*{message}"):
        selection.select(PARAMS, wanted, "config.freeze")
