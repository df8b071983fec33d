"""The same models, rows and adapter in PyTorch with transformers and peft, on the GPU.

    rival.py CONFIG.json… [--seconds N]

Prints a line of Markdown for each model and type. Exits with 77 if Python lacks these libraries or torch
has no GPU.
"""

import argparse
import gc
import json
import statistics
import sys
import time
from pathlib import Path

try:
    import peft
    import torch
    import transformers
except ImportError as error:
    print(f"not compared with PyTorch and peft: {error}")
    sys.exit(77)

WARM_UP, STEPS, BATCH, SEQ = 3, 12, 4, 256


def gpu():
    if torch.cuda.is_available():
        return "cuda"
    if torch.backends.mps.is_available():
        return "mps"
    print("PyTorch has no GPU here")
    sys.exit(77)


def measure(path, dtype, device):
    keys = json.loads(path.read_text())
    config = transformers.AutoConfig.for_model(**keys)
    with torch.device(device):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")
    lora = peft.LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    model = peft.get_peft_model(model, lora).to(device).train()
    trained = [tensor for tensor in model.parameters() if tensor.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=5e-5, weight_decay=0.0, fused=device == "cuda")
    wait = torch.cuda.synchronize if device == "cuda" else torch.mps.synchronize
    seconds = []
    for step in range(WARM_UP + STEPS):
        ids = (torch.arange(BATCH * SEQ).reshape(BATCH, SEQ) * 104729 + step * 7919) % config.vocab_size
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
    memory = torch.cuda.max_memory_reserved() / 1e9 if device == "cuda" else float("nan")
    return f"{BATCH * SEQ / step:.0f} | {1e3 * step:.1f} ms | {memory:.2f} GB"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("configs", nargs="+", type=Path)
    parser.add_argument("--seconds", type=float, default=60)
    given = parser.parse_args()
    ends = time.monotonic() + given.seconds
    device = gpu()
    name = torch.cuda.get_device_name() if device == "cuda" else "Apple"
    print(f"\nPyTorch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}, {name}:\n")
    print("| model | frozen weights | tokens/s | a step | memory |\n| --- | --- | ---: | ---: | ---: |")
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        for path in given.configs:
            what = f"| {path.stem} | {str(dtype).removeprefix('torch.')}"
            if time.monotonic() > ends:
                print(f"{what} | no time was left | | |", flush=True)
                continue
            try:
                print(f"{what} | {measure(path, dtype, device)} |", flush=True)
            except (RuntimeError, ValueError) as error:
                print(f"{what} | {str(error).splitlines()[0][:120]} | | |", flush=True)
            gc.collect()
            if device == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()


main()
