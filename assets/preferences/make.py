"""Makes train.jsonl and held-out.jsonl from a model's answers: `python make.py answers.json`.

The answers are SmolLM2-135M-Instruct's, with greedy decoding:

    peft generate --model HuggingFaceTB/SmolLM2-135M-Instruct --messages questions.jsonl \
        --max-new-tokens 150 --temperature 0 --json > answers.json

The first sentence of every answer is preferred to the whole answer.
"""

import json
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).parent
MOST_WORDS = 60
HELD_OUT = 5


def sentences(text):
    return [part.strip() for part in re.split(r"(?<=[.!?])\s+", text) if part.strip()]


def main():
    rows = []
    for answer in json.loads(pathlib.Path(sys.argv[1]).read_text()):
        text = answer["content"]
        if answer["finish_reason"] == "length":
            # The last sentence was never finished.
            text = text[: max(text.rfind(mark) for mark in ".!?") + 1]
        parts = sentences(text)
        if len(parts) < 2 or len(parts[0].split()) < 4 or "\n" in parts[0]:
            continue
        long = parts[0]
        for part in parts[1:]:
            if len(long.split()) > MOST_WORDS:
                break
            long += " " + part
        says = lambda text: [{"role": "assistant", "content": text}]
        rows.append({"prompt": answer["messages"], "chosen": says(parts[0]), "rejected": says(long)})
    held_out = rows[::HELD_OUT]
    train = [row for row in rows if row not in held_out]
    for name, part in [("train", train), ("held-out", held_out)]:
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in part)
        (HERE / f"{name}.jsonl").write_text(lines)
        print(name, len(part))


main()
