"""Curves in SVG: their coordinates against ones worked out by hand."""

import re

import numpy as np
from test_markup import Seen

from cloob_jax.reporting import chart
from cloob_jax.reporting.chart import Line


def paths(page, kind):
    picture, _ = page.split("<ul")  # without the legend
    found = [
        a for a in re.findall(r"<path ([^>]*)>", picture) if f'class="{kind}"' in a
    ]
    return [re.search(r'd="([^"]*)"', attributes)[1] for attributes in found]


def line(y, run=0, x=None):
    x = np.arange(len(y), dtype=float) if x is None else np.array(x, float)
    return Line(run, f"run {run}", x, np.array(y, float))


def test_coordinates():
    page = chart.draw("loss", [line([0, 10, 5])], "step")
    # From 46 to 388 to the right; 0 and 10 lie a 22nd of 188 above 200 and below 12.
    assert paths(page, "line") == ["M46.0,191.45 217.0,20.55 388.0,106.00"]
    assert paths(page, "dots") == ["M46.0,191.45h0M217.0,20.55h0M388.0,106.00h0"]
    assert 'data-x="0.0 2.0" data-y="-0.5 10.5"' in page
    assert 'data-box="46 12 388 200"' in page


def test_a_logarithmic_axis():
    page = chart.draw("norm", [line([0.01, 1, 100])], "step", log=True)
    [points] = paths(page, "line")
    assert points.split()[1].endswith(",106.00")  # 1 is in the middle
    assert "logarithmic" in Seen(page).texts


def test_two_runs_have_one_scale_and_colours_of_their_own():
    page = chart.draw("loss", [line([0, 10]), line([5, 5], run=3, x=[0, 2])], "step")
    first, second = paths(page, "line")
    assert first == "M46.0,191.45 217.0,20.55"
    assert second == "M46.0,106.00 388.0,106.00"
    assert page.count('<g class="run-0">') == page.count('<g class="run-3">') == 1
    assert '<li class="run-3">' in page


def test_gaps_divide_a_curve_and_are_counted():
    page = chart.draw("loss", [line([1, np.nan, 2, 3, np.nan])], "step")
    [points] = paths(page, "line")
    pieces = points.split("M")[1:]
    assert [len(piece.split()) for piece in pieces] == [2, 2]
    assert len(set(pieces[0].split())) == 1  # a point alone: a line to itself
    assert "".join(Seen(page).texts).endswith("run 0 3 (2 not finite)")


def test_long_curves_are_thinned_and_smoothed_over_what_they_were():
    y = np.ones(100_000)
    y[77_777] = 100
    page = chart.draw("loss", [line(y)], "step", most_points=100)
    [below] = paths(page, "faint")
    [above] = paths(page, "line")
    assert len(page) < 6000
    heights = [float(point.split(",")[1]) for point in below[1:].split()]
    assert min(heights) == 20.55  # the spike is whole
    heights = [float(point.split(",")[1]) for point in above[1:].split()]
    assert min(heights) > 190  # and has gone from the mean
    assert paths(page, "dots") == []


def test_long_labels_have_room():
    page = chart.draw("loss", [line([1e6, 1e6 + 0.01])], "step")
    left = int(re.search(r'data-box="(\d+)', page)[1])
    longest = max(Seen(page).texts, key=len)
    assert left > 6 * len(longest) > 46
