"""Where something may be: regions of an image, from a network, a file, a grid or a hand."""
