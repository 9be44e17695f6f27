"""What every reader of checkpoints raises."""


class CheckpointError(ValueError):
    """A checkpoint cannot be used; the message names the file, the reason and the way out."""
