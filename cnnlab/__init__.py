"""cnnlab: convolutional-network experiments from configuration."""

import os

__version__ = "0.2.0"

# How often a thread of torch's looks for its next piece of work before it sleeps: libgomp reads this when torch is
# imported. By its default, 300,000 times, a thread without work goes on looking for tens of milliseconds, at the cost
# of whatever else could run on its core, such as the threads that cut images, or another run: two runs of mnist_cnn at
# once on two cores, each 1.4 s alone, took 40 s with 50,000 and take 7 s with 1,000. Alone they take the same.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# cuBLAS, read when a CUDA device is first used: with work space of its own its sums have the same bits each time.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
