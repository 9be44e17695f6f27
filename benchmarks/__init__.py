"""Speed as ratios: both sides of each comparison run in one process, on one input, interleaved."""
