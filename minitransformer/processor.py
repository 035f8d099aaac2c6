"""What the processor multiplies fast."""

from functools import cache
from typing import Any

import torch


@cache
def on_amd() -> bool:
    """Whether the CPU is of AMD, as far as torch says."""
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.9 has none
    return "AMD" in str(capabilities.get("cpu_name"))


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 matrix products are faster than float32's.

    A CPU without instructions for them emulates them, at a hundredth of the speed. With AVX-512's instructions they
    were 2.5 times as fast on an AMD Zen 4, and half as fast on an Intel Xeon without AMX.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    by_vectors = torch.cpu._is_avx512_bf16_supported() and on_amd()
    return device.type == "cpu" and (by_vectors or torch.cpu._is_amx_tile_supported())
