"""What the processes of trials are forked from has loaded: all that a trial uses, its pictures included.

Nothing is computed here: threads of torch, or a CUDA context, would not survive the fork.
"""

from __future__ import annotations

import gc
import signal


def load() -> None:
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the sweep's, which asks its trials
    gc.disable()
    import matplotlib.backends.backend_agg
    import matplotlib.figure  # noqa: F401

    import cnnlab.sweeps.trial  # noqa: F401  (with torch)

    gc.freeze()  # no trial looks through what it has from here, nor copies its memory by doing so
    gc.enable()
    signal.signal(signal.SIGINT, handler)


load()
