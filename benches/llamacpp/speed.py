"""Measures `peft` and llama.cpp on the same files, in turns; `run --speed` starts it in its virtual environment.

Decoding is the time of 64 further tokens of one text. A prompt has 512 tokens. Load to first token is a whole process for
`peft`; for llama.cpp, it is loading and the first answer, without the start of Python. Both use all cores unless --threads
says otherwise (`taskset` then limits `peft` to that many).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from llama import Llama

TYPES = ["f32", "bf16", "q8_0", "q4_0", "q4_1"]
SENTENCE = "The harbour of Lund lies behind a long grey wall, and every morning the boats come home with the tide. "
PROMPT, FEW, MANY = 512, 8, 72


class Side:
    """The measurements of a side, one for each turn."""

    def __init__(self):
        self.decode, self.prompt, self.load = [], [], []


def ours(peft, file, text, side):
    def run(text, tokens):
        command = [*peft, "generate", "--model", file, "--prompt", text, "--max-new-tokens", str(tokens), "--temperature", "0", "--ignore-eos", "--json"]
        start = time.perf_counter()
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        wall = time.perf_counter() - start
        said = json.loads(done.stdout)
        return said, tokens / said["tokens_per_second"], wall

    _, few, wall = run("The sea", FEW)
    _, many, _ = run("The sea", MANY)
    side.decode.append((MANY - FEW) / max(many - few, 1e-9))
    said, seconds, _ = run(text, 1)
    side.prompt.append(len(said["prompt_token_ids"]) / seconds)
    _, _, wall = run("The sea", 1)
    side.load.append(wall)
    return said["prompt_token_ids"]


def theirs(file, ids, threads, side):
    llama = Llama(file, threads=threads)
    start = time.perf_counter()
    llama.greedy([504, 4064], 1)
    side.load.append(llama.load_seconds + time.perf_counter() - start)
    said = llama.greedy([504, 4064], MANY, ignore_eos=True)
    side.decode.append(said["timings"]["predicted_per_second"])
    said = llama.greedy(ids, 1)
    side.prompt.append(said["timings"]["prompt_n"] / said["timings"]["prompt_ms"] * 1000)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("peft", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--types", nargs="+", default=TYPES)
    parser.add_argument("--seconds", type=float, default=360, help="begin no further turn after this time")
    given = parser.parse_args()
    start = time.perf_counter()
    cores = sorted(os.sched_getaffinity(0))[: given.threads]
    keep = ["taskset", "-c", ",".join(map(str, cores))] if len(cores) < len(os.sched_getaffinity(0)) else []
    peft = [*keep, str(given.peft.resolve())]
    text = SENTENCE * 40
    with tempfile.TemporaryDirectory(prefix="peft-llamacpp-") as folder:
        files = {}
        for of in given.types:
            files[of] = Path(folder, f"{of}.gguf")
            command = [*peft, "export", "--model", given.model, "--output", files[of], "--outtype", of, "--no-proof"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        # Cut the text to PROMPT tokens.
        llama = Llama(files[given.types[0]], threads=given.threads)
        ids = llama.tokens(text)[:PROMPT]
        text = llama.ask("/detokenize", tokens=ids)["content"]
        del llama
        sides = {of: (Side(), Side()) for of in given.types}
        turns = 0
        while turns < given.turns and (turns == 0 or time.perf_counter() - start < given.seconds):
            for of in given.types:
                ours_of, theirs_of = sides[of]
                ids = ours(peft, files[of], text, ours_of)
                theirs(files[of], ids, given.threads, theirs_of)
            turns += 1
            print(f"turn {turns}: {time.perf_counter() - start:.0f} seconds", file=sys.stderr, flush=True)
    median = statistics.median
    print(f"{given.threads} threads, medians of {turns} turns, a prompt of {len(ids)} tokens\n")
    print("| type | decoding: peft | llama.cpp | ratio | prompt: peft | llama.cpp | ratio | load to first token: peft | llama.cpp | ratio |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for of, (a, b) in sides.items():
        cells = [of.upper()]
        for name, unit in [("decode", "/s"), ("prompt", "/s"), ("load", " s")]:
            x, y = median(getattr(a, name)), median(getattr(b, name))
            form = "{:.2f}{}" if name == "load" else "{:.1f}{}"
            cells += [form.format(x, unit), form.format(y, unit), f"{x / y:.2f}×"]
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
