"""One thread: the lessons are small, and tests may run side by side."""

import torch

torch.set_num_threads(1)
