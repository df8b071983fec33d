"""The rival: peft, transformers and torch with the same weights, rows and settings.

    rival.py train CONFIG.toml --rows FILE --steps N [--batch N] [--bf16]
                                                a plain loop over optimizer steps
    rival.py trainer CONFIG.toml --rows FILE                     an epoch of transformers' Trainer
    rival.py generate --model DIR --adapter DIR (--prompt-ids JSON | --input FILE [--ours FILE])
                      --new-tokens N [--bf16] [--merge]
    rival.py products --shapes FILE [--bf16]                     matrix products, each measured alone
    rival.py tokenise --rows FILE --tokenizer DIR                encode_batch of the tokenizers package

CONFIG.toml is the training file of `peft train`. The last line printed is one JSON object. Where
there is a choice, it takes the faster one, so that no ratio comes from poor settings of the rival.
"""

import argparse
import json
import statistics
import time
import tomllib
from pathlib import Path

import torch


def load(model, adapter, dtype, trainable):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(model, attn_implementation="sdpa", dtype=dtype)
    # By default peft would keep the adapter in f32 even if the weights are in bf16.
    return PeftModel.from_pretrained(base, adapter, is_trainable=trainable, autocast_adapter_dtype=False)


def read(given):
    """The settings, the rows, and the model to train."""
    config = tomllib.loads(given.config.read_text())
    rows = [json.loads(line) for line in given.rows.read_text().splitlines()]
    return config["training"], rows, load(config["model"], config["adapter"], torch.float32, True)


def train(given):
    """Trains on rows of one length."""
    settings, rows, model = read(given)
    model.train()
    trained = [tensor for tensor in model.parameters() if tensor.requires_grad]
    optimizer = torch.optim.AdamW(
        trained,
        lr=settings["learning_rate"],
        betas=(settings["adam_beta1"], settings["adam_beta2"]),
        eps=settings["adam_epsilon"],
        weight_decay=settings["weight_decay"],
    )
    size = given.batch or settings["per_device_train_batch_size"]
    losses, seconds = [], []
    for step in range(given.steps):
        start = time.perf_counter()
        batch = rows[step * size : (step + 1) * size]
        assert len(batch) == size, f"{given.rows} has too few rows for {given.steps} steps"
        # No mask, which would only cost time without padding.
        ids, labels = (torch.tensor([row[key] for row in batch]) for key in ("input_ids", "labels"))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=given.bf16):
            loss = model(input_ids=ids, labels=labels, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, settings["max_grad_norm"])
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        seconds.append(time.perf_counter() - start)
    return {"losses": losses, "step_seconds": seconds}


def trainer(given):
    """Timed from the beginning of the first step to the end of the last one."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    settings, rows, model = read(given)

    class Watch(TrainerCallback):
        def __init__(self):
            self.losses, self.seconds = [], None

        def on_train_begin(self, *_, **__):
            self.start = time.perf_counter()

        def on_step_end(self, *_, **__):
            self.seconds = time.perf_counter() - self.start

        def on_log(self, args, state, control, logs=None, **_):
            if "loss" in logs:
                self.losses.append(logs["loss"])

    def collate(rows):
        """Pads every row to the longest of its batch, as the collators of transformers do by default."""
        longest = max(len(row["input_ids"]) for row in rows)
        pad = lambda values, filler: values + [filler] * (longest - len(values))
        return {
            "input_ids": torch.tensor([pad(row["input_ids"], 0) for row in rows]),
            "attention_mask": torch.tensor([pad([1] * len(row["input_ids"]), 0) for row in rows]),
            "labels": torch.tensor([pad(row["labels"], -100) for row in rows]),
        }

    watch = Watch()
    arguments = TrainingArguments(
        num_train_epochs=1, optim="adamw_torch", use_cpu=True, report_to="none", disable_tqdm=True,
        remove_unused_columns=False, dataloader_pin_memory=False, **settings,
    )  # fmt: skip
    Trainer(model=model, args=arguments, train_dataset=rows, data_collator=collate, callbacks=[watch]).train()
    return {"losses": watch.losses, "epoch_seconds": watch.seconds}


def generate(given):
    from safetensors.torch import load_file

    dtype = torch.bfloat16 if given.bf16 else torch.float32
    model = load(given.model, given.adapter, dtype, False)
    if given.merge:
        model = model.merge_and_unload()
    model.eval()
    model.generation_config.eos_token_id = None  # all tokens, whatever comes
    if given.input:
        rows = load_file(given.input)
        ids, mask = rows["input_ids"], rows["attention_mask"]
    else:
        ids = torch.tensor([json.loads(given.prompt_ids)])
        mask = torch.ones_like(ids)

    def go(new_tokens):
        return model.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=new_tokens, do_sample=False, pad_token_id=0
        )[:, ids.shape[1] :]

    go(4)  # what torch prepares at its first use does not count
    start = time.perf_counter()
    tokens = go(given.new_tokens)
    found = {"tokens_per_second": tokens.numel() / (time.perf_counter() - start)}
    if given.ours:
        ours = load_file(given.ours)["sequences"]
        assert ours.shape == tokens.shape, f"ours are {list(ours.shape)}, theirs {list(tokens.shape)}"
        # How many tokens of each row are the same before the first that differs.
        found["same"] = (ours == tokens).long().cumprod(1).sum(1).tolist()
    else:
        found["token_ids"] = tokens[0].tolist()
    return found


def products(given):
    """The median time of each shape, as for a step, in the faster layout of the right side, into
    memory that exists already."""
    dtype = torch.bfloat16 if given.bf16 else torch.float32

    def middle(product):
        product()
        times = []
        for _ in range(5):
            start = time.perf_counter()
            product()
            times.append(time.perf_counter() - start)
        return statistics.median(times)

    seconds = []
    for shape in json.loads(given.shapes.read_text()):
        batch, m, k, n = (shape[key] for key in ("batch", "m", "k", "n"))
        left = torch.randn(batch, m, k).to(dtype)
        right = torch.randn(batch, k, n).to(dtype)
        turned = torch.randn(batch, n, k).to(dtype).transpose(1, 2)
        if batch == 1:
            left, right, turned = left[0], right[0], turned[0]
        with torch.no_grad():
            out = left @ right
            seconds.append(min(middle(lambda: torch.matmul(left, right, out=out)), middle(lambda: torch.matmul(left, turned, out=out))))
    return {"seconds": seconds}


def tokenise(given):
    """Times the call alone, without loading and without making the texts of the rows."""
    from prepare import load_tokenizer

    def text(row):
        extra = f"### Input:\n{row['input']}\n\n" if row["input"].strip() else ""
        return f"### Instruction:\n{row['instruction']}\n\n{extra}### Response:\n{row['output']}"

    texts = [text(json.loads(line)) for line in given.rows.read_text().splitlines()]
    tokenizer = load_tokenizer(given.tokenizer)
    start = time.perf_counter()
    encoded = tokenizer.encode_batch(texts, add_special_tokens=False)
    seconds = time.perf_counter() - start
    tokens = sum(len(one.ids) for one in encoded)
    return {"rows": len(texts), "tokens": tokens, "tokens_per_second": tokens / seconds}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    parts_of = {}
    for name in ("train", "trainer", "generate", "products", "tokenise"):
        parts_of[name] = parts.add_parser(name)
        parts_of[name].add_argument("--threads", type=int, default=2)
        parts_of[name].add_argument("--bf16", action="store_true")
    for name in ("train", "trainer"):
        parts_of[name].add_argument("config", type=Path)
    for name in ("train", "trainer", "tokenise"):
        parts_of[name].add_argument("--rows", type=Path, required=True)
    parts_of["tokenise"].add_argument("--tokenizer", type=Path, required=True)
    parts_of["train"].add_argument("--steps", type=int, required=True)
    parts_of["train"].add_argument("--batch", type=int)
    for name in ("model", "adapter"):
        parts_of["generate"].add_argument(f"--{name}", required=True)
    for name in ("prompt-ids", "input", "ours"):
        parts_of["generate"].add_argument(f"--{name}")
    parts_of["generate"].add_argument("--new-tokens", type=int, required=True)
    parts_of["generate"].add_argument("--merge", action="store_true")
    parts_of["products"].add_argument("--shapes", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    parts = {"train": train, "trainer": trainer, "generate": generate, "products": products, "tokenise": tokenise}
    result = parts[given.part](given)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
