"""The same models, rows and adapter in PyTorch with transformers and peft, on the GPU.

    rival.py CONFIG.json… [--seconds N] [--device cuda|mps|cpu] [--smoke]

Prints a line of Markdown for each model and type. Exits with 77 if Python lacks these libraries or torch
has no GPU. --smoke: models of the same kinds that are tiny, on the CPU if there is no GPU, to see that everything
runs.
"""

import argparse
import gc
import json
import platform
import statistics
import sys
import time
from pathlib import Path

try:
    import peft
    import torch
    import transformers
except ImportError as error:
    print(f"\nnot compared with PyTorch and peft: {error}")
    sys.exit(77)

WARM_UP, STEPS, BATCH, SEQ = 3, 12, 4, 256
TYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
# As in our table.
NAMES = {"gpt2": "GPT-2 small", "smollm2-135m": "SmolLM2-135M", "llama-3.2-1b": "Llama-3.2-1B"}
TINY = (
    {"vocab_size": 1024, "bos_token_id": 0, "eos_token_id": 0, "n_embd": 128, "n_head": 4, "n_layer": 2}
    | {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2}
    | {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32}
)


def gpu():
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else None


def reserved(device):
    if device == "cpu":
        return "unknown"
    size = torch.cuda.max_memory_reserved() if device == "cuda" else torch.mps.driver_allocated_memory()
    return f"{size / 1e9:.2f} GB"


def measure(keys, dtype, device, batch, seq, steps):
    config = transformers.AutoConfig.for_model(**keys)
    with torch.device(device):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")
    lora = peft.LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    model = peft.get_peft_model(model, lora).to(device).train()
    trained = [tensor for tensor in model.parameters() if tensor.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=5e-5, weight_decay=0.0, fused=device == "cuda")
    wait = {"cuda": torch.cuda.synchronize, "mps": torch.mps.synchronize}.get(device, lambda: None)
    seconds = []
    for step in range(WARM_UP + steps):
        ids = (torch.arange(batch * seq).reshape(batch, seq) * 104729 + step * 7919) % config.vocab_size
        start = time.perf_counter()
        ids = ids.to(device)
        loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        wait()
        seconds.append(time.perf_counter() - start)
    step = statistics.median(seconds[WARM_UP:])
    return f"{batch * seq / step:.0f} | {1e3 * step:.1f} ms | {reserved(device)}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("configs", nargs="+", type=Path)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--device", choices=["cuda", "mps", "cpu"])
    parser.add_argument("--smoke", action="store_true")
    given = parser.parse_args()
    ends = time.monotonic() + given.seconds
    device = given.device or gpu() or ("cpu" if given.smoke else None)
    if device is None:
        print("\nnot compared with PyTorch and peft: PyTorch has no GPU here")
        sys.exit(77)
    name = torch.cuda.get_device_name() if device == "cuda" else platform.machine()
    batch, seq, steps = (2, 32, 2) if given.smoke else (BATCH, SEQ, STEPS)
    versions = f"PyTorch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}"
    print(f"\n{versions}, {device}, {name}{', tiny models' if given.smoke else ''}:\n")
    print("| model | frozen weights | batch | tokens/s | a step | memory |")
    print("| --- | --- | --- | ---: | ---: | ---: |")
    for dtype_name, dtype in TYPES.items():
        for path in given.configs:
            what = f"| {NAMES.get(path.stem, path.stem)} | {dtype_name} | {batch} × {seq}"
            if time.monotonic() > ends:
                print(f"{what} | no time was left | | |", flush=True)
                continue
            try:
                keys = json.loads(path.read_text()) | (TINY if given.smoke else {})
                print(f"{what} | {measure(keys, dtype, device, batch, seq, steps)} |", flush=True)
            except (RuntimeError, ValueError) as error:
                reason = (str(error) or type(error).__name__).splitlines()[0][:120].replace("|", "/")
                print(f"{what} | {reason} | | |", flush=True)
            gc.collect()
            if device == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()


main()
