"""Prompt templates: the sentences that a class name is put into before it is encoded."""

from collections.abc import Sequence

_IMAGENET80 = (
    "{}.",
    "a photo of a {}.",
    "a bad photo of a {}.",
    "a photo of many {}.",
    "a sculpture of a {}.",
    "a photo of the hard to see {}.",
    "a low resolution photo of the {}.",
    "a rendering of a {}.",
    "graffiti of a {}.",
    "a bad photo of the {}.",
    "a cropped photo of the {}.",
    "a tattoo of a {}.",
    "the embroidered {}.",
    "a photo of a hard to see {}.",
    "a bright photo of a {}.",
    "a photo of a clean {}.",
    "a photo of a dirty {}.",
    "a dark photo of the {}.",
    "a drawing of a {}.",
    "a photo of my {}.",
    "the plastic {}.",
    "a photo of the cool {}.",
    "a close-up photo of a {}.",
    "a black and white photo of the {}.",
    "a painting of the {}.",
    "a painting of a {}.",
    "a pixelated photo of the {}.",
    "a sculpture of the {}.",
    "a bright photo of the {}.",
    "a cropped photo of a {}.",
    "a plastic {}.",
    "a photo of the dirty {}.",
    "a jpeg corrupted photo of a {}.",
    "a blurry photo of the {}.",
    "a photo of the {}.",
    "a good photo of the {}.",
    "a rendering of the {}.",
    "a {} in a video game.",
    "a photo of one {}.",
    "a doodle of a {}.",
    "a close-up photo of the {}.",
    "the origami {}.",
    "the {} in a video game.",
    "a sketch of a {}.",
    "a doodle of the {}.",
    "a origami {}.",
    "a low resolution photo of a {}.",
    "the toy {}.",
    "a rendition of the {}.",
    "a photo of the clean {}.",
    "a photo of a large {}.",
    "a rendition of a {}.",
    "a photo of a nice {}.",
    "a photo of a weird {}.",
    "a blurry photo of a {}.",
    "a cartoon {}.",
    "art of a {}.",
    "a sketch of the {}.",
    "a embroidered {}.",
    "a pixelated photo of a {}.",
    "itap of the {}.",
    "a jpeg corrupted photo of the {}.",
    "a good photo of a {}.",
    "a plushie {}.",
    "a photo of the nice {}.",
    "a photo of the small {}.",
    "a photo of the weird {}.",
    "the cartoon {}.",
    "art of the {}.",
    "a drawing of the {}.",
    "a photo of the large {}.",
    "a black and white photo of a {}.",
    "the plushie {}.",
    "a dark photo of a {}.",
    "itap of a {}.",
    "graffiti of the {}.",
    "a toy {}.",
    "itap of my {}.",
    "a photo of a cool {}.",
    "a photo of a small {}.",
    "a tattoo of the {}.",
)
"""The bare name and OpenAI's 80 templates, in RegionCLIP's order.

Source:
    CLIP (arXiv:2103.00020), sec. 3.1.4; openai/CLIP
    ``notebooks/Prompt_Engineering_for_ImageNet.ipynb``; microsoft/RegionCLIP@4b8513b adds the
    first.
"""

_VILD63 = (
    "There is {article} {name} in the scene.",
    "There is the {name} in the scene.",
    "This is a photo of {article} {name} in the scene.",
    "This is a photo of the {name} in the scene.",
    "This is a photo of one {name} in the scene.",
    "itap of {article} {name}.",
    "itap of my {name}.",
    "itap of the {name}.",
    "This is a photo of {article} {name}.",
    "This is a photo of my {name}.",
    "This is a photo of the {name}.",
    "This is a photo of one {name}.",
    "This is a photo of many {name}.",
    "This is a good photo of {article} {name}.",
    "This is a good photo of the {name}.",
    "This is a bad photo of {article} {name}.",
    "This is a bad photo of the {name}.",
    "This is a photo of a nice {name}.",
    "This is a photo of the nice {name}.",
    "This is a photo of a cool {name}.",
    "This is a photo of the cool {name}.",
    "This is a photo of a weird {name}.",
    "This is a photo of the weird {name}.",
    "This is a photo of a small {name}.",
    "This is a photo of the small {name}.",
    "This is a photo of a large {name}.",
    "This is a photo of the large {name}.",
    "This is a photo of a clean {name}.",
    "This is a photo of the clean {name}.",
    "This is a photo of a dirty {name}.",
    "This is a photo of the dirty {name}.",
    "This is a bright photo of {article} {name}.",
    "This is a bright photo of the {name}.",
    "This is a dark photo of {article} {name}.",
    "This is a dark photo of the {name}.",
    "This is a photo of a hard to see {name}.",
    "This is a photo of the hard to see {name}.",
    "This is a low resolution photo of {article} {name}.",
    "This is a low resolution photo of the {name}.",
    "This is a cropped photo of {article} {name}.",
    "This is a cropped photo of the {name}.",
    "This is a close-up photo of {article} {name}.",
    "This is a close-up photo of the {name}.",
    "This is a jpeg corrupted photo of {article} {name}.",
    "This is a jpeg corrupted photo of the {name}.",
    "This is a blurry photo of {article} {name}.",
    "This is a blurry photo of the {name}.",
    "This is a pixelated photo of {article} {name}.",
    "This is a pixelated photo of the {name}.",
    "This is a black and white photo of the {name}.",
    "This is a black and white photo of {article} {name}.",
    "This is a plastic {name}.",
    "This is the plastic {name}.",
    "This is a toy {name}.",
    "This is the toy {name}.",
    "This is a plushie {name}.",
    "This is the plushie {name}.",
    "This is a cartoon {name}.",
    "This is the cartoon {name}.",
    "This is an embroidered {name}.",
    "This is the embroidered {name}.",
    "This is a painting of the {name}.",
    "This is a painting of a {name}.",
)
"""ViLD's 63 templates with their articles.

Source:
    ViLD (arXiv:2104.13921), appendix; tensorflow/tpu
    ``models/official/detection/projects/vild/ViLD_demo.ipynb`` (Apache-2.0), where "This is " is
    put before what begins with an article.
"""

TEMPLATES: dict[str, tuple[str, ...]] = {
    "imagenet80": _IMAGENET80,
    "openai80": _IMAGENET80[1:],
    "vild63": _VILD63,
    "photo": ("a photo of a {}.",),
    "a-name": ("a {}",),
    "name-and-photo": ("{}.", "a photo of a {}."),
    "none": ("{}",),
}
"""Built-in sets by name: RegionCLIP's; without the bare name OpenAI's own, which are CORA's;
ViLD's, which are CLIM's and CLIPSelf's; ``a-name``, Detic's on LVIS."""
PLACES = ("{}", "{name}")
"""Where a name goes in a sentence; see :func:`fill_template`."""


def prompt_templates(templates: str | Sequence[str]) -> tuple[str, ...]:
    """Look up a built-in set by its name, or check a list of your own.

    Args:
        templates: A key of :data:`TEMPLATES`, or sentences with ``{}`` where the name goes; see
            :func:`fill_template` for what else there is.

    Raises:
        ValueError: The set is unknown, the list is empty, or a sentence has no place for the name
            or more than one.
    """
    if isinstance(templates, str):
        if templates not in TEMPLATES:
            raise ValueError(
                f"unknown prompt templates {templates!r}; expected one of "
                f"{', '.join(sorted(TEMPLATES))}, or a list of sentences with {{}} for the name"
            )
        return TEMPLATES[templates]
    if not templates:
        raise ValueError('prompt templates are empty; ["{}"] encodes the bare names')
    for template in templates:
        places = sum(map(template.count, PLACES))
        if places != 1:
            found = f"{places} places" if places else "no place"
            raise ValueError(
                f"prompt template {template!r} has {found} for the class name; write one {{}}, as "
                "in 'a photo of a {}.'"
            )
    return tuple(templates)


def is_sentence(text: str) -> bool:
    """Whether a name can be put into a text; else it stands for a built-in set."""
    return any(place in text for place in PLACES)


def fill_template(template: str, name: str) -> str:
    """Put a class name into a template.

    At ``{}`` commas of the name go and ``+`` becomes a space. At ``{name}`` it is in lower case,
    ``_`` becomes a space, ``/`` becomes "or", and a full stop at its end goes; ``{article}`` is its
    "a" or "an", by its first letter.

    Source:
        microsoft/RegionCLIP@4b8513b, concept feature export, for ``{}``; tensorflow/tpu
        ``models/official/detection/projects/vild/ViLD_demo.ipynb`` for ``{name}``.
    """
    words = name.lower().replace("_", " ").replace("/", " or ").rstrip(".")
    article = "an" if words[:1] in tuple("aeiou") else "a"
    filled = template.replace("{article}", article).replace("{name}", words)
    return filled.replace("{}", name.replace(",", "").replace("+", " "))
