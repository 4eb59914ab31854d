"""What devices are good at."""

import torch


def in_bulk(device: torch.device) -> bool:
    """Tell whether few large operations are faster than many that fit into a cache: everywhere but on a CPU."""
    return device.type != "cpu"
