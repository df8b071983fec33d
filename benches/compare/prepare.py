"""Makes what both sides start from; `run` starts it in the rival's environment.

    prepare.py versions --requirements FILE     prints what is installed, and what differs from the pins
    prepare.py data --work DIR --tokenizer DIR [--text FILE] [--reviews FILE] [--instructions FILE]
        rows-LENGTH.jsonl, reviews.jsonl, chats.jsonl: rows of token ids and labels; prompt.txt;
        prompts-BATCH.safetensors: rows to continue, padded on the left;
        instructions.jsonl: rows of instruction, input and output
    prepare.py adapter --model DIR --lora JSON --output DIR
        both matrices random, so that both matter from the first step on
    prepare.py bf16 --model DIR --output DIR    the same weights in bfloat16
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
REVIEWS = 96  # some 2,465 tokens are expected
CHATS = 48
ROWS = {256: 32, 512: 4, 1024: 16, 2048: 4}
# SmolLM2's: that model has no token from this number on.
VOCABULARY = 49_152
INSTRUCTIONS = 220_000


def texts(path):
    return [json.loads(line)["text"] for line in path.read_text().splitlines() if line]


def load_tokenizer(folder):
    from tokenizers import ByteLevelBPETokenizer, Tokenizer

    if (folder / "tokenizer.json").exists():
        return Tokenizer.from_file(str(folder / "tokenizer.json"))
    return ByteLevelBPETokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))


def write_rows(path, rows, asked=lambda ids: 1):
    """The question of a row is not learnt. Neither is its first token, which nothing predicts, although
    `Trainer` counts it for GPT-2."""
    label = lambda ids: [-100] * asked(ids) + ids[asked(ids) :]
    lines = [json.dumps({"input_ids": ids, "labels": label(ids)}) + "\n" for ids in rows]
    path.write_text("".join(lines))
    lengths = [len(row) for row in rows]
    print(f"{path.name}: {len(rows)} rows of {min(lengths)} to {max(lengths)} tokens, {sum(lengths):,} in all")


def mixed_lengths(ids, count, length):
    """Pieces of the text, whose lengths `length` draws."""
    draw, rows, place = random.Random(1), [], 0
    for _ in range(count):
        end = place + round(length(draw))
        rows.append([ids[i % len(ids)] for i in range(place, end)])
        place = end
    return rows


def review_length(draw):
    """One sentence: 2 to 60 tokens, 25.5 on average."""
    return min(60, max(2, draw.gauss(25.5, 11)))


def chat_length(draw):
    """Most chats are short and a few are long: 24 to 512 tokens, half of them below 110."""
    return min(512, max(24, draw.lognormvariate(4.7, 0.8)))


def prompts(path, ids, batch):
    """Rows of 16 to 32 tokens."""
    import torch
    from safetensors.torch import save_file

    lengths = [32 - 16 * row // batch for row in range(batch)]
    rows = [ids[100 * row : 100 * row + length] for row, length in enumerate(lengths)]
    pad = lambda values: [0] * (32 - len(values)) + values
    tensors = {"input_ids": [pad(row) for row in rows], "attention_mask": [pad([1] * len(row)) for row in rows]}
    save_file({name: torch.tensor(values) for name, values in tensors.items()}, path)


def instructions(given):
    """Rows like Alpaca's, repeated as often as needed; without a file, the stories are the answers."""
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
    ids = [id for id in encode(text) if id < VOCABULARY]
    for length, count in ROWS.items():
        rows = [[ids[i % len(ids)] for i in range(n * length, (n + 1) * length)] for n in range(count)]
        write_rows(given.work / f"rows-{length}.jsonl", rows)
    if given.reviews:
        reviews = [encode(text) for text in texts(given.reviews)[:REVIEWS]]
    else:
        reviews = mixed_lengths(ids, REVIEWS, review_length)
    write_rows(given.work / "reviews.jsonl", [row for row in reviews if len(row) > 1])
    write_rows(given.work / "chats.jsonl", mixed_lengths(ids, CHATS, chat_length), asked=lambda ids: len(ids) // 3)
    (given.work / "prompt.txt").write_text(text[:80].strip())
    for batch in (1, 8):
        prompts(given.work / f"prompts-{batch}.safetensors", ids, batch)


def adapter(given):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    config = LoraConfig(task_type="CAUSAL_LM", lora_dropout=0.0, **json.loads(given.lora))
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(given.model, dtype=torch.float32), config)
    for name, tensor in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(tensor, std=0.01)
    shutil.rmtree(given.output, ignore_errors=True)
    model.save_pretrained(given.output)


def bf16(given):
    import torch
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained(given.model, dtype=torch.bfloat16).save_pretrained(given.output)


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
    parser.add_argument("what", choices=["versions", "data", "adapter", "bf16"])
    for name in ("work", "tokenizer", "text", "reviews", "instructions", "requirements", "model", "output"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--lora")
    given = parser.parse_args()
    {"versions": versions, "data": data, "adapter": adapter, "bf16": bf16}[given.what](given)


if __name__ == "__main__":
    main()
