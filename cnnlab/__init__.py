"""cnnlab: convolutional-network experiments from configuration."""

import os

__version__ = "0.2.0"

# How often a thread of torch's looks for its next piece of work before it sleeps: libgomp reads this when torch is
# imported. By its default, 300,000 times, a thread without work goes on looking for tens of milliseconds, at the cost
# of whatever else could run on its core, such as the threads that cut images, or another run. 10,000 times, some tenths
# of a millisecond, reach from one operation of a step to the next; where 1,000 do not and waking a thread is slow, a
# small network takes 1.7 times as long, and augmented photographs too. The price: two runs of mnist_cnn at once, each
# with all threads of two cores, take 54 s instead of 38; `engine.threads=auto` takes one thread each then (13 s).
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

# cuBLAS, read when a CUDA device is first used: with work space of its own its sums have the same bits each time.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
