"""How much memory it takes to load a checkpoint."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

MEASURE = """
import re, sys, torch
from pathlib import Path
from minitransformer import GPT, GPTConfig
def kilobytes(kind):  # of getrusage the peak would be that of the process before it became this one
    return int(re.search(kind + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
GPT.from_pretrained(GPT(GPTConfig.tiny()).export(sys.argv[3]))  # what is imported on the way does not count
before = kilobytes("VmRSS")
model = GPT.from_pretrained(sys.argv[1], getattr(torch, sys.argv[2]))
print(1024 * (kilobytes("VmHWM") - before) / sum(tensor.nbytes for tensor in model.parameters()))
"""


def write_llama(folder, layers, width, vocab_size, files):
    """Weights of a Llama with grouped heads, in bfloat16, in shards."""
    inner = 4 * width
    shapes = {"model.embed_tokens.weight": (vocab_size, width), "model.norm.weight": (width,)}
    for i in range(layers):
        sizes = {"self_attn.q_proj": (width, width), "self_attn.o_proj": (width, width)}
        sizes |= {f"self_attn.{name}_proj": (width // 4, width) for name in "kv"}
        sizes |= {"mlp.gate_proj": (inner, width), "mlp.up_proj": (inner, width), "mlp.down_proj": (width, inner)}
        sizes |= {"input_layernorm": (width,), "post_attention_layernorm": (width,)}
        shapes |= {f"model.layers.{i}.{name}.weight": size for name, size in sizes.items()}
    weight_map = {name: f"model-{number % files}.safetensors" for number, name in enumerate(shapes)}
    for file in set(weight_map.values()):
        names = [name for name in shapes if weight_map[name] == file]
        save_file({name: torch.ones(shapes[name], dtype=torch.bfloat16) for name in names}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    config = {"model_type": "llama", "hidden_size": width, "intermediate_size": inner, "num_hidden_layers": layers}
    config |= {"vocab_size": vocab_size, "num_attention_heads": width // 64, "num_key_value_heads": width // 256}
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="measures what Linux tells of a process")
def test_loading_never_holds_two_copies(tmp_path):
    write_llama(tmp_path, layers=8, width=1024, vocab_size=8000, files=3)
    command = [sys.executable, "-c", MEASURE, str(tmp_path), "bfloat16", str(tmp_path / "tiny")]
    found = subprocess.run(command, capture_output=True, check=True)
    # The largest tensors are a tenth of a model this small, and the allocator keeps some of what was freed.
    assert float(found.stdout) < 1.6
