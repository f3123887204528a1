"""What `cnnlab bench` prints of its measurements."""

from __future__ import annotations

from cnnlab.bench import write_table


def test_a_slow_product_is_not_told_as_none():
    """A CPU's float16 kernels may be a hundred times as slow as the others."""
    measured = {
        "name": "a CPU", "device": "cpu", "threads": 2, "bytes_per_second": 7.84e9,
        "multiply_adds_per_second": {"fp32": 1.9e10, "tf32": None, "bf16": 1.2345e12, "fp16": 3.7e8},
    }  # fmt: skip
    assert [" ".join(line.split()) for line in write_table(measured).splitlines()[2:]] == [
        "matrix product fp32 19 billion multiply-adds a second",
        "matrix product tf32 not on this device",
        "matrix product bf16 1,234 billion multiply-adds a second",
        "matrix product fp16 0.37 billion multiply-adds a second",
        "copying memory 7.8 GB a second, read and written",
    ]
