"""One form per noun: plurals to singular, without a download."""

from functools import cache

PLURAL_ONLY = frozenset(
    {
        "airways",
        "athletics",
        "atlas",
        "binoculars",
        "bleachers",
        "canvas",
        "cattle",
        "chess",
        "chopsticks",
        "christmas",
        "clothes",
        "dice",
        "eyeglasses",
        "fireworks",
        "gas",
        "goggles",
        "graffiti",
        "groceries",
        "gymnastics",
        "headphones",
        "jeans",
        "leggings",
        "lens",
        "media",
        "news",
        "overalls",
        "pajamas",
        "pants",
        "pliers",
        "police",
        "pyjamas",
        "ruins",
        "scissors",
        "series",
        "shorts",
        "slacks",
        "spaghetti",
        "species",
        "spectacles",
        "sports",
        "stairs",
        "sunglasses",
        "suspenders",
        "swimwear",
        "tights",
        "tongs",
        "trousers",
        "trunks",
        "tweezers",
        "underpants",
    }
)
"""Nouns whose singular is unusual, another thing, or the same, also where it ends in ``s``."""
PLURAL_ALONE = frozenset({"glasses"})
"""A pair of spectacles; ``wine glasses`` are several."""
IRREGULAR = {
    "axes": "axe",
    "bases": "base",
    "beanies": "beanie",
    "bikinis": "bikini",
    "birdies": "birdie",
    "bookshelves": "bookshelf",
    "bow-ties": "bow-tie",
    "bowties": "bowtie",
    "brownies": "brownie",
    "canoes": "canoe",
    "collies": "collie",
    "dies": "die",
    "does": "doe",
    "doggies": "doggie",
    "ears": "ear",
    "dwarves": "dwarf",
    "genies": "genie",
    "goalies": "goalie",
    "hoes": "hoe",
    "hoodies": "hoodie",
    "hooves": "hoof",
    "horseshoes": "horseshoe",
    "khakis": "khaki",
    "kiwis": "kiwi",
    "magpies": "magpie",
    "menus": "menu",
    "mousses": "mousse",
    "neck-ties": "neck-tie",
    "neckties": "necktie",
    "oases": "oasis",
    "olives": "olive",
    "passersby": "passerby",
    "pies": "pie",
    "pinkies": "pinkie",
    "prairies": "prairie",
    "quiches": "quiche",
    "rookies": "rookie",
    "selfies": "selfie",
    "sharpies": "sharpie",
    "shelves": "shelf",
    "skis": "ski",
    "smoothies": "smoothie",
    "styli": "stylus",
    "taxis": "taxi",
    "ties": "tie",
    "tiptoes": "tiptoe",
    "toes": "toe",
    "tutus": "tutu",
    "valves": "valve",
    "veggies": "veggie",
    "zombies": "zombie",
}
"""What textblob's rules get wrong, found by taking the last words of LVIS's and Objects365's names
to the plural and back."""


def singular(name: str) -> str:
    """The singular of a plural noun; of a compound, with its last word in the singular.

    Args:
        name: In lower case, and a plural: rules turn ``corps`` into ``corp``.
    """
    before, blank, last = name.rpartition(" ")
    if last in PLURAL_ONLY or name in PLURAL_ALONE:
        return name
    return before + blank + _singular_word(last)


def may_be_plural(name: str) -> bool:
    """Whether a noun ends as plurals do: in ``s``, but not as ``glass``, ``bus`` and ``tennis``."""
    last = name.rpartition(" ")[2]
    return last in IRREGULAR or (last.endswith("s") and not last.endswith(("ss", "us", "is")))


def number_forms(name: str) -> tuple[str, ...]:
    """A name as it is and, if it may be a plural, in the singular."""
    return (name, singular(name)) if may_be_plural(name) else (name,)


@cache
def _singular_word(word: str) -> str:
    # nltk, which textblob imports, takes seconds
    from textblob.en.inflect import singularize

    if word in IRREGULAR:
        return IRREGULAR[word]
    return singularize(word) if may_be_plural(word) or not word.endswith("s") else word
