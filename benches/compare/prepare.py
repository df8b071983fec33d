"""What both sides start from; run by `run` in the rival's environment.

    prepare.py versions --requirements FILE     says what is installed, and what differs from the pins
    prepare.py data --work DIR --tokenizer DIR [--text FILE] [--reviews FILE] [--instructions FILE]
        rows-256.jsonl, rows-1024.jsonl, reviews.jsonl: rows of token ids and labels; prompt.txt;
        instructions.jsonl: rows of instruction, input and output;
        adapter/: r 8 on c_attn, both matrices random, so that both count from the first step on
    prepare.py bf16 --work DIR                  model-bf16/ and merged-bf16/ from model/ and merged/
"""

import argparse
import importlib.metadata
import itertools
import json
import platform
import random
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STORIES = ROOT / "data/quickstart/train.jsonl"
REVIEWS = 96  # of which some 2,465 tokens are expected
ROWS = {256: 32, 1024: 16}
INSTRUCTIONS = 220_000


def texts(path):
    return [json.loads(line)["text"] for line in path.read_text().splitlines() if line]


def load_tokenizer(folder):
    from tokenizers import ByteLevelBPETokenizer, Tokenizer

    if (folder / "tokenizer.json").exists():
        return Tokenizer.from_file(str(folder / "tokenizer.json"))
    return ByteLevelBPETokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))


def write_rows(path, rows):
    """The first label is never learnt: it has nothing before it, but `Trainer` counts it for GPT-2."""
    lines = [json.dumps({"input_ids": ids, "labels": [-100, *ids[1:]]}) + "\n" for ids in rows]
    path.write_text("".join(lines))
    lengths = [len(row) for row in rows]
    print(f"{path.name}: {len(rows)} rows of {min(lengths)} to {max(lengths)} tokens, {sum(lengths):,} in all")


def mixed_lengths(ids):
    """Pieces as long as one-sentence reviews are: 2 to 60 tokens, 25.5 on average."""
    draw, rows, place = random.Random(1), [], 0
    for _ in range(REVIEWS):
        length = round(min(60, max(2, draw.gauss(25.5, 11))))
        rows.append([ids[i % len(ids)] for i in range(place, place + length)])
        place += length
    return rows


def instructions(given):
    """Rows as Alpaca's, as often over as it takes; without a file the stories are what is answered."""
    if given.instructions:
        rows = json.loads(given.instructions.read_text())
    else:
        rows = [{"instruction": text[:40], "input": "", "output": text} for text in texts(STORIES)]
    lines = [json.dumps(row) + "\n" for row in rows]
    with (given.work / "instructions.jsonl").open("w") as out:
        out.writelines(itertools.islice(itertools.cycle(lines), INSTRUCTIONS))


def data(given):
    instructions(given)
    text = given.text.read_text() if given.text else "\n".join(texts(STORIES))
    tokenizer = load_tokenizer(given.tokenizer)
    encode = lambda text: tokenizer.encode(text, add_special_tokens=False).ids
    ids = encode(text)
    for length, count in ROWS.items():
        rows = [[ids[i % len(ids)] for i in range(n * length, (n + 1) * length)] for n in range(count)]
        write_rows(given.work / f"rows-{length}.jsonl", rows)
    if given.reviews:
        reviews = [encode(text) for text in texts(given.reviews)[:REVIEWS]]
    else:
        reviews = mixed_lengths(ids)
    write_rows(given.work / "reviews.jsonl", [row for row in reviews if len(row) > 1])
    (given.work / "prompt.txt").write_text(text[:80].strip())
    adapter(given.work)


def adapter(work):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    config = LoraConfig(
        task_type="CAUSAL_LM", r=8, lora_alpha=16, lora_dropout=0.0, target_modules=["c_attn"], fan_in_fan_out=True
    )
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(work / "model"), config)
    for name, tensor in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(tensor, std=0.01)
    shutil.rmtree(work / "adapter", ignore_errors=True)
    model.save_pretrained(work / "adapter")


def bf16(given):
    import torch
    from transformers import AutoModelForCausalLM

    for name in ("model", "merged"):
        folder = given.work / f"{name}-bf16"
        shutil.rmtree(folder, ignore_errors=True)
        AutoModelForCausalLM.from_pretrained(given.work / name, dtype=torch.bfloat16).save_pretrained(folder)
        for file in ("tokenizer.json", "vocab.json", "merges.txt"):
            if (given.work / "model" / file).exists():
                shutil.copy(given.work / "model" / file, folder / file)


def versions(given):
    words = [f"Python {platform.python_version()}"]
    for line in given.requirements.read_text().splitlines():
        if line and not line.startswith("#"):
            name, pinned = line.split("==")
            found = importlib.metadata.version(name)
            same = found.split("+")[0] == pinned
            words.append(f"{name} {found}" + ("" if same else f" (pinned: {pinned})"))
    import transformers, peft  # noqa: F401, E401: into the page cache

    print(", ".join(words))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["versions", "data", "bf16"])
    for name in ("work", "tokenizer", "text", "reviews", "instructions", "requirements"):
        parser.add_argument(f"--{name}", type=Path)
    given = parser.parse_args()
    {"versions": versions, "data": data, "bf16": bf16}[given.what](given)


if __name__ == "__main__":
    main()
