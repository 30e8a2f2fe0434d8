"""The page that `prepare check` prints."""

from cloob_jax.preparation import page
from cloob_jax.preparation.findings import Fact, Finding

_FOUND = [
    Fact("short", "a few words", {"number": 1}),
    Fact("a longer name", "word " * 40, {}),
    Finding(
        "a fault", 2, "2 of 10 (20 %)", "mend it", ["0.tar \x1b[31mkey: " + "x" * 200]
    ),
]


def test_it_is_aligned_narrow_and_harmless():
    lines = page.render("SOURCE: 10 records", _FOUND).splitlines()
    assert lines[2] == "short          a few words"
    assert lines[3].startswith("a longer name  word") and lines[4].startswith(" " * 15)
    assert max(map(len, lines)) == 100
    assert not any("\x1b" in line for line in lines)
    assert lines[-4:-2] == ["", "1. a fault: 2 of 10 (20 %)"]
    assert lines[-1] == "   fix: mend it"


def test_the_report_has_the_same_numbers():
    report = page.report(_FOUND)
    assert report["facts"]["short"] == {"number": 1}
    assert [each["count"] for each in report["findings"]] == [2]
