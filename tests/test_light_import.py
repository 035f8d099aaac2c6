import subprocess
import sys

LIBRARIES = ["datasets", "babel", "matplotlib", "transformers", "pandas", "pyarrow", "starlette", "uvicorn"]
LIBRARIES += ["onnx", "onnxscript"]
CODE = f"""
import sys
import minitransformer
print([name for name in {[*LIBRARIES, "minitransformer.data", "sqlite3"]} if name in sys.modules])
import minitransformer.data, minitransformer.plots
print([name for name in {LIBRARIES} if name in sys.modules])
import numpy
minitransformer.plots.attention_map(numpy.eye(2), "ab", "ab", path="map.png")
print([name for name in ("matplotlib.figure", "matplotlib.pyplot") if name in sys.modules])
"""


def test_importing_minitransformer_its_data_and_its_plots_loads_nothing_heavy_nor_does_drawing_load_pyplot(tmp_path):
    # torch loads tarfile and subprocess itself, so their absence shows nothing.
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("[]\n[]\n['matplotlib.figure']\n", "")
