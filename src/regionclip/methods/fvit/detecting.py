"""An F-ViT or F-VLM model as the parts of a detector; an image is encoded once for all of them."""

from collections.abc import Sequence
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from regionclip.detections.box_coder import REGION_BOX_WEIGHTS, bounded
from regionclip.proposals.proposer import NovelClasses
from regionclip.regions.embedder import RegionView
from regionclip.scoring.regions import ScoredRegions
from regionclip.structures import PreparedImage, Proposals
from regionclip.vocabulary import Vocabulary

from .model import Fvit
from .scores import are_base, detector_logits, fused_scores
from .towers import MaskTower


class FvitRegions:
    """Region vectors of the frozen CLIP, for inference only.

    Attributes:
        model: Frozen.
    """

    def __init__(self, model: Fvit, *, dtype: torch.dtype = torch.float32) -> None:
        """Let networks compute in ``dtype``; scores are float32."""
        self.model, self._dtype = model, dtype

    def view(self, images: Sequence[PreparedImage]) -> "FvitBatchView":
        """Encode images."""
        sizes = [image.size_hw for image in images]
        prepared = self.model.prepare([image.pixels for image in images])
        return FvitBatchView(self.model, prepared, sizes, dtype=self._dtype)


class FvitBatchView:
    """Maps of some images; the pyramid is computed when it is asked for.

    Attributes:
        model: Frozen.
        sizes_hw: Of the images, without padding.
        maps: What the frozen CLIP gave.
    """

    def __init__(
        self,
        model: Fvit,
        prepared: Float[Tensor, "B 3 S S"],
        sizes_hw: Sequence[tuple[int, int]],
        *,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Encode images that are normalised and padded; networks compute in ``dtype``."""
        self.model, self.sizes_hw, self._dtype = model, sizes_hw, dtype
        with self.autocast():
            self.maps = model.maps(prepared)

    def autocast(self) -> torch.autocast:
        """Lets what is inside compute in the precision that was asked for."""
        is_on = self._dtype != torch.float32
        return torch.autocast(self.model.device.type, self._dtype, enabled=is_on)

    @cached_property
    def levels(self) -> list[Tensor]:
        """The pyramid."""
        with self.autocast():
            return self.model.levels(self.maps)

    def propose(self) -> list[Proposals]:
        """Boxes of each image."""
        with self.autocast():
            judged = self.model.judge(self.levels)
        return self.model.propose(judged, self.sizes_hw)

    def of(self, index: int) -> "FvitView":
        """One of the images."""
        return FvitView(self, index)


class FvitView:
    """One image; see :class:`~regionclip.regions.embedder.RegionView`."""

    def __init__(self, batch: FvitBatchView, index: int) -> None:
        self.batch, self.index = batch, index

    def features(
        self, boxes: Float[Tensor, "R 4"], *, masks: Bool[Tensor, "R H W"] | None = None
    ) -> Float[Tensor, "R D"]:
        """The frozen CLIP's vectors, not normalised.

        Raises:
            ValueError: Masks are given, and the CLIP is one with a ResNet.
        """
        tower = self.batch.model.tower
        clip_map = self.batch.maps.clip[self.index, None].float()
        if masks is None:
            return tower.region_features(clip_map, [boxes.to(clip_map)])
        if not isinstance(tower, MaskTower):
            raise ValueError(
                "this detector's frozen ResNet pools boxes, not masks; give boxes, or load the "
                "CLIP itself"
            )
        return tower.mask_features(clip_map, masks)

    def last_stage_cells(self, boxes: Float[Tensor, "R 4"]) -> Float[Tensor, "R F g g"]:
        """What the mask head sees of each box."""
        return self.batch.model.cells(self.levels, [boxes.to(self.levels[0])]).float()

    @property
    def levels(self) -> list[Tensor]:
        """The pyramid of this image alone."""
        return [level[self.index, None] for level in self.batch.levels]


class FvitLocalizer:
    """A :class:`~regionclip.proposals.proposer.Localizer`: its own network's proposals.

    They do not depend on the classes; they come from the maps that regions are named on.
    """

    def __init__(self, regions: FvitRegions) -> None:
        self._regions = regions

    def localize(
        self, images: Sequence[PreparedImage], vocabulary: Vocabulary, novel: NovelClasses
    ) -> tuple[list[Proposals], FvitBatchView]:
        """Boxes inside each image, and its maps.

        Raises:
            ValueError: Novel classes are given, which this model's configuration knows.
        """
        if novel != NovelClasses():
            raise ValueError(
                "this detector was trained on base classes that its file names, and takes all "
                "others as novel: leave out novel"
            )
        view = self._regions.view(images)
        return view.propose(), view


class FvitScorer:
    """A :class:`~regionclip.scoring.regions.RegionScorer`: two opinions as one.

    Attributes:
        model: Frozen.
    """

    def __init__(self, model: Fvit) -> None:
        self.model = model

    def score(
        self, view: RegionView, proposals: Proposals, vocabulary: Vocabulary
    ) -> ScoredRegions:
        """Scores without the background's, and offsets of the boxes.

        Raises:
            TypeError: The view is not of :class:`FvitRegions`.
        """
        if not isinstance(view, FvitView):
            raise TypeError(f"expected a view of FvitRegions, got {type(view).__name__}")
        model, config = self.model, self.model.config
        boxes = proposals.boxes.to(model.device)
        with view.batch.autocast():
            answers = model.answer(view.levels, [boxes])
        features = view.features(boxes)
        scale = config.detector_scale
        classes, background = vocabulary.embeddings.to(model.device), model.background
        detector = detector_logits(
            answers.embeddings,
            classes,
            background,
            scale=model.box_head.similarity_scale if scale is None else scale,
        )
        clip = detector_logits(features, classes, background, scale=config.clip_scale)
        scores = fused_scores(detector, clip, are_base(vocabulary.names, config), config)[:, :-1]
        return ScoredRegions(
            boxes,
            scores,
            scores,
            features,
            deltas=bounded(answers.deltas, weights=REGION_BOX_WEIGHTS),
        )
