"""What a sample says of the whole, against data sets whose numbers are known."""

import numpy as np
import pytest

from cloob_jax.preparation import contents, sample

_TOTAL, _SEEN = 40_000, 4_000


def draw(total=_TOTAL, seen=_SEEN, **columns):
    """A sample of a source whose records have these columns."""
    records = sample.choose(total, seen)
    rows = np.zeros(len(records), sample._ROW)
    rows["record"] = records
    rows["image"] = rows["caption"] = records
    rows["width"] = rows["height"] = 256
    for name, values in columns.items():
        rows[name] = values[records]
    kinds = ["", "some kind"] if "kind" in columns else [""]
    return sample.Sample(rows, kinds, {"some kind": [(3, "why")]}, total)


@pytest.mark.parametrize(
    ("image", "copies"),
    [
        (np.arange(_TOTAL), 0),
        (np.arange(_TOTAL) // 2, 1),  # twins side by side
        (np.arange(_TOTAL) % (_TOTAL // 2), 1),  # the whole set twice
        (np.arange(_TOTAL) % (_TOTAL // 4), 3),
        (np.minimum(np.arange(_TOTAL) % 20, 1) * np.arange(_TOTAL), _TOTAL / 400),
    ],
    ids=["none", "beside", "twice", "four times", "one in twenty the same"],
)
def test_copies_in_the_whole_are_estimated(image, copies):
    found = draw(image=image)
    (fact, *findings) = contents.repeats(found, str)
    # Some hundred pairs are seen, several at a place.
    assert fact.numbers["copies"] == pytest.approx(copies, rel=0.4, abs=0.001)
    assert [each.name for each in findings] == ["repeated images"] * (copies > 0)


def test_a_run_goes_through_with_the_share_that_is_told():
    total, share = 20_000, 0.012
    rng = np.random.default_rng(0)
    bad = (rng.random(total) < share).astype(int)
    fact, finding = contents.bad_records(draw(total, kind=bad), 0, str)
    needed = fact.numbers["max_bad_fraction"]
    assert share < needed < 3 * share and f"={needed:.2g}"[:5] in fact.text
    stopped = 0
    for _ in range(200):
        met = np.cumsum(rng.permutation(bad))
        stopped += (met > needed * np.maximum(np.arange(1, total + 1), 1000)).any()
    assert stopped <= 2
    assert finding.examples == ["3: why"] and "config.data.max_bad" in finding.fix


def test_the_interval_holds_the_share_where_damage_lies_together():
    # Shards of 100 records, one in fifty of them all bad.
    rng, held = np.random.default_rng(0), 0
    for _ in range(50):
        bad = np.repeat(rng.random(_TOTAL // 100) < 0.02, 100)
        low, high = contents._interval(
            draw(seen=1000, kind=bad), draw(seen=1000, kind=bad).rows["kind"] > 0
        )
        held += low <= bad.mean() <= high
    assert held >= 44  # 95 % of 50, and chance


def test_what_was_left_out_needs_its_share_too():
    fact, *findings = contents.bad_records(draw(seen=_TOTAL), _TOTAL // 4, str)
    assert fact.numbers["max_bad_fraction"] == 0.2 and not findings
    assert fact.text.endswith("config.data.max_bad_fraction=0.2 is needed")
