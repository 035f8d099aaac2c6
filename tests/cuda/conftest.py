from pathlib import Path

import pytest
import torch


def pytest_collect_file():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.cuda)
