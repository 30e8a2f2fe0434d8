"""The words for the classes of known data sets, and the templates they go into.

Facts, not code: a data set is `cloob_jax/vocabulary/class_words/NAME.json`, which says
where its words come from. They are those of OpenAI's CLIP (Radford et al. 2021,
https://github.com/openai/CLIP), so that results compare with published ones.
"""

import dataclasses
import difflib
import functools
import importlib.resources
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence

from cloob_jax.errors import UserError

# What CLIP_benchmark writes before a set's name: the form it is read from.
_PREFIXES = re.compile(r"^((wds|vtab|tfds)[/_-])*", re.IGNORECASE)
_NUM_SHOWN = 3


@dataclasses.dataclass(frozen=True, eq=False)
class ClassWords:
    """The words of one data set.

    Attributes:
      name: as in CLIP_benchmark, where that has the set.
      templates: prompts, in each of which {c} stands for the words of a class.
      classes: the set's own label of a class -> its words, in the set's usual order.
      spellings: further spellings of a label -> the label.
    """

    name: str
    templates: list[str]
    classes: Mapping[str, str]
    spellings: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def class_names(self, labels: Sequence[str]) -> list[str]:
        """The words for a data set's own labels, in the order of the labels.

        A class is found by its name, never by its place: by the set's own label (a
        folder's name, a name in TFDS, a WordNet id), another spelling of that, or the
        words themselves. Case, accents, spaces and punctuation make no difference.

        Raises:
          UserError: a label is no class or may be several, or two are the same class.
        """
        taken: dict[str, str] = {}
        faults: list[str] = []
        for label in labels:
            keys = self._named.get(_plain(label), [])
            if not keys:
                # The search is slow; a message of one line has no room for many.
                near = self._nearest(label) if len(faults) < _NUM_SHOWN else ""
                faults.append(f"{label!r} is no class of it{near}")
            elif len(keys) > 1:
                faults.append(f"{label!r} is {' and '.join(keys)}: say which")
            elif keys[0] in taken:
                faults.append(f"{label!r} and {taken[keys[0]]!r} are one class")
            else:
                taken[keys[0]] = label
        if faults:
            more = len(faults) - _NUM_SHOWN
            rest = f"; and {more} more" if more > 0 else ""
            raise UserError(
                f"labels of {self.name}: {'; '.join(faults[:_NUM_SHOWN])}{rest}; "
                f"expected labels as {next(iter(self.classes))!r}, each once"
            )
        return [self.classes[key] for key in taken]

    @functools.cached_property
    def _named(self) -> dict[str, list[str]]:
        """Labels by what may be written for them; several have the same words."""
        named: dict[str, list[str]] = {}
        for key, words in self.classes.items():
            named.setdefault(_plain(words), []).append(key)
        # A label means its own class, whatever the words of the others are.
        own = {key: key for key in self.classes} | dict(self.spellings)
        return named | {_plain(spelling): [key] for spelling, key in own.items()}

    def _nearest(self, label: str) -> str:
        (nearest,) = difflib.get_close_matches(_plain(label), self._named, 1, 0.0)
        key = self._named[nearest][0]
        return f" (nearest: {key!r}, {self.classes[key]})"


def find(name: str) -> ClassWords | None:
    """The words of a data set by its name, in any spelling that is known.

    That of CLIP_benchmark (`wds/vtab/flowers`, also as a folder: `wds_vtab-flowers`),
    of TFDS (`oxford_flowers102`) or a common one; None if nobody knows it.
    """
    return _known().get(_plain(_PREFIXES.sub("", name)))


def names() -> list[str]:
    """The names of the data sets whose words are known, sorted."""
    return sorted({words.name for words in _known().values()})


@functools.cache
def _known() -> dict[str, ClassWords]:
    """All data sets, by name and alias; 22 small files, read at the first question."""
    folder = importlib.resources.files("cloob_jax") / "vocabulary/class_words"
    known: dict[str, ClassWords] = {}
    for file in folder.iterdir():
        facts = json.loads(file.read_text(encoding="utf-8"))
        name, spellings = file.name.removesuffix(".json"), facts.get("spellings", {})
        words = ClassWords(name, facts["templates"], facts["classes"], spellings)
        known |= {_plain(alias): words for alias in [name, *facts["aliases"]]}
    return known


def _plain(text: str) -> str:
    """Lower case without accents, spaces and punctuation."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKD", text).casefold())
