"""What the hardware computes fast."""

import torch


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 matrix products are faster than float32's. A CPU without instructions for them emulates them, at
    a hundredth of the speed."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
