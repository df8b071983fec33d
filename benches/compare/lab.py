"""Where measurements run: the rival's environment, our command, the data and the processes."""

import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
# A command that takes longer than this hangs: the longest, two steps of 4 x 1024 by peft, takes 90 s.
LIMIT = 900
# If other work takes a larger share of the processors, a run's figures are worthless: torch's threads
# spin while they wait for each other, and one that is held up makes it ten times as slow.
NOISE = 0.05
# `[training]` of the training file, whose words are those of transformers' TrainingArguments.
SETTINGS = {
    "per_device_train_batch_size": 4,
    "learning_rate": 1e-3,
    "lr_scheduler_type": "constant",
    "weight_decay": 0.01,
    "adam_beta1": 0.9,
    "adam_beta2": 0.999,
    "adam_epsilon": 1e-8,
    "max_grad_norm": 1.0,
    "logging_steps": 1,
    "save_strategy": "no",
    "train_sampling_strategy": "sequential",
}


def processor_seconds():
    """The processor seconds of all processes since the machine started, and those that the host took away."""
    user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


class Failure(Exception):
    """Something could not be measured."""


class Skip(Exception):
    """Something that this machine or this `peft` does not have."""


@dataclass
class Done:
    """A command that ended well."""

    seconds: float  # from its start to its end
    peak: int  # the most memory it held (resident set), in bytes
    text: str  # what it printed

    def json(self):
        """What it printed, if that is one JSON value, or else its last line."""
        try:
            return json.loads(self.text)
        except ValueError:
            return json.loads(self.text.splitlines()[-1])


class Lab:
    def __init__(self, given):
        self.given = given
        self.work = given.work.resolve()
        self.output = (given.output or self.work / "table.md").resolve()
        self.commands = self.work / "commands.txt"
        self.venv = (given.venv or self.work / "venv").resolve()
        self.python = self.venv / "bin/python"
        self.measuring = False
        self.others = 0.0  # the largest share of the processors that other work took during a run
        threads = str(given.threads)
        self.environment = os.environ | {
            "RAYON_NUM_THREADS": threads,
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }

    def say(self, text):
        print(text, file=sys.stderr, flush=True)

    def run(self, argv, environment=None, limit=LIMIT):
        """Runs a command; its output goes to files, so that no pipe slows it."""
        argv = [str(word) for word in argv]
        with self.commands.open("a") as commands:
            commands.write(shlex.join(argv) + "\n")
        out, err = self.work / "stdout", self.work / "stderr"
        before = processor_seconds()
        with out.open("wb") as stdout, err.open("wb") as stderr:
            start = time.perf_counter()
            try:
                process = subprocess.Popen(
                    argv, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, env=environment or self.environment, cwd=ROOT
                )
            except OSError as error:
                raise Failure(f"{argv[0]} does not start: {error}") from error
            # Only wait4 tells the memory of this one process.
            while True:
                pid, status, usage = os.wait4(process.pid, os.WNOHANG)
                seconds = time.perf_counter() - start
                if pid:
                    break
                if seconds > limit:
                    process.kill()
                    os.wait4(process.pid, 0)
                    raise Failure(f"stopped after {limit} s: the last command in {self.commands.name}")
                time.sleep(0.005)
        others = processor_seconds() - before - usage.ru_utime - usage.ru_stime
        others = max(0.0, others / (seconds * os.cpu_count()))
        self.others = max(self.others, others)
        if self.measuring and others > NOISE:
            self.say(f"    other work took {others:.0%} of the processors meanwhile")
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            said = err.read_text(errors="replace").strip().splitlines() or ["nothing on standard error"]
            if any(words in said[0] for words in ("not a known key", "does not support yet")):
                raise Skip(said[0].split(".toml: ", 1)[-1])
            name = Path(argv[1] if argv[0] == str(self.python) else argv[0]).name
            raise Failure(f"{name} ended with code {process.returncode}, the last command in {self.commands.name}: {' / '.join(said[-3:])}")
        return Done(seconds, usage.ru_maxrss * 1024, out.read_text())

    def rival(self, *words, environment=None):
        """A part of rival.py."""
        return self.run([self.python, HERE / "rival.py", *words, "--threads", self.given.threads], environment)

    def example(self, name, *words):
        """A program from the folder examples/ next to the command."""
        program = self.peft.parent / "examples" / name
        if not program.exists():
            raise Failure(f"there is no {program}: cargo build --release --example {name}")
        return self.run([program, *words])

    def set_up(self):
        """Everything that is not measured."""
        self.work.mkdir(parents=True, exist_ok=True)
        self.commands.write_text("")
        self.find_peft()
        self.find_rival()
        self.about = self.machine(), self.ours()
        self.say("data …")
        words = ["--work", self.work, "--tokenizer", self.given.tokenizer.resolve()]
        for name in ("text", "reviews", "instructions"):
            if file := getattr(self.given, name):
                words += [f"--{name}", file.resolve()]
        self.say("  " + self.run([self.python, HERE / "prepare.py", "data", *words]).text.strip().replace("\n", "\n  "))
        (self.work / "settings.json").write_text(json.dumps(SETTINGS))
        self.measuring, self.others = True, 0.0

    def find_peft(self):
        if self.given.peft:
            self.peft = self.given.peft.resolve()
            if not self.peft.is_file():
                raise Failure(f"--peft {self.given.peft}: there is no such file")
            return
        self.say("cargo build --release …")
        build = ["cargo", "build", "--release", "--bin", "peft", "--example", "apply_lora", "--example", "products"]
        self.run(build, environment=os.environ, limit=3600)
        about = self.run(["cargo", "metadata", "--format-version", "1", "--no-deps"], environment=os.environ)
        self.peft = Path(about.json()["target_directory"]) / "release/peft"

    def find_rival(self):
        if not self.python.exists():
            if self.given.venv:
                raise Failure(f"--venv {self.given.venv}: there is no {self.python}")
            self.say(f"installing requirements.txt into {self.venv} …")
            self.run([sys.executable, "-m", "venv", self.venv])
            pip = [self.python, "-m", "pip", "install", "--quiet"]
            try:
                if self.given.torch_index:
                    torch = next(line for line in (HERE / "requirements.txt").read_text().split() if line.startswith("torch=="))
                    self.run([*pip, "--index-url", self.given.torch_index, torch], environment=os.environ, limit=3600)
                self.run([*pip, "-r", HERE / "requirements.txt"], environment=os.environ, limit=3600)
            except Failure:
                shutil.rmtree(self.venv)  # or half an environment would be taken for a whole one
                raise
        # This also loads torch once, so that the first measurement does not have to.
        self.versions = self.run([self.python, HERE / "prepare.py", "versions", "--requirements", HERE / "requirements.txt"]).text.strip()

    def machine(self):
        """The machine in words."""
        about = subprocess.run(["lscpu"], capture_output=True, text=True, check=True).stdout
        about = dict(line.split(":", 1) for line in about.splitlines() if ":" in line)
        flags = about.get("Flags", "").split()
        extras = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
        model = about.get("Model name", "unknown processor").strip()
        family = " ".join(f"{key.lower()} {about[key].strip()}" for key in ("CPU family", "Model") if key in about)
        return (
            f"{model} ({family}), {os.cpu_count()} cores, {', '.join(extras)}, {memory:.0f} GB, "
            f"{platform.system()} {platform.release()}"
        )

    def ours(self):
        """Our version, with the commit if it was built from here."""
        version = self.run([self.peft, "--version"]).text.strip()
        if self.given.peft:
            return version
        git = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
        return f"{version} ({git.stdout.strip() or 'no commit'})"
