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
from collections.abc import Callable, Mapping, Sequence

from cloob_jax.errors import UserError

# What CLIP_benchmark writes before a set's name: the form it is read from.
_PREFIXES = re.compile(r"^((wds|vtab|tfds)[/_-])*", re.IGNORECASE)
_NUM_SHOWN = 3
Template = str | Callable[[str], str]


@dataclasses.dataclass(frozen=True, eq=False)
class ClassWords:
    """The words of one data set.

    Attributes:
      name: as in CLIP_benchmark, where that has the set.
      templates: prompts, in each of which {c} stands for the words of a class.
      classes: the set's own label of a class -> its words, in the set's usual order.
      spellings: further spellings of a label -> the label.
      aliases: other names of the data set.
      also_of: other data sets with the same classes, or some of them.
    """

    name: str
    templates: list[str]
    classes: Mapping[str, str]
    spellings: Mapping[str, str] = dataclasses.field(default_factory=dict)
    aliases: Sequence[str] = ()
    also_of: Sequence[str] = ()

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
                f"expected labels as {next(iter(self.classes))!r}, each once; a data "
                "set of your own needs another name"
            )
        return [self.classes[key] for key in taken]

    def is_also_of(self, name: str) -> bool:
        """Whether they are shared by the data set of that name, in any spelling."""
        return plain_name(name) in map(_plain, self.also_of)

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
    return _known().get(plain_name(name))


def plain_name(name: str) -> str:
    """The name of a data set without prefixes, case and punctuation."""
    return _plain(_PREFIXES.sub("", name))


def same_names(name: str) -> set[str]:
    """The plain names under which people have the very data set of that name."""
    groups = [{_plain(n) for n in [words.name, *words.aliases]} for words in _all()]
    plain = plain_name(name)
    return next((group for group in groups if plain in group), {plain})


@functools.cache
def _all() -> list[ClassWords]:
    """22 small files, read at the first question."""
    folder = importlib.resources.files("cloob_jax") / "vocabulary/class_words"
    found = []
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        facts = json.loads(file.read_text(encoding="utf-8"))
        spellings = facts.get("spellings", {})
        if facts.get("numbered"):
            # The folders of ImageNet V2 are named by ImageNet's numbers.
            spellings |= {str(n): label for n, label in enumerate(facts["classes"])}
        found.append(
            ClassWords(
                file.name.removesuffix(".json"),
                facts["templates"],
                facts["classes"],
                spellings,
                facts["aliases"],
                facts.get("also_of", []),
            )
        )
    return found


@functools.cache
def _known() -> dict[str, ClassWords]:
    """The words by all names of the data sets that they are of."""
    return {
        _plain(name): words
        for words in _all()
        for name in [words.name, *words.aliases, *words.also_of]
    }


def _plain(text: str) -> str:
    """Lower case without accents, spaces and punctuation."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKD", text).casefold())


def fill(template: Template, name: str) -> str:
    """A prompt: the template with the class's name.

    Raises:
      UserError: there is no place for it.
    """
    if callable(template):
        return template(name)
    for place in ("{c}", "{}"):
        if place in template:
            return template.replace(place, name)
    raise UserError(f"the template {template!r} lacks {{}} for the class's name")
