"""Options of commands that detect."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from regionclip.cli.contents import digest_of_rows
from regionclip.cli.options import optional
from regionclip.cli.running import ImageCommand, ModelCommand

if TYPE_CHECKING:
    from regionclip.cli.classes import EmbeddingFile
    from regionclip.detect import DetectOptions
    from regionclip.vocabulary import Vocabulary


NO_CLASSES = "none"


@dataclass(frozen=True, kw_only=True)
class DetectingOptions(ModelCommand):
    """Options of how to detect; those left out are the model's own."""

    classes: Annotated[str | None, optional("NAMES|FILE|LIST")] = None
    """What to look for: 'cat, remote control', a file with one name per line, a vocabulary file
    that embed-concepts made, a file of class embeddings (.pth, .npy; see --class-names), or a
    built-in list such as coco80, lvis1203 or icons. By default the classes that the model
    carries."""
    class_names: Annotated[str | None, optional("NAMES|FILE|LIST")] = None
    """Names of the rows of a file of class embeddings, such as RegionCLIP's *_cls_emb.pth, which
    holds none: as for --classes. The model must be the one that the embeddings were made with."""
    templates: Annotated[str | None, optional("NAME|TEXT|FILE")] = None
    """Prompts that names are put into: imagenet80, openai80, vild63, name-and-photo, photo, none,
    your own such as 'a photo of a {}.', or a file of them. By default those that the model was made
    for."""
    min_score: Annotated[float | None, optional("SCORE")] = None
    """Lowest score of a detection, 0 to 1. By default the model's."""
    nms_iou: Annotated[float | None, optional("IOU")] = None
    """Overlap above which the weaker of two boxes of a class goes. By default the model's."""
    max_detections: Annotated[int | None, optional("N")] = None
    """Most detections per image. By default the model's."""
    nms: Annotated[
        Literal["hard", "soft_gaussian", "soft_linear", "soft_hard"] | None,
        optional("hard|soft_gaussian|soft_linear|soft_hard"),
    ] = None
    """Drop overlapping boxes, or weaken them by a Gaussian or linear decay of their score.
    By default as the model does."""
    objectness_fusion: Annotated[
        Literal["none", "geometric", "product", "raw"] | None,
        optional("none|geometric|product|raw"),
    ] = None
    """How much a box looks like a thing at all: 'geometric' keeps scores in 0 to 1, 'raw' is
    RegionCLIP's own formula, 'none' leaves it out. By default as the model does."""

    novel_classes: Annotated[str | None, optional("NAMES|FILE|LIST")] = None
    """Of --classes, those that CORA looks for more than it would, as it learned from no box of
    theirs: as for --classes, such as coco17; 'none' for none. By default all that the model was
    not trained on boxes of."""
    novel_factor: Annotated[float | None, optional("FACTOR")] = None
    """How many times likelier CORA takes these to be; 1 favours none. By default the model's, 8 in
    the published ones."""

    def asked_classes(self) -> "Vocabulary | EmbeddingFile | tuple[str, ...] | None":
        """What to look for, checked before a model is read.

        Raises:
            ValueError: See :func:`~regionclip.cli.classes.parse_classes`.
        """
        from regionclip.cli.classes import parse_classes

        return parse_classes(self.classes, class_names=self.class_names, templates=self.templates)

    def options(self, defaults: "DetectOptions") -> "DetectOptions":
        """The model's options with those given instead of its own.

        Raises:
            ValueError: One is out of range.
        """
        given = {
            "min_score": self.min_score,
            "nms_iou": self.nms_iou,
            "max_detections": self.max_detections,
            "nms": self.nms,
        }
        selection = replace(
            defaults.selection, **{name: each for name, each in given.items() if each is not None}
        )
        fusion = self.objectness_fusion or defaults.objectness_fusion
        novel = replace(defaults.novel, **self._novel())
        return replace(defaults, selection=selection, objectness_fusion=fusion, novel=novel)

    def _novel(self) -> dict[str, Any]:
        """What was said of novel classes."""
        from regionclip.cli.classes import parse_names

        given: dict[str, Any] = {}
        if self.novel_classes is not None:
            is_none = self.novel_classes == NO_CLASSES
            given["names"] = () if is_none else parse_names(self.novel_classes)
        if self.novel_factor is not None:
            given["factor"] = self.novel_factor
        return given

    def detection_settings(
        self, vocabulary: "Vocabulary", options: "DetectOptions"
    ) -> dict[str, Any]:
        """What detections depend on beside the model, for the journal.

        Raises:
            ValueError: A novel class is not looked for.
        """
        from regionclip.cli.classes import vectors_file
        from regionclip.settings import settings_to_dict

        options.novel.check_names(vocabulary.names)
        vectors = None
        if vectors_file(self.classes) is not None:
            vectors = {"name": self.classes, "content": digest_of_rows(vocabulary.embeddings)}
        others = settings_to_dict(options)
        return {
            "classes": vocabulary.names,
            "class_vectors": vectors,
            "templates": vocabulary.templates,
            "encoder": vocabulary.encoder_id,
            **others.pop("selection"),
            **others,
        }


@dataclass(frozen=True, kw_only=True)
class DetectingCommand(DetectingOptions, ImageCommand):
    """Options of commands that detect in images."""
