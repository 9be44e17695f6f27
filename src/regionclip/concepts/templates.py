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

TEMPLATES: dict[str, tuple[str, ...]] = {
    "imagenet80": _IMAGENET80,
    "openai80": _IMAGENET80[1:],
    "photo": ("a photo of a {}.",),
    "none": ("{}",),
}
"""Built-in sets by name: RegionCLIP's, and without the bare name OpenAI's own, which are CORA's."""


def prompt_templates(templates: str | Sequence[str]) -> tuple[str, ...]:
    """Look up a built-in set by its name, or check a list of your own.

    Args:
        templates: A key of :data:`TEMPLATES`, or sentences with ``{}`` where the name goes.

    Raises:
        ValueError: The set is unknown, the list is empty, or a sentence has no ``{}``.
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
        if "{}" not in template:
            raise ValueError(
                f"prompt template {template!r} has no place for the class name; write {{}} there, "
                "as in 'a photo of a {}.'"
            )
    return tuple(templates)


def fill_template(template: str, name: str) -> str:
    """Put a class name into a template: commas of the name go, ``+`` becomes a space.

    Source:
        microsoft/RegionCLIP@4b8513b, concept feature export.
    """
    return template.replace("{}", name.replace(",", "").replace("+", " "))
