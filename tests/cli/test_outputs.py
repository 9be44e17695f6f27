from pathlib import Path

import pytest

from regionclip.cli.console import UsageError
from regionclip.cli.journal import Journal
from regionclip.cli.outputs import image_ids, parse_formats
from regionclip.data.sources import NamedSource


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ([7, 3], [7, 3]),
        ([7, 7], [1, 2]),  # two data sets
        ([7, None], [1, 2]),
        ([None, None], [1, 2]),
        ([], []),
    ],
)
def test_ids_of_a_data_set_are_kept_if_they_are_unique(
    tmp_path: Path, own: list[int | None], expected: list[int]
) -> None:
    with Journal(tmp_path / "journal.jsonl", {}, resume=True) as journal:
        for index, image_id in enumerate(own):
            file = tmp_path / f"{index}.jpg"
            file.touch()
            source = NamedSource(str(file), file, file, file.name, image_id)
            journal.write(source, {"image_id": image_id})
        assert list(image_ids(journal).values()) == expected


def test_formats_are_a_list_with_commas() -> None:
    assert parse_formats("parquet, coco,coco") == ("parquet", "coco")
    assert parse_formats("") == ()
    with pytest.raises(UsageError, match="--format xml: is unknown; expected some of coco, coco-"):
        parse_formats("coco,xml")
