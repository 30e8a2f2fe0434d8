"""The whole page: closed, escaped, and readable in both lights."""

import base64
import hashlib
import itertools
import re
from pathlib import Path

import pytest
import run_folder
from hypothesis import given, settings
from hypothesis import strategies as st
from test_markup import Seen

from cloob_jax.reporting import document, reading
from cloob_jax.reporting.reading import Result, Run

_PARTS = {"html", "head", "meta", "link", "title", "style", "script", "body", "header"}
_PARTS |= {"nav", "main", "section", "footer", "fieldset", "legend", "label", "input"}
_PARTS |= {"h1", "h2", "h3", "h4", "p", "a", "b", "bdi", "code", "pre", "small", "span"}
_PARTS |= {"ul", "li", "div", "table", "thead", "tbody", "tr", "th", "td", "details"}
_PARTS |= {"summary", "figure", "figcaption", "img", "svg", "g", "path", "rect", "text"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    others = [run_folder.write(folder / n, learning_rate=float(n)) for n in "23"]
    return reading.read_all([*others, run_folder.write_hostile(folder)])


@pytest.fixture(scope="module")
def page(runs):
    return document.page(runs, "python -m cloob_jax.report <i>")


def test_nothing_comes_from_elsewhere(page):
    seen = Seen(page)
    # Addresses stand in attributes that load, in styles and in scripts.
    for _, name, value in seen.attributes:
        if name in ("src", "href", "xlink:href", "srcset", "action", "data"):
            assert value.startswith(("data:", "#"))
        assert not name.startswith("on") and name != "style"
    style = page[page.index("<style>") : page.index("</style>")]
    script = page[page.index("<script>") :]
    for text in (style, script):
        assert "http" not in text and "url(" not in text and "import" not in text


def test_only_our_elements_are_there(page):
    seen = Seen(page)
    assert set(seen.tags) <= _PARTS
    assert seen.tags.count("script") == seen.tags.count("style") == 1
    assert "".join(seen.texts).count("<script>alert('x')</script>") > 20


def test_the_policy_allows_just_our_style_and_script(page):
    policy = re.search('content="(default-src[^"]*)"', page)[1]
    assert policy.startswith("default-src 'none'; img-src data:; ")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        content = re.search(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)[1]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_headings_are_in_order_and_names_are_unique(page):
    seen = Seen(page)
    levels = [int(tag[1]) for tag in seen.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b - a <= 1 or b == 4 for a, b in itertools.pairwise(levels))
    names = [value for _, name, value in seen.attributes if name == "id"]
    assert len(set(names)) == len(names)
    targets = {value[1:] for _, name, value in seen.attributes if name == "href"}
    assert targets - set(names) == {"ata:,"}  # that of the icon
    assert all(alt for _, name, alt in seen.attributes if name == "alt")


@settings(max_examples=20, deadline=None)
@given(st.text(), st.text(), st.text())
def test_any_name_is_text(name, value, line):
    result = Result(1, name, value, {"acc1": 0.5, line: 1.0}, Path())
    run = Run(name, Path(), config={name: value}, results=[result], log=[line])
    whole = document.page([run, run], name)
    whole.encode("utf-8")
    assert set(Seen(whole).tags) <= _PARTS
    assert Seen(whole).tags.count("script") == 1


_FILES = ["config.json", "metrics.jsonl", "sessions.json", "bad_steps.jsonl", "log.txt"]
_FILES += ["samples.png", "eval/300/captions_spectrum.npz"]
_FILES += ["eval/300/colour_zeroshot_classification.json"]


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_a_page_whatever_is_damaged(tmp_path_factory, data):
    path = run_folder.write(tmp_path_factory.mktemp("runs") / "run")
    file = path / data.draw(st.sampled_from(_FILES))
    content = bytearray(file.read_bytes())
    place = data.draw(st.integers(0, min(len(content) - 1, 2000)))
    if data.draw(st.booleans()):
        del content[place:]
    else:
        content[place] = data.draw(st.integers(0, 255))
    file.write_bytes(content)
    whole = document.page(reading.read_all([path]), "command")
    assert whole.endswith("</html>\n")


def test_sections_without_content_are_left_out():
    seen = Seen(document.page([Run("new", Path())], "command"))
    assert seen.tags.count("section") == 1 and "fieldset" not in seen.tags


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels
    ]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_all_colours_stand_out_in_both_lights():
    """WCAG 2.2: 4.5 for text, 3 for what is drawn."""
    _, light, dark = document._resource("page.css").split(":root")
    for sheet in (light, dark):
        colours = dict(re.findall(r"--([\w-]+): (#\w{6})", sheet))
        paper = luminance(colours["paper"])
        for name, colour in colours.items():
            if name in ("paper", "wash", "line"):
                continue
            low, high = sorted((luminance(colour), paper))
            least = 3 if "-" in name else 4.5
            assert (high + 0.05) / (low + 0.05) > least, name


def test_neighbouring_runs_differ_in_colour_and_dashes():
    rules = re.findall(r"{(--ink:.*;--dash:.*)}", document._style(30))
    assert len(set(rules)) == 30
    for a, b in itertools.pairwise(rules):
        assert all(x != y for x, y in zip(a.split(";"), b.split(";"), strict=True))
