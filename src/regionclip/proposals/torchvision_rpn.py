"""The proposal network inside a torchvision Faster R-CNN or Mask R-CNN."""

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import get_model
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import concat_box_prediction_layers

from regionclip.structures import PreparedImage, Proposals

PROBABILITY_MARGIN = 1e-7
"""torchvision returns sigmoids; in float32 they reach 1, whose logit is infinite."""


class TorchvisionRpn(nn.Module):
    """A proposer made of the first two thirds of a torchvision detector.

    Its own transform (size, mean, standard deviation), anchors and filter are used; numbers kept
    and NMS threshold are those of the detector (``rpn_post_nms_top_n_test``, ``rpn_nms_thresh``).
    Its box head is left out.

    Attributes:
        transform, backbone, rpn: The detector's own modules (shared, not copied), in ``eval`` mode
            and without gradients.
    """

    def __init__(self, detector: nn.Module) -> None:
        """Take a detector apart.

        Raises:
            ValueError: ``detector`` is of a family without proposal network, such as RetinaNet.
        """
        super().__init__()
        if not isinstance(detector, GeneralizedRCNN):
            raise ValueError(
                f"a {type(detector).__name__} has no region proposal network; expected a "
                "torchvision FasterRCNN, MaskRCNN or KeypointRCNN"
            )
        self.transform = detector.transform
        self.backbone = detector.backbone
        # its parts are declared as plain modules, though they have methods of their own
        self.rpn: Any = detector.rpn
        self.eval().requires_grad_(False)

    @classmethod
    def from_weights(
        cls, architecture: str = "fasterrcnn_resnet50_fpn", *, weights: str = "DEFAULT"
    ) -> "TorchvisionRpn":
        """Weights by torchvision's names; they are downloaded to torch's cache on first use.

        Args:
            architecture: As ``torchvision.models.list_models`` spells it.
            weights: A member of the architecture's enumeration, such as ``COCO_V1``.

        Raises:
            ValueError: A name that torchvision does not know, or no proposal network.
            ConnectionError: The file is not cached and cannot be downloaded.
        """
        try:
            detector = get_model(architecture, weights=weights)
        except KeyError as error:
            raise ValueError(
                f"torchvision has no weights {weights!r} for {architecture}"
            ) from error
        except OSError as error:
            raise ConnectionError(
                f"the weights {weights!r} of {architecture} could not be downloaded ({error}); "
                "download them elsewhere and use TorchvisionRpn.from_file"
            ) from error
        return cls(detector)

    @classmethod
    def from_file(cls, architecture: str, path: str | Path) -> "TorchvisionRpn":
        """Weights from a torchvision state dict on disk, such as your own fine-tuned detector's.

        Args:
            architecture: As ``torchvision.models.list_models`` spells it; a state dict does not
                tell it.
            path: A state dict as ``torch.save`` writes it.

        Raises:
            ValueError: Not a state dict of that architecture.
        """
        try:
            state_dict = torch.load(path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
            raise ValueError(f"{path} is not a file of torch.save, or not complete") from error
        head = "roi_heads.box_predictor.cls_score.weight"
        if not isinstance(state_dict, dict) or head not in state_dict:
            raise ValueError(
                f"{path} is not the state dict of a torchvision R-CNN: it has no {head!r}"
            )
        detector = get_model(
            architecture,
            weights=None,
            weights_backbone=None,
            num_classes=len(state_dict[head]),
        )
        advice = f"is {architecture} the architecture that it was made with?"
        try:
            # torchvision renames the keys of its older files while loading
            missing, unexpected = detector.load_state_dict(state_dict, strict=False)
        except RuntimeError as error:
            raise ValueError(f"{path} holds tensors of other shapes; {advice}") from error
        if missing or unexpected:
            raise ValueError(
                f"{path} lacks {len(missing)} tensors of {architecture} and holds "
                f"{len(unexpected)} others (first: {[*missing, *unexpected][0]}); {advice}"
            )
        return cls(detector)

    @torch.no_grad()
    def propose(self, images: Sequence[PreparedImage]) -> list[Proposals]:
        """See :class:`~regionclip.proposals.proposer.Proposer`.

        Images go through one by one: torchvision would pad a batch, and padding changes what is
        found near the border.
        """
        return [self._propose(image) for image in images]

    def _propose(self, image: PreparedImage) -> Proposals:
        device = next(self.parameters()).device
        inputs, _ = self.transform([image.pixels.to(device)])
        boxes, scores = self._filtered(inputs)
        resized_height, resized_width = inputs.image_sizes[0]
        height, width = image.size_hw
        scale_x, scale_y = width / resized_width, height / resized_height
        boxes = boxes * boxes.new_tensor([scale_x, scale_y, scale_x, scale_y])
        return Proposals(boxes, torch.logit(scores, eps=PROBABILITY_MARGIN))

    def _filtered(self, inputs: ImageList) -> tuple[Tensor, Tensor]:
        """Boxes ``(R, 4)`` in pixels of the resized image and probabilities ``(R,)``, best first.

        torchvision's ``RegionProposalNetwork.forward`` does the same and drops the probabilities.
        """
        maps = list(self.backbone(inputs.tensors).values())
        logits, deltas = self.rpn.head(maps)
        anchors = self.rpn.anchor_generator(inputs, maps)
        num_anchors = [level[0].numel() for level in logits]
        rows, delta_rows = concat_box_prediction_layers(logits, deltas)
        boxes = self.rpn.box_coder.decode(delta_rows, anchors).view(1, -1, 4)
        found, scores = self.rpn.filter_proposals(boxes, rows, inputs.image_sizes, num_anchors)
        return found[0], scores[0]
