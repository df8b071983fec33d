"""Looks into what runs have left: `loss RUN`, `bytes RUN`, `near RUN RUN BOUND`."""

import array
import json
import sys


def entries(run):
    with open(f"{run}/metrics.jsonl") as file:
        return [json.loads(line) for line in file]


def weights(run):
    with open(f"{run}/adapter_model.safetensors", "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        file.read(length)
        return array.array("f", file.read())


def last(run, key):
    return [entry[key] for entry in entries(run) if key in entry][-1]


match sys.argv[1:]:
    case ["loss", run]:
        print(last(run, "eval_loss"))
    case ["bytes", run]:
        print(last(run, "exchanged_bytes"))
    case ["near", one, two, bound]:
        far = max(abs(a - b) for a, b in zip(weights(one), weights(two), strict=True))
        losses = zip(entries(one), entries(two), strict=True)
        apart = max(abs(a["loss"] - b["loss"]) for a, b in losses if "loss" in a)
        print(f"weights differ by {far:.1e}, losses by {apart:.1e} at most")
        sys.exit(far > float(bound) or apart > float(bound))
    case _:
        sys.exit(__doc__)
