"""The models that are measured, with random weights, and where their files are."""

import json
import shutil
from dataclasses import dataclass, field

from lab import HERE, SETTINGS


@dataclass(frozen=True)
class Model:
    preset: str  # the name for `peft init`
    title: str  # what comes before the title of a row
    lora: dict  # for peft's LoraConfig
    changes: dict = field(default_factory=dict)  # changes to config.json


ALL_LINEAR = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"}
GPT2 = Model(
    "gpt2",
    "",
    {"r": 8, "lora_alpha": 16, "target_modules": ["c_attn"], "fan_in_fan_out": True},
    {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0},
)
SMOLLM2 = Model("smollm2-135m", "SmolLM2-135M: ", ALL_LINEAR)
QWEN3 = Model("qwen3-0.6b", "Qwen3-0.6B: ", ALL_LINEAR)
QWEN3_LARGE = Model("qwen3-1.7b", "Qwen3-1.7B: ", ALL_LINEAR)


class Place:
    """The files of a model. Files that few rows need are made when they are first asked for."""

    def __init__(self, lab, model):
        self.lab, self.model, self.made = lab, model, set()
        self.folder = lab.work / model.preset
        self.adapter = self.folder / "adapter"
        self.config = self.folder / "compare.toml"
        self.run = self.folder / "run"
        lab.say(f"random {model.preset}, start adapter …")
        self.make_config()
        words = ["--model", self.weights(), "--lora", json.dumps(model.lora), "--output", self.adapter]
        lab.run([lab.python, HERE / "prepare.py", "adapter", *words])

    def weights(self, merged=False, dtype="f32"):
        """The folder of the base model, or of the one with the adapter merged into its weights."""
        folder = self.folder / (("merged" if merged else "model") + ("" if dtype == "f32" else f"-{dtype}"))
        if folder not in self.made:
            shutil.rmtree(folder, ignore_errors=True)
            self.make_weights(folder, merged, dtype)
            for name in ("tokenizer.json", "vocab.json", "merges.txt"):
                if (file := self.lab.given.tokenizer / name).exists():
                    shutil.copy(file, folder / name)
            self.made.add(folder)
        return folder

    def make_weights(self, folder, merged, dtype):
        lab = self.lab
        if dtype != "f32":
            lab.run([lab.python, HERE / "prepare.py", "bf16", "--model", self.weights(merged), "--output", folder])
        elif merged:
            lab.run([lab.peft, "merge", "--model", self.weights(), "--adapter", self.adapter, "--output", folder])
        else:
            lab.run([lab.peft, "init", self.model.preset, "--output", folder, "--seed", "0"])
            config = json.loads((folder / "config.json").read_text()) | self.model.changes
            (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")

    def make_config(self):
        """The training file, which rival.py reads too."""
        # Strings and numbers are written the same way in JSON and TOML.
        table = lambda values: "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
        self.folder.mkdir(parents=True, exist_ok=True)
        self.config.write_text(
            table({"model": str(self.folder / "model"), "adapter": str(self.adapter)})
            + "\n[data]\n"
            + table({"train": str(self.lab.work / "rows-256.jsonl"), "cache_dir": str(self.folder / "cache")})
            + "\n[training]\n"
            + table(SETTINGS | {"output_dir": str(self.run)})
        )
