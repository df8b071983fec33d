"""The evaluation loss of every adapter that compare_methods has written, by Python's peft.

    python examples/compare_methods/read.py [runs/compare]

Needs torch, transformers and peft; run from the repository's root. A folder that Python's peft
cannot read gets the first line of its error.
"""

import json
import sys
import warnings
from pathlib import Path

import torch
from peft import PeftModel
from tokenizers import Tokenizer
from transformers import GPT2LMHeadModel
from transformers.utils import logging

warnings.simplefilter("ignore")
logging.set_verbosity_error()
logging.disable_progress_bar()
MODEL = "assets/tiny-gpt2"
MAX_LENGTH = 112  # data.max_length of the comparison

tokenizer = Tokenizer.from_file(f"{MODEL}/tokenizer.json")
lines = Path("data/quickstart/validation.jsonl").read_text().splitlines()
rows = [(tokenizer.encode(json.loads(line)["text"]).ids + [0])[:MAX_LENGTH] for line in lines]


@torch.no_grad()
def loss(model):
    total, count = 0.0, 0
    for row in rows:
        ids = torch.tensor([row])
        # Virtual tokens have logits of their own, before the text's.
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, -len(row) :]
        total += torch.nn.functional.cross_entropy(logits[:-1], ids[0, 1:], reduction="sum").item()
        count += len(row) - 1
    return total / count


print(f"{'without adapter':24} {loss(GPT2LMHeadModel.from_pretrained(MODEL).eval()):.4f}")
for config in sorted(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/compare").glob("*/adapter_config.json")):
    try:
        base = GPT2LMHeadModel.from_pretrained(MODEL)
        found = f"{loss(PeftModel.from_pretrained(base, config.parent).eval()):.4f}"
    except Exception as error:  # whatever peft raises is the answer
        found = f"{type(error).__name__}: {str(error).splitlines()[0][:120] if str(error) else ''}"
    print(f"{config.parent.name:24} {found}")
