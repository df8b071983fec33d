"""TRL's side of the comparison: its DPOTrainer with the settings of a file.

    rival.py SETTINGS.json --prepare     makes the start adapter, and rows if there are none
    rival.py SETTINGS.json               trains; the last line printed is one JSON object
"""

import json
import sys
import time
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback


def make_rows(settings, tokenizer):
    """Rows of words that are one token each, so that every text has the same length."""
    ids = torch.randperm(len(tokenizer), generator=torch.Generator().manual_seed(7)).tolist()
    words = [tokenizer.decode([token]) for token in ids]
    # Whole words: in lower case after a space, and the same token wherever they stand.
    words = [word for word in words if word.startswith(" ") and word[1:].isascii() and word[1:].isalpha() and word.islower()]
    words = [word for word in words if len(tokenizer.encode(" a" + word + " b", add_special_tokens=False)) == 3][:2000]
    answer = settings["length"] - settings["prompt"] - 1  # one token is for the end
    rows, at = [], 0
    def take(count):
        nonlocal at
        taken = "".join(words[(at + i) % len(words)] for i in range(count))
        at += count
        return taken
    for _ in range(settings["batch"] * settings["steps"]):
        row = {"prompt": take(settings["prompt"]), "chosen": take(answer), "rejected": take(answer)}
        for name in ("chosen", "rejected"):
            found = tokenizer(row["prompt"] + row[name])["input_ids"]
            assert len(found) == settings["length"] - 1, len(found)
        rows.append(row)
    Path(settings["rows"]).write_text("".join(json.dumps(row) + "\n" for row in rows))


def prepare(settings):
    tokenizer = AutoTokenizer.from_pretrained(settings["model"])
    if settings["make_rows"]:
        make_rows(settings, tokenizer)
    torch.manual_seed(5)
    model = AutoModelForCausalLM.from_pretrained(settings["model"], dtype=torch.float32)
    config = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    get_peft_model(model, config).save_pretrained(settings["adapter"])


class Watch(TrainerCallback):
    def __init__(self):
        self.seconds, self.log = [], []

    def on_step_begin(self, *_, **__):
        self.start = time.perf_counter()

    def on_step_end(self, *_, **__):
        self.seconds.append(time.perf_counter() - self.start)

    def on_log(self, *_, logs, **__):
        if "loss" in logs:
            self.log.append(logs)


def train(settings):
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    torch.set_num_threads(settings["threads"])
    model = AutoModelForCausalLM.from_pretrained(settings["model"], attn_implementation="sdpa", dtype=torch.float32)
    model = PeftModel.from_pretrained(model, settings["adapter"], is_trainable=True)
    rows = [json.loads(line) for line in Path(settings["rows"]).read_text().splitlines()]
    arguments = DPOConfig(
        output_dir=settings["output"], per_device_train_batch_size=settings["batch"], max_steps=settings["steps"],
        max_length=settings["length"], learning_rate=settings["learning_rate"], lr_scheduler_type="constant",
        weight_decay=0.01, beta=settings["beta"], logging_steps=1, save_strategy="no", report_to=[], bf16=False,
        use_cpu=True, gradient_checkpointing=settings["checkpointing"], disable_tqdm=True,
        train_sampling_strategy="sequential",
    )
    watch = Watch()
    trainer = DPOTrainer(
        model=model, args=arguments, train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(settings["model"]), callbacks=[watch],
    )
    trainer.train()
    seen = [0] + [entry["num_tokens"] for entry in watch.log]
    tokens = [after - before for before, after in zip(seen, seen[1:])]
    print(json.dumps({"log": watch.log, "step_seconds": watch.seconds, "tokens": tokens}))


settings = json.loads(Path(sys.argv[1]).read_text())
prepare(settings) if "--prepare" in sys.argv else train(settings)
