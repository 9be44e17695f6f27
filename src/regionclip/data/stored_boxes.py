"""Boxes that were computed ahead, opened by name."""

from pathlib import Path

from regionclip.proposals.box_folder import BoxFolder
from regionclip.proposals.table import BoxTable, read_box_table


def open_stored_boxes(source: str, *, features_of: str | None = None) -> BoxFolder | BoxTable:
    """Open what a recipe's ``data.proposals`` names.

    Args:
        source: The folder that ``regionclip propose`` wrote, or a file of boxes as
            :func:`~regionclip.proposals.table.read_box_table` takes it.
        features_of: The ``encoder_id`` of a teacher whose vectors must come with them; ``None``
            leaves out whatever vectors they have.

    Raises:
        ValueError: They cannot be read, or come without the teacher's vectors.
    """
    path = Path(source)
    if path.is_dir():
        return BoxFolder(path, features_of=features_of)
    if not path.is_file():
        raise ValueError(f"data.proposals {source} does not exist; 'regionclip propose' makes it")
    if features_of is not None:
        raise ValueError(
            f"data.proposals {source} is a file of boxes without a teacher's vectors; "
            "give the folder that 'regionclip propose ... --teacher MODEL' wrote"
        )
    return read_box_table(path)
