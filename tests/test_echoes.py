"""What follows from an error is not printed; everything else is."""

import sys
import types

import pytest

from cloob_jax import echoes


def _tell(value, thing=None):
    sys.unraisablehook(types.SimpleNamespace(exc_value=value, object=thing))


def test_only_echoes_are_hushed(monkeypatch):
    heard = []
    monkeypatch.setattr(sys, "unraisablehook", lambda told: heard.append(told))
    monkeypatch.setattr(echoes, "_LAST_SECONDS", 0.0)

    async def reading():
        return None

    coroutine = reading()
    with pytest.raises(KeyError), echoes.hushed():
        _tell(RuntimeError("Event loop is closed"))
        _tell(ValueError("a file is gone"), coroutine)
        _tell(RuntimeError("a true one"))
        raise KeyError
    _tell(RuntimeError("Event loop is closed"))
    coroutine.close()
    assert [str(told.exc_value) for told in heard] == [
        "a true one",
        "Event loop is closed",
    ]
