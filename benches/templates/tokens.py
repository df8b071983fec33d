"""Compares tokens and labels of `peft data --json` with transformers' `return_assistant_tokens_mask`, for
the templates that mark answers; `run --tokenizer` starts it."""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ["HF_HUB_OFFLINE"] = "1"

from transformers import AutoTokenizer

from check import templates
from conversations import conversations

# The special tokens of models; in the tokenizer each is one token.
TAG = re.compile(r"<\|[a-zA-Z_]+\|>|<[a-z]+_of_[a-z]+>|<｜[^｜]+｜>")
ROLES = {"system", "developer", "user", "assistant", "tool"}


def rows():
    """The conversations that rows of a file can hold: answers, known roles, content that is text."""
    for name, messages, extras in conversations():
        said = [message.get("content") or "" for message in messages]
        roles = {message["role"] for message in messages}
        if "assistant" in roles <= ROLES and all(isinstance(content, str) for content in said):
            row = {"messages": [{key: value for key, value in message.items() if value is not None} for message in messages]}
            yield name, {**row, "tools": extras["tools"]} if "tools" in extras else row


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("peft")
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("--only", action="append", default=[])
    given = parser.parse_args()
    print("| template | tokens and labels exact | differ | left out by ours | refused by theirs |\n| --- | ---: | ---: | ---: | ---: |")
    sums = [0] * 4
    for name, source in templates(given.only).items():
        if not re.search(r"\{%-? *endgeneration", source):
            continue
        tokenizer = AutoTokenizer.from_pretrained(given.tokenizer)
        known = tokenizer.get_vocab()
        tokenizer.add_special_tokens({"extra_special_tokens": [tag for tag in sorted(set(TAG.findall(source))) if tag not in known]})
        tokenizer.chat_template = source
        expected, refused = [], 0
        for chat, row in rows():
            try:
                theirs = tokenizer.apply_chat_template(row["messages"], tools=row.get("tools"), return_dict=True, return_assistant_tokens_mask=True)
                expected.append((chat, row, theirs))
            except Exception:  # whatever it is, the template fails
                refused += 1
        with tempfile.TemporaryDirectory() as folder:
            tokenizer.save_pretrained(folder)
            config = json.loads((given.tokenizer / "config.json").read_text())
            config["vocab_size"] = max(config["vocab_size"], len(tokenizer))
            Path(folder, "config.json").write_text(json.dumps(config))
            file = Path(folder, "rows.jsonl")
            file.write_text("".join(json.dumps(row) + "\n" for _, row, _ in expected))
            command = [given.peft, "data", file, "--model", folder, "--json", "--max-length", "8000"]
            done = subprocess.run(command, capture_output=True, text=True)
        found = [json.loads(line) for line in done.stdout.split("\n") if line]
        if len(found) != len(expected):
            raise SystemExit(f"error: {name}: {given.peft} answered {len(found)} of {len(expected)} rows\n{done.stderr}")
        numbers = [0, 0, 0, refused]
        for (chat, _, theirs), ours in zip(expected, found):
            if ours.get("skipped"):
                numbers[2] += 1
                continue
            learnt = [int(label != -100) for label in ours["labels"]]
            same = ours["input_ids"] == list(theirs["input_ids"]) and learnt == list(theirs["assistant_masks"])
            numbers[0 if same else 1] += 1
            if not same:
                print(f"{name}: {chat}: tokens or labels differ", file=sys.stderr)
        sums = [a + b for a, b in zip(sums, numbers)]
        print(f"| {name} | " + " | ".join(str(number) if number else "" for number in numbers) + " |", flush=True)
    print("| **all** | " + " | ".join(f"**{number}**" for number in sums) + " |")


if __name__ == "__main__":
    main()
