"""Runs `python -m cloob_jax.report` as a user does, and opens the page in Chromium."""

import subprocess
import sys
from pathlib import Path

import pytest
import run_folder
from headless_browser import PROGRAM, Browser

from cloob_jax.report import main


def report(*arguments, cwd):
    command = [sys.executable, "-m", "cloob_jax.report", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)


def test_one_run_has_its_page_in_it(tmp_path):
    path = run_folder.write(tmp_path / "mine")
    (path / "report.html").write_text("an older one")
    done = report("mine", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert Path(tmp_path, done.stdout.strip()) == path / "report.html"
    assert "Run mine" in (path / "report.html").read_text()
    assert not list(path.glob(".report*"))


def test_several_runs_have_theirs_here(tmp_path):
    paths = [run_folder.write(tmp_path / "runs" / name) for name in "ab"]
    done = report(*paths, cwd=tmp_path)
    assert done.stdout == "report.html\n", done.stderr
    page = (tmp_path / "report.html").read_text()
    assert f"python -m cloob_jax.report {paths[0]} {paths[1]}" in page


def test_a_hostile_run_gets_its_page(tmp_path):
    # Outside of the tests' type checks, as users are.
    path = run_folder.write_hostile(tmp_path)
    done = report(path, "--output=page.html", cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert (tmp_path / "page.html").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "required: DIR"),
        (["nothing"], "nothing: no such folder; give the --workdir of a run"),
        (["."], "give the runs in it, such as mine"),
        (["mine", "--output=mine"], "--output=mine: a folder; give the name of a file"),
        (["mine", "--output=mine/log.txt/x"], "mine/log.txt/x: "),
        (["mine", "--out"], "expected one argument"),
        (["mine", "--title=x"], "unrecognized arguments: --title=x"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, monkeypatch, capsys, arguments, expected):
    run_folder.write(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    said = capsys.readouterr()
    assert ended.value.code == 2 and said.out == ""
    [line] = said.err.splitlines()
    assert line.startswith("cloob_jax: ") and expected in line
    assert not (tmp_path / "mine/report.html").exists()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if PROGRAM is None:
        pytest.skip("no chromium on the PATH")
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    paths = [run_folder.write(folder / name) for name in "ab"]
    run_folder.lines(
        paths[1] / "metrics.jsonl",
        [
            {"step": step, "examples_seen": step * 32, "train/loss": step / 100}
            for step in (1, 100, 200, 300)
        ],
    )
    hostile = run_folder.write_hostile(folder)
    main([*map(str, paths), str(hostile), f"--output={folder / 'page.html'}"])
    return folder / "page.html"


@pytest.mark.parametrize("width", [375, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_a_page_fits_and_nothing_is_asked_for(browser, page, width, dark):
    browser.open(page, width=width, dark=dark)
    browser.evaluate("for (const d of document.querySelectorAll('details')) d.open = 1")
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    # Nor is anything cut off that does not scroll in a box of its own.
    wide = browser.evaluate(
        f"""[...document.querySelectorAll('main *')].filter(
            (e) => e.getBoundingClientRect().right > {width + 1}
                && !e.closest('.scrolls, pre')).map((e) => e.outerHTML.slice(0, 100))"""
    )
    assert wide == []
    paper = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(20, 23, 28)" if dark else "rgb(255, 255, 255)")
    assert browser.complaints() == []
    assert all(url.startswith(("file:", "data:")) for url in browser.requests())


_LOSS = "document.querySelector('.chart')"


def point_at_the_middle(browser):
    browser.evaluate(f"{_LOSS}.scrollIntoView({{block: 'center'}})")
    box = browser.evaluate(
        f"{_LOSS}.querySelector('svg').getBoundingClientRect().toJSON()"
    )
    # Step 100, where the axis goes from 1 to 300 between two edges in the picture.
    left, right = browser.evaluate(
        f"{_LOSS}.querySelector('svg').dataset.box.split(' ').map(Number)"
    )[::2]
    x = left + 99 / 299 * (right - left)
    browser.point(box["left"] + x / 400 * box["width"], box["top"] + box["height"] / 2)


def test_pointing_at_a_chart_reads_it(browser, page):
    browser.open(page)
    values = f"[...{_LOSS}.querySelectorAll('.legend b')].map((b) => b.textContent)"
    at = f"{_LOSS}.querySelector('.at').textContent"
    assert browser.evaluate(values) == ["0.5000", "3"]
    point_at_the_middle(browser)
    assert browser.evaluate(at) == "step 100"
    # 200 / (100 + step), smoothed over seven steps, and step / 100.
    first, second = map(float, browser.evaluate(values))
    assert first == pytest.approx(1.0, abs=0.01) and second == pytest.approx(
        1, abs=0.01
    )
    browser.point(1, 1)
    assert browser.evaluate(values) == ["0.5000", "3"] and browser.evaluate(at) == ""


@pytest.mark.parametrize("script", [True, False])
def test_runs_can_be_hidden_even_without_a_script(browser, page, script):
    browser.open(page, script=script)
    shown = f"getComputedStyle({_LOSS}.querySelector('svg .run-1')).display"
    assert browser.evaluate(shown) != "none"
    box = browser.evaluate(
        "document.querySelector('#show-1').getBoundingClientRect().toJSON()"
    )
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    for kind in ("mousePressed", "mouseReleased"):
        browser.send(
            "Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1
        )
    assert browser.evaluate(shown) == "none"
    first = f"getComputedStyle({_LOSS}.querySelector('svg .run-0')).display"
    assert browser.evaluate(first) != "none"


def test_the_policy_stops_what_is_smuggled_in(browser, page, tmp_path):
    # Were text ever to come out as HTML, it would not run.
    bad = "<script>document.title = 'run'</script><img src=x onerror=\"alert()\">"
    other = tmp_path / "page.html"
    other.write_text(page.read_text().replace("<main>", f"<main>{bad}", 1))
    browser.open(other)
    assert browser.evaluate("document.title") == "3 runs compared"
    assert len(browser.complaints()) >= 3
