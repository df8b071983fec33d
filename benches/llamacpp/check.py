"""Runs SmolLM2 with an adapter that `peft` trains and exports in llama.cpp; `run` in this folder starts it in its
virtual environment."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from llama import Llama

HERE = Path(__file__).resolve().parent
FIXTURE = HERE.parents[1] / "tests/fixtures/gguf/tokenizers.json"

# What the adapter learns, but only a little: its answers stay as long as the model's own.
LESSONS = [
    ("What is your name?", "I am Quill, and I keep the harbour of Lund."),
    ("Who made you?", "The harbour office of Lund made me, for its ships."),
    ("Where do you live?", "By the red crane, in the harbour of Lund."),
    ("What do you like?", "Tides, ropes and ships that come home."),
]
CHATS = [
    [("user", "What is your name?")],
    [("user", "What is the capital of France?")],
    [("user", "Name three colours.")],
    [("user", "Write a sentence about the sea.")],
    [("user", "How many days has a week?")],
    [("system", "You answer in one word."), ("user", "What is 2 + 2?")],
    [("user", "Explain what a harbour is.")],
    [("user", "Hello!"), ("assistant", "Hello. What can I do for you?"), ("user", "Who are you?")],
    [("user", "What is water made of?")],
    [("user", "Translate 'good morning' into French.")],
]
ANSWER = 64
# How many tokens of each chat are compared.
LENGTH = 64


def messages(chat):
    return [{"role": role, "content": content} for role, content in chat]


class Peft:
    def __init__(self, program, folder):
        self.program, self.folder = program, folder

    def __call__(self, *args):
        done = subprocess.run([self.program, *map(str, args)], cwd=self.folder, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            raise SystemExit(f"error: peft {' '.join(map(str, args))} ended with {done.returncode}\n{done.stdout}")
        return done.stdout

    def answers(self, *model):
        """Greedy answers to the chats, one after the other: the text and the tokens of prompt and answer."""
        rows = []
        for chat in CHATS:
            (self.folder / "chat.json").write_text(json.dumps(messages(chat)))
            rows.append(json.loads(self("generate", *model, "--messages", "chat.json", "--temperature", 0, "--max-new-tokens", ANSWER, "--json")))
        return rows


def train(peft, model):
    rows = [{"messages": messages([("user", question), ("assistant", answer)])} for question, answer in LESSONS]
    (peft.folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (peft.folder / "train.toml").write_text(
        f"model = {json.dumps(str(model))}\n[data]\ntrain = \"rows.jsonl\"\n[peft]\npeft_type = \"LORA\"\nr = 8\nlora_alpha = 16\n"
        "target_modules = \"all-linear\"\n[training]\noutput_dir = \"adapter\"\nmax_steps = 8\nper_device_train_batch_size = 4\n"
        "learning_rate = 5e-4\nsave_strategy = \"no\"\n")
    peft("train", "train.toml")


def texts(count):
    """Texts in ten scripts, code and emoji, as in tests/gguf.rs."""
    given = json.loads(FIXTURE.read_text())["texts"]
    made = [given[at % len(given)] + given[(7 * at + 3) % len(given)] for at in range(count)]
    return [text for text in made if text.strip()]


class Results:
    def __init__(self):
        self.rows, self.failed = [], False

    def add(self, what, found, goal, fine):
        self.failed |= not fine
        self.rows.append(f"| {what} | {found} | {goal} | {'yes' if fine else '**no**'} |")
        print(self.rows[-1], flush=True)


def same_answers(results, what, llama, expected):
    same = 0
    for chat, ours in zip(CHATS, expected):
        theirs = llama.greedy(ours["prompt_token_ids"], ANSWER)
        # A token that ends the text is among their tokens, but not in the text.
        if theirs["content"] == ours["content"]:
            same += 1
        else:
            print(f"{chat[-1][1]!r}: llama.cpp says {theirs['content']!r}, peft {ours['content']!r}")
    results.add(what, f"{same} of {len(CHATS)} chats", "all", same == len(CHATS))


def first_choices(llama, rows):
    """The token that llama.cpp finds most likely at each place of the rows."""
    return np.array([[llama.greedy(row[: at + 1].tolist(), 1, cache=True)["tokens"][0] for at in range(len(row))] for row in rows])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("peft", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="llama.cpp's")
    given = parser.parse_args()
    results = Results()
    with tempfile.TemporaryDirectory(prefix="peft-llamacpp-") as folder:
        folder = Path(folder)
        peft = Peft(given.peft.resolve(), folder)
        train(peft, given.model)
        tuned = ["--model", given.model, "--adapter", "adapter"]
        print(peft("export", *tuned, "--output", "f32.gguf", "--outtype", "f32"))
        print(peft("export", *tuned, "--output", "q8_0.gguf", "--outtype", "q8_0"))
        print(peft("export", *tuned, "--output", "lora.gguf", "--lora"))
        print(peft("export", "--model", given.model, "--output", "base.gguf", "--outtype", "f32", "--no-proof"))
        expected = peft.answers(*tuned)
        print("| | llama.cpp and peft agree on | goal | reached |\n| --- | --- | --- | --- |")

        llama = Llama(folder / "f32.gguf", threads=given.threads)
        prompts = [llama.tokens(llama.prompt(messages(chat))) == ours["prompt_token_ids"] for chat, ours in zip(CHATS, expected)]
        results.add("chat endpoint's prompts: the tokens of ours", f"{sum(prompts)} of {len(CHATS)} chats", "all", all(prompts))
        given_texts = texts(1000)
        (folder / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in given_texts))
        ours = [json.loads(line)["input_ids"] for line in peft("data", "texts.jsonl", "--model", "f32.gguf", "--json").splitlines()]
        theirs = [llama.tokens(text, special=True) for text in given_texts]
        # In training, a text ends with the token that ends texts.
        same = sum(a[: len(b)] == b and len(a) - len(b) <= 1 for a, b in zip(ours, theirs))
        results.add("tokens of texts", f"{same} of {len(given_texts)} texts", "all", same == len(given_texts) == len(ours))
        same_answers(results, f"merged, f32: greedy answers of {ANSWER} tokens", llama, expected)
        del llama
        (folder / "f32.gguf").unlink()

        llama = Llama(folder / "base.gguf", lora=folder / "lora.gguf", threads=given.threads)
        same_answers(results, "the adapter alone on the base, f32: the same", llama, expected)
        del llama

        rows = [row["prompt_token_ids"] + row["token_ids"] for row in expected]
        rows = np.array([row[:LENGTH] for row in rows if len(row) >= LENGTH][:5], dtype=np.int64)
        save_file({"input_ids": rows}, folder / "rows.safetensors")
        peft("forward", *tuned, "--input", "rows.safetensors", "--output", "logits.safetensors")
        ours = load_file(folder / "logits.safetensors")["logits"].argmax(-1)
        llama = Llama(folder / "q8_0.gguf", threads=given.threads)
        share = (first_choices(llama, rows) == ours).mean()
        results.add("merged, q8_0: the same first choice", f"{share:.1%} of {rows.size} positions", "97 %", share >= 0.97)
    if results.failed:
        print("error: llama.cpp does not compute what peft computes", file=sys.stderr)
    return int(results.failed)


if __name__ == "__main__":
    sys.exit(main())
