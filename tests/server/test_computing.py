"""What is computed together is what is computed alone."""

from dataclasses import replace

import pytest
import torch
from PIL import Image

from regionclip.concepts.class_names import builtin_names
from regionclip.data.icons.scenes import draw_scene
from regionclip.detect import Detector
from regionclip.server.computing import DetectWork, RegionWork, detecting, encoding
from regionclip.structures import PreparedImage
from regionclip.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def images(icons: Detector) -> list[PreparedImage]:
    """Different scenes of one size."""
    scenes = [Image.fromarray(draw_scene(6, index).pixels) for index in range(4)]
    return [icons.prepare(scene) for scene in scenes]


def test_different_scenes_in_one_batch_get_their_own_detections(
    icons: Detector, images: list[PreparedImage]
) -> None:
    vocabulary = icons.vocabulary(builtin_names("icons"))
    works = [DetectWork(image, vocabulary, icons.defaults) for image in images]
    assert len({work.group for work in works}) == 1
    detect = detecting(icons)
    together = detect(works)
    alone = [detect([work])[0] for work in works]
    assert all(len(found) > 0 for found in alone)
    assert len({tuple(found.names) for found in alone}) == len(alone)
    for found, own in zip(together, alone, strict=True):
        assert found.names == own.names
        # as near as sums in another order can be
        torch.testing.assert_close(found.boxes, own.boxes, atol=1e-3, rtol=0)
        torch.testing.assert_close(found.scores, own.scores, atol=1e-5, rtol=0)


def test_any_number_of_names_without_a_threshold_gives_no_more_than_is_asked_for(
    icons: Detector, images: list[PreparedImage]
) -> None:
    names = tuple(f"thing {number}" for number in range(1203))
    width = icons.encode_text(["a"]).shape[1]
    vectors = torch.randn(len(names), width, generator=torch.Generator().manual_seed(0))
    vocabulary = Vocabulary(names, vectors, (), icons.encoder_id)
    selection = replace(icons.defaults.selection, min_score=0.0, max_detections=150)
    options = replace(icons.defaults, selection=selection)
    (found,) = detecting(icons)([DetectWork(images[0], vocabulary, options)])
    assert len(found) == 150
    assert bool((found.scores[:-1] >= found.scores[1:]).all())


def test_different_scenes_in_one_batch_get_their_own_vectors(
    icons: Detector, images: list[PreparedImage]
) -> None:
    works = [
        RegionWork(
            image,
            torch.tensor([[0.0, 0.0, 40.0 + 20 * row, 50.0] for row in range(number)]).view(-1, 4),
        )
        for number, image in enumerate(images)
    ]
    encode = encoding(icons)
    for vectors, work in zip(encode(works), works, strict=True):
        assert len(vectors) == len(work.boxes)
        torch.testing.assert_close(vectors, encode([work])[0], atol=1e-5, rtol=1e-5)
