"""`cnnlab bench`: the machine's peak, beside which a run's summary.json holds its multiply-adds. Nothing is kept."""

from __future__ import annotations

import json
from typing import Any

import torch

from cnnlab.device import name_device, start_device
from cnnlab.engine.compute import DTYPES
from cnnlab.engine.peak import measure_bandwidth, measure_product_peak


def bench(device_name: str, as_json: bool) -> None:
    """Measure for some seconds and print. Raises ConfigError for a device that is not there."""
    device = start_device(device_name)
    peaks = {precision: measure_product_peak(device, precision) for precision in DTYPES}
    measured: dict[str, Any] = {
        "device": str(device),
        "name": name_device(device),
        "threads": torch.get_num_threads(),
        "multiply_adds_per_second": peaks,
        "bytes_per_second": measure_bandwidth(device),
    }
    print(json.dumps(measured, indent=2) if as_json else write_table(measured))


def write_billions(number: float) -> str:
    """At least two digits of it: a CPU may do less than one billion where its kernels are slow."""
    return f"{number / 1e9:,.0f}" if number >= 1e10 else f"{number / 1e9:.2g}"


def write_table(measured: dict[str, Any]) -> str:
    lines = [f"{measured['name']} ({measured['device']}), {measured['threads']} CPU threads", ""]
    for precision, peak in measured["multiply_adds_per_second"].items():
        shown = "not on this device" if peak is None else f"{write_billions(peak):>10} billion multiply-adds a second"
        lines.append(f"matrix product {precision}  {shown}")
    lines.append(f"copying memory       {measured['bytes_per_second'] / 1e9:>10,.1f} GB a second, read and written")
    return "\n".join(lines)
