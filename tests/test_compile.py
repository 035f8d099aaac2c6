import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_pieces_and_models_compile_and_export_whole_and_equal_eager():
    """In a process of its own: see compile_check.py. A warning there shows on stderr, and fails this test."""
    script = Path(__file__).with_name("compile_check.py")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert not [line for line in lines if not line.startswith("ok ")]
    assert len(lines) == 51
    assert done.stderr == ""
    assert done.returncode == 0
