"""Files written whole or not at all, as checkpoints are."""

from regionclip.whole_files import replacing

__all__ = ["replacing"]
