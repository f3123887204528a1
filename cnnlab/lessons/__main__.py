"""`python -m cnnlab.lessons ...` is `cnnlab lesson ...`."""

import sys

from cnnlab.lessons.command import run

sys.exit(run(sys.argv[1:]))
