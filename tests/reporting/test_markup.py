"""Text that comes out of HTML as it went in."""

from html.parser import HTMLParser

from hypothesis import given, settings
from hypothesis import strategies as st

from cloob_jax.reporting import markup

# What a page can hold as it is, and what hostile names are made of.
_TEXTS = st.text(
    st.one_of(st.characters(exclude_categories=["Cs", "Cc"]), st.sampled_from("<>&\"'"))
).filter(lambda text: not markup._UNFIT.search(text))


class Seen(HTMLParser):
    """What a parser that is not ours finds in a page."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.texts = [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]

    def handle_data(self, data):
        self.texts.append(data)


@settings(max_examples=50, deadline=None)
@given(_TEXTS, _TEXTS)
def test_any_text_comes_out_as_text(content, value):
    seen = Seen(markup.element("p", content, title=value, data_x=None))
    assert seen.tags == ["p"]
    assert "".join(seen.texts) == content
    assert seen.attributes == [("p", "title", value)]


@settings(max_examples=50, deadline=None)
@given(st.text())
def test_whatever_it_is_it_can_be_written(content):
    page = markup.element("p", content)
    assert Seen(page).tags == ["p"]
    page.encode("utf-8")


def test_what_a_page_cannot_hold_is_replaced():
    # NUL, escape, half a character, and the mark that turns the direction of reading.
    assert markup.text("a\x00b\x1bc\ud800d\u202ee\nf") == "a�b�c�d�e\nf"


def test_html_is_not_escaped_twice():
    inner = markup.element("b", "<")
    assert markup.element("p", inner, ">") == "<p><b>&lt;</b>&gt;</p>"
    assert markup.join(["<", inner]) == "&lt;<b>&lt;</b>"


def test_a_table_has_headings_and_a_box_to_scroll_in():
    page = markup.table(["a", "b"], [["1", "2"], ["3", "4"]], [None, "run-0"], "What")
    seen = Seen(page)
    assert seen.tags[:2] == ["div", "table"]
    assert seen.tags.count("tr") == 3
    assert [a[2] for a in seen.attributes if a[1] == "scope"] == [
        *("col", "col"),
        *("row", "row"),
    ]
    assert ("div", "tabindex", "0") in seen.attributes
    assert seen.attributes.count(("td", "class", "run-0")) == 2


def test_a_section_is_linked_to_by_its_heading():
    assert markup.anchor("Bad steps") == "bad-steps"
    assert 'id="bad-steps"' in markup.section("Bad steps", "x")
