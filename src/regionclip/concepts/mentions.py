"""Which classes captions name: weak labels of their images."""

from collections.abc import Iterable, Sequence

from .class_names import plain_name
from .noun_phrases import WORD
from .plurals import number_forms


class ClassMentions:
    """Finds the names of classes in captions, as whole words, in the singular or the plural.

    Words alone decide: ``orange`` in ``an orange cat`` is the fruit.

    Source:
        Detic (arXiv:2201.02605), sec. 4.1: a caption's image-level labels are the class names that
        occur in it.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        """Look for ``class_names``; two that differ in number alone are found as the first."""
        self._index: dict[str, int] = {}
        for index, name in enumerate(class_names):
            for form in number_forms(_words(plain_name(name))):
                self._index.setdefault(form, index)
        self._longest = max((len(form.split()) for form in self._index), default=0)

    def of(self, captions: Iterable[str]) -> tuple[int, ...]:
        """Indices of the classes that any of the captions names, rising."""
        found = set()
        for caption in captions:
            words = _words(caption).split()
            for start in range(len(words)):
                for length in range(1, self._longest + 1):
                    for form in number_forms(" ".join(words[start : start + length])):
                        if form in self._index:
                            found.add(self._index[form])
        return tuple(sorted(found))


def _words(text: str) -> str:
    return " ".join(WORD.findall(text.lower()))
