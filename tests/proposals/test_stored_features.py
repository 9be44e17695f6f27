import json
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from regionclip.proposals.box_files import read_columns_file
from regionclip.proposals.box_folder import WITHOUT_BOXES, BoxFolder
from regionclip.proposals.stored_features import ENCODER_ID, FILES_KEPT, StoredFeatures
from regionclip.structures import PreparedImage, Proposals

ENCODER = "tiny:0123"
TWO = {"a.jpg": [[1.0, 0.0], [0.0, 2.0]], "b.jpg": [[0.5, 0.25]]}
"""Vectors of the boxes of two images."""


def write(
    path: Path,
    features: Mapping[str, Sequence[Sequence[float]]],
    *,
    encoder_id: str = ENCODER,
    width: int = 2,
    without: Sequence[str] = (),
) -> Path:
    """Boxes from 0 to 1, 10 to 12, ..., the last with the best objectness; one group per image."""
    columns = [("image", pa.string()), *((name, pa.float32()) for name in ("x0", "y0", "x1", "y1"))]
    columns += [("objectness", pa.float32()), ("feature", pa.list_(pa.float16(), width))]
    metadata = {WITHOUT_BOXES: json.dumps(without), ENCODER_ID: encoder_id}
    schema = pa.schema(columns, metadata)
    with parquet.ParquetWriter(path, schema) as writer:
        for name, own in features.items():
            numbers = range(len(own))
            rows = {
                "image": [name for _ in numbers],
                "x0": [10.0 * row for row in numbers],
                "y0": [0.0 for _ in numbers],
                "x1": [11.0 * row + 1 for row in numbers],
                "y1": [1.0 for _ in numbers],
                "objectness": [0.1 * row for row in numbers],
            }
            rows["feature"] = [np.asarray(each, np.float16) for each in own]
            writer.write_table(pa.table(rows, schema))
    return path


def found(folder: BoxFolder, *names: str) -> list[Proposals]:
    return folder.propose([PreparedImage(torch.zeros(3, 20, 40), (20, 40), each) for each in names])


def features(proposals: Proposals) -> list[list[float]]:
    assert proposals.features is not None
    return proposals.features.tolist()


def test_vectors_come_with_their_boxes_best_first(tmp_path: Path) -> None:
    write(tmp_path / "images-00000.parquet", TWO)
    first, second = found(BoxFolder(tmp_path, features_of=ENCODER), "x/a.jpg", "b.jpg")
    assert first.boxes[:, 2].tolist() == [12, 1]
    assert features(first) == [[0, 2], [1, 0]]
    assert features(second) == [[0.5, 0.25]]
    assert first.features is not None
    assert first.features.dtype == torch.float16


def test_vectors_that_are_not_wanted_stay_where_they_are(tmp_path: Path) -> None:
    write(tmp_path / "images-00000.parquet", TWO)
    own, _ = found(BoxFolder(tmp_path), "a.jpg", "b.jpg")
    assert len(own) == 2
    assert own.features is None


def test_a_box_outside_the_image_goes_with_its_vector(tmp_path: Path) -> None:
    write(tmp_path / "images-00000.parquet", TWO)
    small = PreparedImage(torch.zeros(3, 5, 5), (5, 5), "a.jpg")
    (own,) = BoxFolder(tmp_path, features_of=ENCODER).propose([small])
    assert own.boxes.tolist() == [[0, 0, 1, 1]]
    assert features(own) == [[1, 0]]


def test_images_without_boxes_have_vectors_of_the_right_width(tmp_path: Path) -> None:
    write(tmp_path / "images-00000.parquet", TWO, without=("c.jpg",))
    listed, unknown = found(BoxFolder(tmp_path, features_of=ENCODER), "c.jpg", "d.jpg")
    for own in (listed, unknown):
        assert own.features is not None
        assert own.features.shape == (0, 2)


def test_a_file_without_any_box_is_fine(tmp_path: Path) -> None:
    write(tmp_path / "0-00000.parquet", {}, without=("0.tar/a.jpg",))
    write(tmp_path / "0-00001.parquet", {"0.tar/b.jpg": [[1.0, 2.0]]})
    folder = BoxFolder(tmp_path, features_of=ENCODER)
    none, one = found(folder, "0.tar/a.jpg", "0.tar/b.jpg")
    assert none.features is not None
    assert none.features.shape == (0, 2)
    assert features(one) == [[1, 2]]


def test_vectors_are_read_when_they_are_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "images-00000.parquet", TWO)
    folder = BoxFolder(tmp_path, features_of=ENCODER)
    found(folder, "a.jpg")
    path.unlink()
    with pytest.raises(ValueError, match=r"the vectors in \S+images-00000\.parquet cannot be read"):
        found(folder, "b.jpg")


def test_layouts_that_were_forgotten_are_read_again(tmp_path: Path) -> None:
    count = FILES_KEPT + 2
    for number in range(count):
        own = {f"{number}.jpg": [[float(number), 1.0]]}
        write(tmp_path / f"images-{number:05d}.parquet", own)
    folder = BoxFolder(tmp_path, features_of=ENCODER)
    for number in (0, count - 1, 1):
        (own,) = found(folder, f"{number}.jpg")
        assert features(own) == [[number, 1]]


def test_a_worker_that_is_no_fork_gets_a_copy(tmp_path: Path) -> None:
    write(tmp_path / "images-00000.parquet", TWO)
    copy = pickle.loads(pickle.dumps(BoxFolder(tmp_path, features_of=ENCODER)))
    (own,) = found(copy, "b.jpg")
    assert features(own) == [[0.5, 0.25]]


def test_vectors_of_another_encoder_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "images-00000.parquet", TWO, encoder_id="other:4567")
    message = r"images-00000\.parquet has vectors of encoder other:4567, and the teacher's is tiny:"
    with pytest.raises(ValueError, match=message):
        BoxFolder(tmp_path, features_of=ENCODER)


def test_boxes_without_vectors_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "images-00000.parquet", TWO)
    parquet.write_table(parquet.read_table(path).drop_columns("feature"), path)
    with pytest.raises(
        ValueError, match=r"without a teacher's vectors; 'regionclip propose \.\.\."
    ):
        BoxFolder(tmp_path, features_of=ENCODER)


def test_files_of_a_folder_that_differ_are_refused_by_name(tmp_path: Path) -> None:
    write(tmp_path / "0-00000.parquet", {"0.tar/a.jpg": [[1.0, 0.0]]})
    write(tmp_path / "1-00000.parquet", {"1.tar/a.jpg": [[1.0, 0.0]]}, encoder_id="other:4567")
    write(tmp_path / "2-00000.parquet", {"2.tar/a.jpg": [[1.0, 0.0, 0.0]]}, width=3)
    folder = BoxFolder(tmp_path, features_of=ENCODER)
    with pytest.raises(ValueError, match=r"1-00000\.parquet has vectors of encoder other:4567"):
        found(folder, "1.tar/a.jpg")
    with pytest.raises(ValueError, match=r"2-00000\.parquet has vectors of another length"):
        found(folder, "2.tar/a.jpg")


def test_images_that_share_a_row_group_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "images-00000.parquet", TWO)
    parquet.write_table(parquet.read_table(path), path)
    with pytest.raises(ValueError, match="has not one row group per image"):
        StoredFeatures(path, encoder_id=ENCODER).of_boxes(path, read_columns_file(path))


def test_a_file_that_is_damaged_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "images-00000.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ValueError, match=r"images-00000\.parquet cannot be read as a Parquet file"):
        BoxFolder(tmp_path, features_of=ENCODER)
