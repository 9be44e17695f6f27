"""What all tests share."""

import os

import torch

if "PYTEST_XDIST_WORKER" in os.environ:
    # workers that each take all cores wait for each other
    torch.set_num_threads(1)
