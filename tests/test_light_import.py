import subprocess
import sys

HEAVY = ["datasets", "babel", "matplotlib", "transformers", "pandas", "pyarrow"]


def test_importing_minitransformer_loads_nothing_heavy():
    code = f"import sys, minitransformer; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")
