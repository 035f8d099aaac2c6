import subprocess
import sys

HEAVY = ["datasets", "babel", "matplotlib", "transformers", "pandas", "pyarrow", "minitransformer.data", "sqlite3"]
HEAVY += ["starlette", "uvicorn"]


def test_importing_minitransformer_loads_nothing_heavy():
    # torch loads tarfile and subprocess itself, so their absence shows nothing.
    code = f"import sys, minitransformer; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")
