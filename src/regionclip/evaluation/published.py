"""Published figures, each with the place where it was read; figures from memory are not here."""

from collections.abc import Mapping
from dataclasses import dataclass

REGIONCLIP_ZOO = "microsoft/RegionCLIP@4b8513b docs/MODEL_ZOO.md"
REGIONCLIP_PAPER = "RegionCLIP (arXiv:2112.09106), ablation of teachers and students"
REGIONCLIP_RECORD = "RegionCLIP (arXiv:2112.09106), as Papers with Code recorded it"
CORA_README = "tgxs002/CORA@c334a6d README.md"
CLIPSELF_README = "wusize/CLIPSelf@1c7fe9c README.md"
CLIM_README = "wusize/CLIM@7baade3 README.md"
CLIM_PAPER = "CLIM (arXiv:2312.11376), Detic with captions and tags"
DIVALIGN_README = "msohaildanish/DivAlign README.md"
OADG_README = "WoojuLee24/OA-DG README.md"


@dataclass(frozen=True, slots=True)
class PublishedFigure:
    """One figure of a published run.

    Attributes:
        protocol: By which it was measured.
        metric: Its name in that protocol's report.
        percent: As published.
        source: Where it stands.
    """

    protocol: str
    metric: str
    percent: float
    source: str


def _figures(
    protocol: str, source: str, figures: Mapping[str, float]
) -> tuple[PublishedFigure, ...]:
    return tuple(
        PublishedFigure(protocol, metric, percent, source) for metric, percent in figures.items()
    )


def _weather(source: str, percents: tuple[float, float, float, float, float]) -> tuple:
    """AP50 in the order of the papers' columns: day, night, dusk rain, night rain, fog."""
    domains = ("daytime_clear", "night_sunny", "dusk_rainy", "night_rainy", "daytime_foggy")
    named = {f"voc07_{domain}": percent for domain, percent in zip(domains, percents, strict=True)}
    return _figures("diverse-weather", source, named)


PUBLISHED: Mapping[str, tuple[PublishedFigure, ...]] = {
    "regionclip-ov-coco-rn50": _figures(
        "ov-coco", REGIONCLIP_ZOO, {"ap50_novel": 31.4, "ap50_all": 50.4}
    )
    + _figures("ov-coco", REGIONCLIP_PAPER, {"ap50_base": 57.1}),
    "regionclip-ov-coco-rn50x4": _figures(
        "ov-coco", REGIONCLIP_PAPER, {"ap50_novel": 39.3, "ap50_base": 61.6, "ap50_all": 55.7}
    ),
    "regionclip-ov-lvis-rn50": _figures("lvis-masks", REGIONCLIP_RECORD, {"ap_rare": 17.1}),
    # the table says neither boxes nor masks; it compares with ViLD's masks
    "regionclip-ov-lvis-rn50x4": _figures(
        "lvis-masks", REGIONCLIP_ZOO, {"ap_rare": 22.0, "ap": 32.3}
    ),
    "cora-ov-coco-rn50": _figures("ov-coco", CORA_README, {"ap50_novel": 35.1, "ap50_all": 35.4}),
    "cora-ov-coco-rn50x4": _figures("ov-coco", CORA_README, {"ap50_novel": 41.7, "ap50_all": 43.8}),
    "fvit-ov-coco-vitb16": _figures("ov-coco", CLIPSELF_README, {"ap50_novel": 37.6}),
    "fvit-ov-coco-vitl14": _figures("ov-coco", CLIPSELF_README, {"ap50_novel": 44.3}),
    "fvit-ov-lvis-vitb16": _figures("lvis-masks", CLIPSELF_README, {"ap_rare": 25.3}),
    "fvit-ov-lvis-vitl14": _figures("lvis-masks", CLIPSELF_README, {"ap_rare": 34.9}),
    "fvlm-ov-coco-vitb16": _figures("ov-coco", CLIM_README, {"ap50_novel": 29.7}),
    "fvlm-ov-lvis-vitb16": _figures("lvis-masks", CLIM_README, {"ap_rare": 24.3}),
    "fvlm-ov-lvis-rn50x64": _figures("lvis-masks", CLIM_README, {"ap_rare": 32.4}),
    "detic-ov-coco-r50": _figures("ov-coco", CLIM_PAPER, {"ap50_novel": 35.4}),
    "clip-the-gap": _weather(DIVALIGN_README, (51.3, 36.9, 32.3, 18.7, 38.5)),
    "oa-dg": _weather(OADG_README, (55.8, 38.6, 35.3, 18.0, 38.7)),
    "divalign": _weather(DIVALIGN_README, (52.8, 42.5, 38.1, 24.1, 37.2)),
}
"""By recipe, or by method for figures to compare with."""


def published_figures(recipe: str, protocol: str) -> tuple[PublishedFigure, ...]:
    """What was published of a recipe under a protocol.

    Raises:
        ValueError: Nothing was, as far as is known here.
    """
    if recipe not in PUBLISHED:
        raise ValueError(
            f"no published figures are known of {recipe!r}; expected one of {', '.join(PUBLISHED)}"
        )
    found = tuple(each for each in PUBLISHED[recipe] if each.protocol == protocol)
    if not found:
        other = PUBLISHED[recipe][0].protocol
        raise ValueError(f"the figures of {recipe} are {other}'s, not {protocol}'s")
    return found
