"""From an image and class names to boxes with those names: the whole way, stage by stage.

    image -> prepare -> view -> proposals -> region features -> scores -> Detections

:meth:`Detector.detect_prepared` and :meth:`Detector._detect_one` are that line; the rest of this
file takes input and gives output. Weights are read in ``loading/``.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from regionclip.data.datasets import Member
from regionclip.data.images import read_image
from regionclip.data.transforms import resize_shortest_edge
from regionclip.detections.box_coder import clip_boxes, decode_boxes
from regionclip.detections.masks import predict_masks
from regionclip.detections.original_pixels import in_original_pixels
from regionclip.detections.select import Selection, select_detections
from regionclip.detector_parts import DetectOptions, DetectorParts
from regionclip.encoders.text import encode_texts
from regionclip.proposals.proposer import NovelClasses
from regionclip.regions.embedder import RegionView
from regionclip.regions.inputs import boxes_input, regions_input
from regionclip.scoring.regions import ScoredRegions, score_classes, score_regions
from regionclip.structures import Detections, ImageSource, PreparedImage, Proposals
from regionclip.vocabulary import Vocabulary, VocabularyMemory, builtin_names

__all__ = ["DetectOptions", "Detector", "DetectorParts"]


class Detector:
    """Detects anything by name; :func:`regionclip.load` makes one.

    Attributes:
        parts: The stages.
        defaults: Options of calls that give none.
        encoder_id: Names the joint space of texts and regions.
    """

    def __init__(self, parts: DetectorParts, defaults: DetectOptions | None = None) -> None:
        self.parts = parts
        self.defaults = DetectOptions() if defaults is None else defaults
        self.encoder_id = parts.encoder.encoder_id
        self._memory = VocabularyMemory(parts.encoder, self.encoder_id)

    @torch.inference_mode()
    def detect_prepared(
        self,
        images: Sequence[PreparedImage],
        vocabulary: Vocabulary,
        options: DetectOptions,
        *,
        proposals: Sequence[Proposals] | None = None,
    ) -> list[Detections]:
        """Detect in prepared images, as one batch.

        Args:
            images: From :meth:`prepare`.
            vocabulary: Class names and their vectors in this model's space.
            options: Scoring and selection.
            proposals: Boxes to name; by default the proposer's.

        Returns:
            Per image, boxes in pixels of the original image, on the CPU.

        Raises:
            ValueError: The vocabulary is of another encoder, or the model lacks what ``options``
                ask for.
        """
        vocabulary.check_encoder(self.encoder_id)
        self._check(options)
        localizer = self.parts.localizer if self.parts.proposer is None else None
        if proposals is None and localizer is not None:
            proposals, view = localizer.localize(images, vocabulary, options.novel)
        else:
            proposals = self.propose(images) if proposals is None else proposals
            view = self.parts.regions.view(images)
        return [
            self._detect_one(image, view.of(index), own, vocabulary, options)
            for index, (image, own) in enumerate(zip(images, proposals, strict=True))
        ]

    def _detect_one(
        self,
        image: PreparedImage,
        view: RegionView,
        proposals: Proposals,
        vocabulary: Vocabulary,
        options: DetectOptions,
    ) -> Detections:
        """Regions to vectors to scores to detections, for one image."""
        select = partial(self._select, image=image, options=options)
        if self.parts.scorer is not None:
            scored = self.parts.scorer.score(view, proposals, vocabulary)
        else:
            scored = score_regions(
                proposals,
                view.features,
                vocabulary.embeddings,
                fusion=options.objectness_fusion,
                temperature=self.parts.temperature,
                min_score=options.selection.min_score,
                is_settled=lambda scored, bound: _are_above(
                    bound, select(scored, above=bound), options.selection.max_detections
                ),
            )
        chosen = select(scored)
        rows = chosen.region_index
        masks = None
        if options.with_masks and self.parts.mask_head is not None:
            masks = predict_masks(view.last_stage_cells, self.parts.mask_head, chosen.boxes, rows)
        reported = scored.class_scores[rows, chosen.labels]
        keeps_fused = options.selection.reported_score == "fused"
        found = Detections(
            boxes=chosen.boxes.cpu(),
            scores=(chosen.scores if keeps_fused else reported).cpu(),
            labels=chosen.labels.cpu(),
            class_names=vocabulary.names,
            objectness=None
            if proposals.objectness is None
            else proposals.objectness.cpu()[rows.cpu()].sigmoid(),
            features=scored.features[rows].cpu() if options.with_features else None,
        )
        return in_original_pixels(found, image, masks)

    def _select(
        self,
        scored: ScoredRegions,
        *,
        image: PreparedImage,
        options: DetectOptions,
        above: float = 0.0,
    ) -> Selection:
        """Refine boxes if asked to, then thresholds, NMS, and the best; ordered by fused score.

        With ``above``, as if lower scores did not exist; what exceeds it stays the same.
        """
        selection = options.selection
        boxes = scored.boxes
        deltas = scored.deltas
        if options.use_box_deltas and self.parts.box_regressor is not None:
            deltas = self.parts.box_regressor(scored.features)
        if options.use_box_deltas and deltas is not None:
            boxes = decode_boxes(deltas, boxes, weights=self.parts.box_weights)
        if options.use_box_deltas and scored.moved is not None:
            boxes = scored.moved
        return select_detections(
            boxes,
            scored.scores,
            class_scores=scored.class_scores,
            size_hw=image.size_hw,
            options=replace(
                selection, reported_score="fused", min_score=max(selection.min_score, above)
            ),
        )

    def detect(
        self,
        images: ImageSource | Sequence[ImageSource],
        classes: Vocabulary | Sequence[str] | str | None = None,
        *,
        boxes: Tensor | Sequence[Tensor] | None = None,
        options: DetectOptions | None = None,
        batch_size: int = 1,
    ) -> Detections | list[Detections]:
        """Find the named classes in one image or many, of any size.

        Args:
            images: One image, or a sequence of them.
            classes: Names; a :class:`~regionclip.vocabulary.Vocabulary` made once for many calls;
                the name of a built-in list such as ``"coco80"``. ``None`` takes the classes that
                the model carries.
            boxes: ``xyxy`` in pixels of the original image to name instead of proposals: one
                ``(R, 4)`` tensor for one image, a sequence of them for many.
            options: ``None`` takes ``self.defaults``.
            batch_size: Images per forward pass. More is faster on a GPU; padding to a common size
                then changes numbers near the right and bottom borders slightly.

        Returns:
            :class:`~regionclip.structures.Detections` of the one image, or a list.

        Raises:
            ImageReadError: An image cannot be read; the message names it.
            ValueError: No classes, no proposals, a box without area inside its image, a vocabulary
                of another encoder, or options that this model has no part for.
        """
        many = isinstance(images, Sequence) and not isinstance(images, str)
        sources: list[ImageSource] = list(images) if many else [images]  # type: ignore[list-item]
        given = None
        if boxes is not None:
            given = list(boxes) if many else [torch.as_tensor(boxes)]
            if len(given) != len(sources):
                raise ValueError(f"got {len(given)} sets of boxes for {len(sources)} images")
        vocabulary = self.vocabulary(classes)
        options = self.defaults if options is None else options
        found: list[Detections] = []
        for start in range(0, len(sources), batch_size):
            batch = sources[start : start + batch_size]
            prepared = [self.prepare(each, f"image {start + n}") for n, each in enumerate(batch)]
            proposals = None
            if given is not None:
                own = zip(given[start : start + batch_size], prepared, strict=True)
                proposals = [Proposals(boxes_input(*pair)) for pair in own]
            results = self.detect_prepared(prepared, vocabulary, options, proposals=proposals)
            found += [replace(each, image=own) for each, own in zip(results, batch, strict=True)]
        return found if many else found[0]

    def prepare(self, image: ImageSource, name: str = "image") -> PreparedImage:
        """Read an image and resize it as the model expects.

        Args:
            image: Any :data:`~regionclip.structures.ImageSource`.
            name: How errors and box tables call it; a path names itself.

        Raises:
            ImageReadError: It cannot be read.
        """
        picture = read_image(image, name=name)
        pixels = resize_shortest_edge(
            picture,
            shortest=self.parts.shortest_side,
            longest=self.parts.longest_side,
            interpolation=self.parts.interpolation,
            rule=self.parts.size_rule,
        )
        name = str(image) if isinstance(image, str | Path | Member) else name
        return PreparedImage(pixels, (picture.height, picture.width), name)

    def propose(self, images: Sequence[PreparedImage]) -> list[Proposals]:
        """Regions of prepared images, in their pixels.

        Raises:
            ValueError: The model has no proposals of its own and was given none.
        """
        if self.parts.proposer is None:
            raise ValueError(
                "this model has no proposals of its own; give boxes=..., or load it with "
                "proposals=... (a proposal network, a file of boxes, or a grid). CORA's follow "
                "class names: it has proposals in detect alone"
            )
        return self.parts.proposer.propose(images)

    @torch.inference_mode()
    def encode_regions(self, image: ImageSource, regions: Tensor) -> Tensor:
        """Text-aligned vectors of your own regions.

        Args:
            image: One image.
            regions: Boxes ``(R, 4)``, ``xyxy`` in pixels of the original image, or boolean masks
                ``(R, H, W)`` over it; zero regions are fine.

        Returns:
            ``(R, D)`` on the CPU, not normalised; compare with cosine similarity.

        Raises:
            ImageReadError: The image cannot be read.
            ValueError: ``regions`` is neither boxes nor masks of the image's size, or a box has no
                area inside the image.
        """
        prepared = self.prepare(image)
        boxes, masks = regions_input(torch.as_tensor(regions), prepared)
        return self.parts.regions.view([prepared]).of(0).features(boxes, masks=masks).cpu()

    @torch.inference_mode()
    def classify_regions(
        self,
        image: ImageSource,
        regions: Tensor,
        classes: Vocabulary | Sequence[str] | str | None = None,
    ) -> Tensor:
        """Score your own regions against class names.

        Args:
            image: One image.
            regions: As :meth:`encode_regions` takes them.
            classes: As :meth:`detect` takes them.

        Returns:
            ``(R, C)`` in [0, 1]; a row's rest to one is the background's.
        """
        vocabulary = self.vocabulary(classes)
        vocabulary.check_encoder(self.encoder_id)
        return score_classes(
            self.encode_regions(image, regions),
            vocabulary.embeddings,
            temperature=self.parts.temperature,
        )

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Vectors ``(N, D)`` of texts as they are, without prompt templates, not normalised.

        A text is cut to the tokens that the model reads. CORA reads 15, start and end included,
        and a CLIP with its region prompt 25; their vectors are of length one.

        Raises:
            ValueError: The model carries no text tower.
        """
        return encode_texts(self.parts.encoder, texts)

    def vocabulary(
        self,
        classes: Vocabulary | Sequence[str] | str | None = None,
        *,
        templates: str | Sequence[str] | None = None,
    ) -> Vocabulary:
        """Encode class names once, for any number of calls; names seen lately are remembered.

        Args:
            classes: As :meth:`detect` takes them; a string is a built-in list.
            templates: A built-in set of prompt templates, or your own with ``{}`` for the name;
                ``None`` takes what the model was made for.

        Raises:
            ValueError: ``None`` for a model that carries no classes, an unknown list, no names.
        """
        if isinstance(classes, Vocabulary):
            return classes
        if classes is None:
            if self.parts.class_vocabulary is None:
                raise ValueError(
                    "this model carries no classes of its own; name some, as in "
                    'detect(image, ["cat", "remote control"])'
                )
            return self.parts.class_vocabulary
        names = builtin_names(classes) if isinstance(classes, str) else tuple(classes)
        templates = self.parts.templates if templates is None else templates
        return self._memory.from_names(names, templates)

    @torch.inference_mode()
    def propose_and_embed(
        self, images: Sequence[PreparedImage]
    ) -> list[tuple[Proposals, Float[Tensor, "R D"]]]:
        """Per image: proposals in pixels of the original image, and their vectors, on the CPU."""
        view = self.parts.regions.view(images)
        pairs = []
        for index, (image, proposals) in enumerate(zip(images, self.propose(images), strict=True)):
            features = view.of(index).features(proposals.boxes).cpu()
            boxes = clip_boxes(proposals.boxes.cpu() * image.scale_xyxy, image.original_size_hw)
            objectness = None if proposals.objectness is None else proposals.objectness.cpu()
            pairs.append((Proposals(boxes, objectness), features))
        return pairs

    def _check(self, options: DetectOptions) -> None:
        refines = self.parts.box_regressor is not None or self.parts.scorer is not None
        if options.use_box_deltas and not refines:
            raise ValueError(
                "this model has no box regressor, only fine-tuned ones do: use_box_deltas=False"
            )
        if options.objectness_fusion != "none" and self.parts.scorer is not None:
            raise ValueError(
                "this model scores regions in its own way, without objectness: "
                f"objectness_fusion='none', got {options.objectness_fusion!r}"
            )
        has_localizer = self.parts.localizer is not None and self.parts.proposer is None
        if options.novel != NovelClasses() and not has_localizer:
            raise ValueError(
                "this model finds boxes whatever the classes are, so that novel ones cannot be "
                "favoured, as CORA can: leave out novel"
            )
        if options.with_masks and self.parts.mask_head is None:
            raise ValueError(
                "this model has no mask head, only those fine-tuned on LVIS do: with_masks=False"
            )


def _are_above(bound: float, chosen: Selection, count: int) -> bool:
    """Whether ``count`` detections score higher than ``bound``; soft NMS may have lowered some."""
    return len(chosen.scores) >= count and float(chosen.scores[-1]) > bound
