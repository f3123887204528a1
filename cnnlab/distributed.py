"""Many processes that train one run together, as torchrun starts them: one for each device.

    torchrun --nproc-per-node 2 -m cnnlab.train …

Process 0, the main one, composes the configuration, writes the run directory and speaks; the others take the
same steps on their share of each batch. Tensors are exchanged where they lie, by NCCL between GPUs and by gloo
on the CPU; numbers and objects always by gloo, so that nobody waits for a GPU to tell another something.

A process that ends closes its connections, which the others notice at their next exchange: none of them is left
hanging. All end with the main one's exit code, and not before it has told why.

In a process that torchrun did not start everything here answers at once, and torch is not imported.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from cnnlab.errors import CnnlabError, Interrupted, LostProcessError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed import Store

T = TypeVar("T")

TIMEOUT = timedelta(minutes=30)  # for the slowest to arrive; one that has died is noticed at once
PATIENCE = timedelta(seconds=10)  # with a main process that has not met what this process ended by
BUCKET = 25 << 20  # bytes exchanged at a time: large enough for full speed, small enough to overlap with copying
ENDED = "cnnlab/ended"  # where the main process leaves its exit code

_rank, _num_processes = 0, 1
_SAID: set[str] = set()  # see `say`


def rank() -> int:
    """The number of this process, from 0."""
    return _rank


def local_rank() -> int:
    """The number of this process among those on this machine."""
    return int(os.environ.get("LOCAL_RANK", 0))


def num_processes() -> int:
    """How many processes train this run."""
    return _num_processes


def is_main() -> bool:
    """Whether this process writes and speaks."""
    return _rank == 0


def say(line: str, once: str | None = None) -> None:
    """A line on stderr, by one process of a run and once in a command; `once` names what is said, if not the line."""
    topic = line if once is None else once
    if is_main() and topic not in _SAID:
        _SAID.add(topic)
        print(line, file=sys.stderr)


def started_first() -> bool:
    """Whether this process is the main one, or would be: for commands that need no others."""
    return int(os.environ.get("RANK", 0)) == 0


# --- Start and end ------------------------------------------------------------------------------------


def run_together(main: Callable[[], int], follow: Callable[[], object]) -> int:
    """The exit code of `main`, called in the main process while the others call `follow`; in all of them.

    What a user can mend is left to the main process to tell, for it happens in all. What happens in another process
    alone is told by that one, which ends: the main process has lost it then.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return main()
    store = _connect()
    if is_main():
        try:
            code = main()
        except SystemExit as end:  # by which argparse says that there is nothing to do
            code = int(end.code or 0)
        store.set(ENDED, str(code))
    else:
        try:
            follow()
            store.wait([ENDED], TIMEOUT)
        except (CnnlabError, Interrupted) as error:
            try:
                store.wait([ENDED], PATIENCE)
            except RuntimeError:  # the main process goes on, or is gone
                print(f"cnnlab: process {_rank} of {_num_processes}: {error}", file=sys.stderr, flush=True)
                return error.exit_code
        code = int(store.get(ENDED))
    if code == 0:  # otherwise an exchange may be under way that never ends
        _disconnect()
    return code


def _connect() -> Store:
    """Find the other processes by torchrun's environment."""
    global _rank, _num_processes
    import torch
    from torch import distributed

    store, _rank, _num_processes = next(distributed.rendezvous("env://", timeout=TIMEOUT))
    distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
        store=store,
        rank=_rank,
        world_size=_num_processes,
        timeout=TIMEOUT,
    )
    return store


def _disconnect() -> None:
    global _rank, _num_processes
    from torch import distributed

    distributed.destroy_process_group()
    _rank, _num_processes = 0, 1


@contextmanager
def _exchanging() -> Iterator[None]:
    """Raises LostProcessError for what torch raises where the others cannot be reached."""
    from torch.distributed import DistError

    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, DistError) and "gloo" not in str(error):
            raise
        raise LostProcessError(
            f"process {_rank} of {_num_processes} has lost another one, which has ended; torchrun tells which and how. "
            "Checkpoints from before are kept; go on with: cnnlab resume RUN"
        ) from error


# --- Objects and numbers ------------------------------------------------------------------------------


def share(value: T) -> T:
    """The main process's `value`, in every process."""
    if _num_processes == 1:
        return value
    import torch
    from torch import distributed

    box: list[Any] = [value]
    with _exchanging():
        distributed.broadcast_object_list(box, src=0, device=torch.device("cpu"))
    return box[0]


def gather(value: T) -> list[T]:
    """The `value` of each process, in every process."""
    if _num_processes == 1:
        return [value]
    from torch import distributed

    values: list[Any] = [None] * _num_processes
    with _exchanging():
        distributed.all_gather_object(values, value)
    return values


def by_main(act: Callable[[], T]) -> T:
    """What `act` returns in the main process, or raises of what a user can mend, in every process."""
    result = error = None
    if is_main():
        try:
            result = act()
        except CnnlabError as raised:
            error = raised
    result, error = share((result, error))
    if error is not None:
        raise error
    return result  # type: ignore[return-value]


def by_all(act: Callable[[], T]) -> T:
    """What `act` returns in each process; what a user can mend is raised in all of them if it is in one.

    The main process acts first: what it downloads or builds on the disk is there for the others.
    """
    result: T
    for turn in (is_main(), not is_main()):
        error = None
        if turn:
            try:
                result = act()
            except CnnlabError as raised:
                error = raised
        for raised_there in gather(error):
            if raised_there is not None:
                raise raised_there
    return result


def add_up(*numbers: float) -> list[float]:
    """Each number, added up over the processes in float64."""
    return _combine(numbers, "SUM")


def largest(*numbers: float) -> list[float]:
    """Each number, as large as it is in any process."""
    return _combine(numbers, "MAX")


def _combine(numbers: Sequence[float], operation: str) -> list[float]:
    if _num_processes == 1:
        return list(numbers)
    import torch
    from torch import distributed

    values = torch.tensor(numbers, dtype=torch.float64)
    with _exchanging():
        distributed.all_reduce(values, getattr(distributed.ReduceOp, operation))
    return values.tolist()


# --- Tensors ------------------------------------------------------------------------------------------


def add_up_tensors(tensors: Iterable[Tensor]) -> None:
    """Put the sum over all processes, the same bits in each, into tensors that have the same shapes everywhere."""
    if _num_processes > 1:
        from torch import distributed

        _exchange(tensors, distributed.all_reduce)


def copy_from_main(tensors: Iterable[Tensor]) -> None:
    """Put the main process's values into tensors that have the same shapes everywhere."""
    if _num_processes > 1:
        from torch import distributed

        _exchange(tensors, partial(distributed.broadcast, src=0))


def _exchange(tensors: Iterable[Tensor], collective: Callable[..., Any]) -> None:
    """`collective` over all tensors, packed into few buckets, several of them under way at a time."""
    import torch

    with torch.no_grad(), _exchanging():
        under_way = []
        for bucket in _fill_buckets(tensors):
            packed = torch.cat([tensor.reshape(-1) for tensor in bucket])
            under_way.append((bucket, packed, collective(packed, async_op=True)))
        for bucket, packed, work in under_way:
            work.wait()
            pieces = packed.split([tensor.numel() for tensor in bucket])
            torch._foreach_copy_(bucket, [piece.view_as(t) for piece, t in zip(pieces, bucket, strict=True)])


def _fill_buckets(tensors: Iterable[Tensor]) -> list[list[Tensor]]:
    """The tensors in their order, those of one type together, in lists of about BUCKET bytes."""
    full: list[list[Tensor]] = []
    filling: dict[Any, list[Tensor]] = {}
    for tensor in tensors:
        bucket = filling.setdefault(tensor.dtype, [])
        bucket.append(tensor)
        if sum(held.nbytes for held in bucket) >= BUCKET:
            full.append(filling.pop(tensor.dtype))
    return full + list(filling.values())
