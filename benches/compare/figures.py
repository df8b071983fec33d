"""The rows of the table: what is measured, what it is compared with, and the goal."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Callable

from lab import Failure, Skip
from models import GPT2, QWEN3, QWEN3_LARGE, SMOLLM2, Model, Place
from products import shapes

# Steps of a run; the first is a warm-up and does not count.
STEPS = {256: 4, 512: 2, 1024: 2, 2048: 2}
NEW_TOKENS = 128
# A base in 8 bits, and one whose products are made in 8 bits too.
IN_8 = ("load_in_8bit",)
INT8 = ("load_in_8bit", "int8_compute", "int8_head")


class Bench:
    """Measures pairs (ours, theirs) for a model; each once, however many rows ask for it."""

    def __init__(self, lab, rounds):
        self.lab, self.rounds = lab, rounds
        self.measured, self.places = {}, {}

    def of(self, model):
        """Switches to this model."""
        if model.preset not in self.places:
            self.places[model.preset] = Place(self.lab, model)
        self.place = self.places[model.preset]
        return self

    def pairs(self, name, ours, theirs, rounds=None, tolerance=None):
        """Runs both in turns, for some rounds. `theirs` gets what `ours` returned. With a tolerance, the
        losses of both are compared step by step, as far as ours go."""
        name = f"{self.place.model.preset}-{name}"
        if name in self.measured:
            return self.measured[name]
        found = []
        for number in range(rounds or self.rounds):
            pair = [ours()]
            pair.append(theirs(pair[0]))
            self.lab.say(f"  {name}, round {number + 1}: ours {brief(pair[0])}; theirs {brief(pair[1] or {}) or 'none'}")
            if tolerance and pair[1]:
                compare_losses(*pair, tolerance)
            found.append(pair)
        self.measured[name] = found
        return found

    # The runs of each side.

    def ours_training(self, rows, steps, batch=4, quantized=(), **settings):
        lab, settings = self.lab, {"per_device_train_batch_size": batch} | settings
        words = [word for key in quantized for word in ("--set", f"quantization_config.{key}=true")]
        words += ["--set", f"data.train={lab.work / rows}", "--set", f"training.max_steps={steps}"]
        for key, value in settings.items():
            words += ["--set", f"training.{key}={json.dumps(value)}"]
        done = lab.run([lab.peft, "train", self.place.config, "--force", *words])
        lines = (self.place.run / "metrics.jsonl").read_text().splitlines()
        entries = [entry for line in lines if "tokens_per_second" in (entry := json.loads(line))]
        seen = [0] + [entry["num_input_tokens_seen"] for entry in entries]
        seconds = [(after - before) / entry["tokens_per_second"] for before, after, entry in zip(seen, seen[1:], entries)]
        return {
            "losses": [entry["loss"] for entry in entries],
            "step_seconds": seconds,
            "epoch_seconds": sum(seconds),
            "command_seconds": done.seconds,
            "peak": done.peak,
        }

    def python_training(self, rows, steps, *words):
        lab = self.lab
        done = lab.rival("train", self.place.config, "--rows", lab.work / rows, "--steps", steps, *words)
        return done.json() | {"command_seconds": done.seconds, "peak": done.peak}

    def python_trainer(self, rows):
        done = self.lab.rival("trainer", self.place.config, "--rows", self.lab.work / rows)
        return done.json() | {"command_seconds": done.seconds, "peak": done.peak}

    def burn_apply_lora(self, rows, steps):
        lab = self.lab
        done = lab.example("apply_lora", self.place.weights(), self.place.adapter, lab.work / rows, steps, lab.work / "settings.json")
        return done.json() | {"command_seconds": done.seconds, "peak": done.peak}

    # The pairs that rows ask for.

    def training(self, length, batch=4, bf16=False):
        rows, steps = f"rows-{length}.jsonl", STEPS[length]
        settings, words = ({"bf16": True}, ["--bf16"]) if bf16 else ({}, [])
        return self.pairs(
            f"training-{batch}x{length}" + ("-bf16" if bf16 else ""),
            lambda: self.ours_training(rows, steps, batch, **settings),
            lambda _: self.python_training(rows, steps, "--batch", batch, *words),
            # bf16 rounds to 8 bits at every product, which moves a loss of 11 by some thousandths.
            tolerance=1e-2 if bf16 else 1e-3,
        )

    def checkpointing(self, length, batch=4):
        """One step of ours, compared with the runs without checkpointing: memory is the same every time."""
        theirs = self.training(length, batch)
        return self.pairs(
            f"checkpointing-{batch}x{length}",
            lambda: self.ours_training(f"rows-{length}.jsonl", 1, batch, gradient_checkpointing=True),
            lambda _: theirs[0][1],
            rounds=1,
            tolerance=1e-3,
        )

    def quantized(self, length, batch):
        """A base in 8 bits with checkpointing, compared with peft's in 32 bits if that fits."""
        rows, steps = f"rows-{length}.jsonl", STEPS[length]
        weights = sum(file.stat().st_size for file in self.place.weights().glob("*.safetensors"))
        return self.pairs(
            f"quantized-{batch}x{length}",
            lambda: self.ours_training(rows, steps, batch, quantized=IN_8, gradient_checkpointing=True),
            lambda _: self.python_training(rows, steps, "--batch", batch) if free_memory() > 2 * weights else None,
            rounds=1,
            # The weights are not the same.
            tolerance=5e-2,
        )

    def int8(self, length, batch=4):
        """Products in eight bits, compared with our own in 32 and 16 bits and with peft, all in turns."""
        rows, steps = f"rows-{length}.jsonl", STEPS[length]
        ours = lambda quantized=(), **more: self.ours_training(rows, steps, batch, quantized, **more)

        def theirs(found):
            others = {"f32": ours(), "bf16": ours(bf16=True)}
            others["peft"] = self.python_training(rows, steps, "--batch", batch)
            # The weights are not the same.
            compare_losses(found, others["f32"], 5e-2)
            return others

        return self.pairs(f"int8-{batch}x{length}", lambda: ours(INT8), theirs)

    def int8_checkpointing(self, length, batch):
        """Products in eight bits, compared with 8 bits that are widened for each product."""
        rows, steps = f"rows-{length}.jsonl", STEPS[length]
        ours = lambda quantized: self.ours_training(rows, steps, batch, quantized, gradient_checkpointing=True)
        return self.pairs(
            f"int8-checkpointing-{batch}x{length}", lambda: ours(INT8), lambda _: ours(IN_8), rounds=1, tolerance=5e-2
        )

    def int8_generation(self):
        """New tokens of a text, by a base in eight, in 16 and in 32 bits, all in turns."""
        lab, prompt = self.lab, (self.lab.work / "prompt.txt").read_text()
        words = ["--model", self.place.weights(), "--adapter", self.place.adapter, "--prompt", prompt]
        words += ["--max-new-tokens", NEW_TOKENS, "--ignore-eos", "--json"]
        ours = lambda *kept: lab.run([lab.peft, "generate", *words, *kept]).json()
        flags = ["--" + key.replace("_", "-") for key in INT8]
        others = lambda _: {"f32": ours(), "bf16": ours("--dtype", "bfloat16")}
        return self.pairs("int8-generation", lambda: ours(*flags), others)

    def epoch(self, rows):
        steps = -(-len((self.lab.work / rows).read_text().splitlines()) // 4)
        return self.pairs(
            f"epoch-{rows}", lambda: self.ours_training(rows, steps), lambda _: self.python_trainer(rows), tolerance=1e-3
        )

    def first_step(self):
        rows = "rows-256.jsonl"
        return self.pairs(
            "first-step", lambda: self.ours_training(rows, 1), lambda _: self.python_training(rows, 1), tolerance=1e-3
        )

    def apply_lora(self):
        rows, steps = "rows-256.jsonl", 3
        return self.pairs(
            "apply-lora",
            lambda: self.ours_training(rows, steps),
            lambda _: self.burn_apply_lora(rows, steps),
            rounds=min(self.rounds, 2),
            tolerance=1e-3,
        )

    def generation(self, dtype, merged):
        lab, prompt = self.lab, (self.lab.work / "prompt.txt").read_text()
        adapter = ["--adapter", self.place.adapter]
        count = ["--max-new-tokens", NEW_TOKENS]

        def ours():
            model = ["--model", self.place.weights(merged, dtype), *([] if merged else adapter)]
            kept = ["--dtype", "bfloat16" if dtype == "bf16" else "float32"]
            found = lab.run([lab.peft, "generate", *model, *kept, "--prompt", prompt, *count, "--json"]).json()
            if len(found["token_ids"]) != NEW_TOKENS:
                raise Failure(f"ours ended after {len(found['token_ids'])} of {NEW_TOKENS} tokens")
            return found

        def theirs(ours):
            words = ["--prompt-ids", json.dumps(ours["prompt_token_ids"]), "--new-tokens", NEW_TOKENS]
            words += ["--bf16"] * (dtype == "bf16") + ["--merge"] * merged
            return lab.rival("generate", "--model", self.place.weights(dtype=dtype), *adapter, *words).json()

        return self.pairs(f"generation-{dtype}" + ("-merged" if merged else ""), ours, theirs)

    def generation_of_rows(self, batch, dtype):
        """Continues rows of tokens in a file, each by the same number of tokens, whatever ends a text."""
        lab, prompts, found = self.lab, self.lab.work / f"prompts-{batch}.safetensors", self.lab.work / "found.safetensors"
        words = ["--model", self.place.weights(dtype=dtype), "--adapter", self.place.adapter, "--input", prompts]

        def ours():
            kept = ["--dtype", "bfloat16" if dtype == "bf16" else "float32"]
            count = ["--max-new-tokens", NEW_TOKENS, "--ignore-eos"]
            return lab.run([lab.peft, "generate", *words, "--output", found, *kept, *count, "--json"]).json()

        def theirs(ours):
            more = ["--ours", found, "--new-tokens", NEW_TOKENS, *(["--bf16"] * (dtype == "bf16"))]
            done = lab.rival("generate", *words, *more).json()
            ours["same"] = f"the first {', '.join(map(str, done['same']))} of each row's {NEW_TOKENS} tokens are the same"
            return done

        return self.pairs(f"generation-{batch}-{dtype}", ours, theirs)

    def products(self, dtype):
        """Steps of ours, compared with their matrix products alone by the faster library, in turns: the
        processor's clock changes from one minute to the next."""
        lab, bf16 = self.lab, dtype == "bf16"
        config = json.loads((self.place.weights() / "config.json").read_text())
        wanted = shapes(config, self.place.model.lora, batch=4, length=256)
        file = lab.work / "shapes.json"
        file.write_text(json.dumps(wanted))
        settings, words = ({"bf16": True}, ["--bf16"]) if bf16 else ({}, [])

        def whole(found, most=float("inf")):
            each = zip(wanted, found["seconds"], strict=True)
            return sum(shape["count"] * seconds for shape, seconds in each if shape["batch"] <= most)

        def theirs(_):
            found = {
                "torch": lab.rival("products", "--shapes", file, *words).json(),
                "ours": lab.example("products", file, *words).json(),
            }
            totals = {name: whole(one) for name, one in found.items()}
            # Without attention's, which our products do not compute.
            linears = {name: whole(one, most=1) for name, one in found.items()}
            return {"product_seconds": min(totals.values()), "totals": totals, "linears": linears}

        ours = lambda: self.ours_training("rows-256.jsonl", STEPS[256], **settings)
        return self.pairs(f"products-{dtype}", ours, theirs)

    def libraries(self, dtype):
        """Our products of a step, compared with torch's, without attention's."""
        linears = [theirs["linears"] for _, theirs in self.products(dtype)]
        return [[{"product_seconds": total[name]} for name in ("ours", "torch")] for total in linears]

    def ours_tokens(self, threads):
        """The whole command, which reads the rows and writes the tokens too."""
        lab, rows = self.lab, self.lab.work / "instructions.jsonl"
        cache = lab.work / "token-cache"
        shutil.rmtree(cache, ignore_errors=True)
        environment = lab.environment | {"RAYON_NUM_THREADS": str(threads), "BURN_PEFT_CACHE": str(cache)}
        done = lab.run([lab.peft, "data", rows, "--tokenizer", self.place.weights(), "--summary"], environment)
        found = done.json()
        return {"rows": found["examples"], "tokens": found["tokens"], "tokens_per_second": found["tokens"] / done.seconds}

    def tokens(self):
        def theirs(ours):
            lab = self.lab
            environment = lab.environment | {"TOKENIZERS_PARALLELISM": "true"}
            words = ["--rows", lab.work / "instructions.jsonl", "--tokenizer", self.place.weights()]
            found = lab.rival("tokenise", *words, environment=environment).json()
            # Ours adds a token at the end of every row.
            if ours["tokens"] - ours["rows"] != found["tokens"]:
                raise Failure(f"{ours['tokens']:,} tokens in {ours['rows']:,} rows of ours, {found['tokens']:,} of theirs")
            ours["same"] = "the same tokens except for each row's end"
            return found

        return self.pairs("tokens", lambda: self.ours_tokens(self.lab.given.threads), theirs)

    def tokens_by_threads(self):
        threads = self.lab.given.threads
        if threads < 2:
            raise Skip("needs --threads 2 or more")
        return self.pairs("tokens-threads", lambda: self.ours_tokens(threads), lambda _: self.ours_tokens(1))


def free_memory():
    """Free memory in bytes, with what the page cache would give back."""
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return 1024 * int(lines["MemAvailable"].split()[0])


def compare_losses(ours, theirs, tolerance):
    pairs = list(zip(ours["losses"], theirs["losses"]))
    if not pairs or len(ours["losses"]) > len(theirs["losses"]):
        raise Failure(f"{len(ours['losses'])} losses of ours, {len(theirs['losses'])} of theirs")
    ours["loss_error"] = max(abs(a - b) for a, b in pairs)
    for step, (a, b) in enumerate(pairs, 1):
        if not abs(a - b) <= tolerance:
            raise Failure(f"step {step}: our loss is {a:.6f}, theirs is {b:.6f}: more than {tolerance} apart")


def brief(found):
    """A run in a few words."""
    words = []
    if "step_seconds" in found:
        words.append("steps " + " ".join(f"{seconds:.2f}" for seconds in found["step_seconds"][:4]) + " s")
    if "epoch_seconds" in found and len(found.get("step_seconds", "12345")) > 4:
        words.append(f"epoch {found['epoch_seconds']:.2f} s")
    if "totals" in found:
        words.append("products " + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in found["totals"].items()))
    if "f32" in found:
        words += [f"{name}: {brief(run)}" for name, run in found.items() if name != "loss_error"]
    if "tokens_per_second" in found:
        words.append(f"{found['tokens_per_second']:.1f} tokens/s")
    if "peak" in found:
        words.append(f"{found['peak'] / 1e9:.2f} GB, {found['command_seconds']:.1f} s in all")
    return ", ".join(words)


# What a row reads from a run, and how it is written.
steady = lambda found: median(found["step_seconds"][1:])
rate = lambda length, batch=4: lambda found: batch * length / steady(found)
speed = lambda found: found["tokens_per_second"]
one_of = lambda name, value: lambda found: value(found[name])
peak = lambda found: found["peak"]
whole_command = lambda found: found["command_seconds"]

TOKENS = "{:,.0f}".format
FEW_TOKENS = "{:.1f}".format
GIGABYTES = lambda value: f"{value / 1e9:.2f} GB"
SECONDS = "{:.2f} s".format


@dataclass
class Figure:
    """A row. The ratio is ours divided by theirs, or the inverse if `inverse`."""

    name: str
    title: str
    against: str
    goal: float | None
    pairs: Callable  # bench -> pairs
    value: Callable  # of one run
    written: Callable
    at_least: bool = True
    inverse: bool = False
    their_value: Callable | None = None
    model: Model = GPT2
    limit: float | None = None  # for our value, if there is no goal for the ratio

    def goal_text(self):
        if self.goal is None:
            return f"< {self.written(self.limit)}" if self.limit else "stated"
        return ("≥ " if self.at_least else "≤ ") + f"{self.goal:g}×"

    def line(self, bench):
        pairs = self.pairs(bench.of(self.model))
        if not pairs[0][1]:
            value = median(self.value(ours) for ours, _ in pairs)
            found = {"ours": self.written(value), "theirs": "does not fit", "ratio": None, "goal": self.goal_text()}
            return found | {"reached": self.reached(value, None), "note": ""}
        values = [(self.value(ours), (self.their_value or self.value)(theirs)) for ours, theirs in pairs]
        ratio = median(theirs / ours if self.inverse else ours / theirs for ours, theirs in values)
        value = median(ours for ours, _ in values)
        return {
            "ours": self.written(value),
            "theirs": self.written(median(theirs for _, theirs in values)),
            "ratio": ratio,
            "goal": self.goal_text(),
            "reached": self.reached(value, ratio),
            "note": note(pairs),
        }

    def reached(self, value, ratio):
        if self.goal is None:
            return None if self.limit is None else value < self.limit
        return ratio >= self.goal if self.at_least else ratio <= self.goal


def note(pairs):
    """How well the two agree."""
    ours, theirs = pairs[0]
    if "totals" in theirs:
        of = lambda name: median(theirs["totals"][name] for _, theirs in pairs)
        return "products: " + ", ".join(f"{name} {of(name):.2f} s" for name in theirs["totals"])
    if "loss_error" in ours:
        return f"losses within {max(pair[0]['loss_error'] for pair in pairs):.0e}"
    if "same" in ours:
        return ours["same"]
    if "token_ids" in ours and "token_ids" in theirs:
        same = [a == b for a, b in zip(ours["token_ids"], theirs["token_ids"])]
        return f"the first {(same + [False]).index(False)} of {len(same)} tokens are the same"
    return ""


def size(bench):
    files = [file for file in bench.lab.venv.rglob("*") if file.is_file() and not file.is_symlink()]
    return [[{"bytes": bench.lab.peft.stat().st_size}, {"bytes": sum(file.stat().st_size for file in files)}]]


PEFT = "peft + transformers (SDPA attention)"
AUTOCAST = "the same in bf16 autocast"
BURN = "Burn's `apply_lora`"
GENERATE = "transformers `generate`, same dtype"
LIMIT = "the step's matrix products alone, by the faster of ours and torch"


def generations():
    for dtype in ("f32", "bf16"):
        for merged in (False, True):
            yield Figure(
                f"generate-{dtype}" + ("-merged" if merged else ""),
                f"generation, tokens/s, batch 1, {NEW_TOKENS} new tokens, {dtype}, adapter {'' if merged else 'un'}merged",
                GENERATE, 1.3, lambda bench, dtype=dtype, merged=merged: bench.generation(dtype, merged), speed, FEW_TOKENS,
            )  # fmt: skip


def int8(model, name, against, goal):
    return of(model, f"int8-{name}", "tokens/s, batch 4 × 256, `int8_compute`", against, goal, lambda b: b.int8(256), rate(256), TOKENS,
              their_value=one_of(name, rate(256)))  # fmt: skip


def int8_generation(model, name, against, goal):
    return of(model, f"int8-generate-{name}", f"generation, tokens/s, batch 1, {NEW_TOKENS} new tokens, `int8_compute`", against, goal,
              lambda b: b.int8_generation(), speed, FEW_TOKENS, their_value=one_of(name, speed))  # fmt: skip


def of(model, name, title, *rest, **more):
    """A row for another model."""
    return Figure(f"{model.preset}-{name}", model.title + title, *rest, model=model, **more)


GENERATIONS = [
    of(SMOLLM2, f"generate-{batch}-{dtype}", f"generation, tokens/s, batch {batch}, {NEW_TOKENS} new tokens, {dtype}, adapter unmerged",
       GENERATE, goal, lambda b, batch=batch, dtype=dtype: b.generation_of_rows(batch, dtype), speed, FEW_TOKENS)
    for batch, goal in ((1, 1.3), (8, 1.5)) for dtype in ("f32", "bf16")
]  # fmt: skip
FIGURES = [
    Figure("speed-256", "tokens/s, batch 4 × 256, f32", PEFT, 1.7, lambda b: b.training(256), rate(256), TOKENS),
    Figure("speed-1024", "tokens/s, batch 4 × 1024, f32", PEFT, 2.5, lambda b: b.training(1024), rate(1024), TOKENS),
    Figure("speed-256-bf16", "tokens/s, batch 4 × 256, bf16", AUTOCAST, 1.5,
           lambda b: b.training(256, bf16=True), rate(256), TOKENS),
    Figure("epoch", "an epoch of 96 reviews of mixed length, 4 a step, f32", "`Trainer` with its default padding", 2.0,
           lambda b: b.epoch("reviews.jsonl"), lambda found: found["epoch_seconds"], SECONDS, inverse=True),
    Figure("memory-256", "peak resident memory, batch 4 × 256, f32", "peft", 0.4, lambda b: b.training(256), peak, GIGABYTES, at_least=False),
    Figure("memory-1024", "peak resident memory, batch 4 × 1024, f32", "peft", 0.35, lambda b: b.training(1024), peak, GIGABYTES, at_least=False),
    Figure("memory-1024-checkpointing", "the same with our `gradient_checkpointing`", "peft without it", 0.2,
           lambda b: b.checkpointing(1024), peak, GIGABYTES, at_least=False),
    Figure("first-step", "a whole command of one step, batch 4 × 256, weights in the page cache", "peft", 0.3,
           lambda b: b.first_step(), whole_command, SECONDS, at_least=False),
    Figure("apply-lora-speed", "tokens/s, batch 4 × 256, f32", BURN, 3.0, lambda b: b.apply_lora(), rate(256), TOKENS),
    Figure("apply-lora-memory", "peak resident memory, batch 4 × 256, f32", BURN, 0.5, lambda b: b.apply_lora(), peak, GIGABYTES, at_least=False),
    *generations(),
    Figure("products-f32", "a whole step, batch 4 × 256, f32", LIMIT, 0.85, lambda b: b.products("f32"), steady, SECONDS,
           inverse=True, their_value=lambda found: found["product_seconds"]),
    Figure("products-bf16", "a whole step, batch 4 × 256, bf16", "the same", 0.5, lambda b: b.products("bf16"), steady, SECONDS,
           inverse=True, their_value=lambda found: found["product_seconds"]),
    Figure("tokens", "tokens/s of `peft data`, 220,000 instructions, the whole command", "the call of `tokenizers.encode_batch` alone, on the same texts", 1.0,
           lambda b: b.tokens(), speed, TOKENS),
    Figure("tokens-threads", "the same", "the same with one thread", 1.8, lambda b: b.tokens_by_threads(), speed, TOKENS),
    of(SMOLLM2, "speed-256", "tokens/s, batch 4 × 256, f32", PEFT, 1.5, lambda b: b.training(256), rate(256), TOKENS),
    of(SMOLLM2, "speed-256-bf16", "tokens/s, batch 4 × 256, bf16", AUTOCAST, 1.5, lambda b: b.training(256, bf16=True), rate(256), TOKENS),
    of(SMOLLM2, "speed-2048", "tokens/s, 1 × 2048, f32", PEFT, 2.0, lambda b: b.training(2048, 1), rate(2048, 1), TOKENS),
    of(SMOLLM2, "epoch", "an epoch of 48 chats of mixed length, 4 a step, f32", "`Trainer` with its default padding", 2.0,
       lambda b: b.epoch("chats.jsonl"), lambda found: found["epoch_seconds"], SECONDS, inverse=True),
    of(SMOLLM2, "memory-256", "peak resident memory, batch 4 × 256, f32", "peft", 0.3, lambda b: b.training(256), peak, GIGABYTES, at_least=False),
    of(SMOLLM2, "memory-2048-checkpointing", "peak resident memory, 1 × 2048, f32, our `gradient_checkpointing`", "peft without it", 0.15,
       lambda b: b.checkpointing(2048, 1), peak, GIGABYTES, at_least=False),
    of(SMOLLM2, "first-step", "a whole command of one step, batch 4 × 256", "peft", 0.25,
       lambda b: b.first_step(), whole_command, SECONDS, at_least=False),
    *GENERATIONS,
    of(SMOLLM2, "products-f32", "a whole step, batch 4 × 256, f32", LIMIT, 1.12, lambda b: b.products("f32"), steady, SECONDS,
       at_least=False, their_value=lambda found: found["product_seconds"]),
    of(SMOLLM2, "products-bf16", "our products of linear layers alone, of a step of 4 × 256, bf16", "torch's", 1.0, lambda b: b.libraries("bf16"),
       lambda found: found["product_seconds"], SECONDS, inverse=True),
    of(QWEN3, "speed", "tokens/s, batch 2 × 256, bf16", AUTOCAST, 1.5, lambda b: b.training(256, 2, bf16=True), rate(256, 2), TOKENS),
    of(QWEN3, "memory", "peak resident memory, batch 2 × 256, bf16", AUTOCAST, 0.35, lambda b: b.training(256, 2, bf16=True),
       peak, GIGABYTES, at_least=False),
    *(int8(model, *row) for model in (GPT2, SMOLLM2) for row in (("f32", "ours in f32", 2.0), ("bf16", "ours in bf16", 1.15), ("peft", PEFT, 3.0))),
    *(int8_generation(model, *row) for model in (GPT2, SMOLLM2) for row in (("bf16", "ours in bf16", 1.7), ("f32", "ours in f32", None))),
    of(QWEN3_LARGE, "int8-speed", "tokens/s, 1 × 512, `int8_compute`, `gradient_checkpointing`", "ours with `load_in_8bit` alone", None,
       lambda b: b.int8_checkpointing(512, 1), rate(512, 1), TOKENS),
    of(QWEN3_LARGE, "int8-memory", "peak resident memory of the same", "the same", None, lambda b: b.int8_checkpointing(512, 1), peak, GIGABYTES, limit=4e9),
    of(QWEN3_LARGE, "speed", "tokens/s, 1 × 512, base in 8 bits, `gradient_checkpointing`", "peft, base in f32", None,
       lambda b: b.quantized(512, 1), rate(512, 1), TOKENS),
    of(QWEN3_LARGE, "memory", "peak resident memory of the same", "peft, base in f32", None, lambda b: b.quantized(512, 1), peak, GIGABYTES, limit=5e9),
    Figure("disk", "disk needed to run at all", "the virtual environment", 0.02, size, lambda found: found["bytes"], GIGABYTES, at_least=False),
]  # fmt: skip
