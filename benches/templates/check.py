"""Compares the texts and the answers; `run` in this folder starts it in its virtual environment."""

import argparse
import difflib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ["HF_HUB_OFFLINE"] = "1"

import tokenizers
import transformers
from transformers.utils.chat_template_utils import render_jinja_template

import expressions
from conversations import conversations

# The special tokens that every template gets; each template uses some of them.
SPECIAL = {"bos_token": "<|bos|>", "eos_token": "<|eos|>", "unk_token": "<|unk|>", "pad_token": "<|pad|>"}

EXPRESSIONS = f"{len(expressions.TEXTS)} expressions"
BEYOND = f"{len(expressions.REFUSED)} unsupported expressions"


class Reference:
    """transformers, with an empty tokenizer."""

    def __init__(self):
        inner = tokenizers.Tokenizer(tokenizers.models.WordLevel({"<|unk|>": 0}, unk_token="<|unk|>"))
        self.tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, **SPECIAL)

    def text(self, source, messages, extras):
        try:
            return self.tokenizer.apply_chat_template(messages, chat_template=source, tokenize=False, **extras), None
        except Exception as error:  # whatever it is, the template fails
            return None, f"{type(error).__name__}: {error}"

    def prompt(self, source, messages, extras):
        """The text that the template puts before an answer to the messages."""
        without, _ = self.text(source, messages, {**extras, "add_generation_prompt": False})
        prompt, _ = self.text(source, messages, {**extras, "add_generation_prompt": True})
        return (prompt or "").removeprefix(os.path.commonprefix([without or "", prompt or ""]))

    def answers(self, source, messages, extras):
        """The text, and which of its bytes are inside {% generation %}."""
        try:
            texts, spans = render_jinja_template([messages], chat_template=source, return_assistant_tokens_mask=True, **SPECIAL, **extras)
        except Exception:
            return None, None
        found = set()
        for start, end in spans[0]:
            begin = len(texts[0][:start].encode())
            found.update(range(begin, begin + len(texts[0][start:end].encode())))
        return texts[0], found


def templates(only):
    """The templates by name, including the twins for training that some have (NAME_training)."""
    trl = importlib.util.find_spec("trl")  # not imported: it needs torch
    folder = Path(trl.submodule_search_locations[0], "chat_templates")
    sources = {path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.jinja"))}
    if not only:
        return sources
    return {name: source for name, source in sources.items() if name.startswith(tuple(only)) or name.removesuffix("_training").startswith(tuple(only))}


def rendered(program, cases):
    """Our side's results for the cases, in their order."""
    lines = "".join(json.dumps(case, ensure_ascii=False) + "\n" for case in cases)
    done = subprocess.run([program], input=lines.encode(), stdout=subprocess.PIPE, check=True)
    results = [json.loads(line) for line in done.stdout.decode().split("\n") if line]
    if len(results) != len(cases):
        raise SystemExit(f"error: {program} answered {len(results)} of {len(cases)} cases")
    return results


def difference(theirs, ours):
    if ours is None or theirs is None:
        return ""
    place = next((i for i, (a, b) in enumerate(zip(theirs, ours)) if a != b), min(len(theirs), len(ours)))
    start = max(0, place - 60)
    return f"\n      theirs …{theirs[start:place + 80]!r}\n      ours   …{ours[start:place + 80]!r}"


class Row:
    """The results of a template's conversations."""

    def __init__(self):
        self.exact = self.refused = self.alone = self.differ = 0
        self.same = self.header = self.other = self.unlike = self.left_out = 0
        self.shown = 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--show", type=int, default=1)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--fixture", type=Path)
    given = parser.parse_args()
    reference, sources, chats = Reference(), templates(given.only), conversations()

    cases, expected = [], []
    for name, source in sources.items():
        for chat, messages, extras in chats:
            known = {key: value for key, value in extras.items() if key != "add_generation_prompt"}
            case = {"template": source, "special_tokens": SPECIAL, "messages": messages, "extras": known}
            cases.append({**case, "add_generation_prompt": extras["add_generation_prompt"]})
            expected.append((name, chat, "text", reference.text(source, messages, extras)))
            if all(message["role"] != "assistant" for message in messages):
                continue
            marked = source if "endgeneration %}" in source or "endgeneration -%}" in source else sources.get(f"{name}_training")
            if marked:
                # Transformers leaves out values that are None; our side does so when it reads rows.
                messages = [{key: value for key, value in message.items() if value is not None} for message in messages]
                cases.append({**case, "messages": messages, "answers": True})
                text, spans = reference.answers(marked, messages, {**known, "add_generation_prompt": False})
                expected.append((name, chat, "answers", (text, (spans, reference.prompt(source, messages, known)))))

    if not given.only or "expressions" in given.only:
        names = {**expressions.NAMES, "add_generation_prompt": False}
        for row, texts in [(EXPRESSIONS, expressions.TEXTS), (BEYOND, expressions.REFUSED)]:
            sources[row] = None
            for source in texts:
                cases.append({"template": source, "special_tokens": SPECIAL, "messages": expressions.MESSAGES, "extras": expressions.NAMES, "add_generation_prompt": False})
                expected.append((row, source, "text", reference.text(source, expressions.MESSAGES, names)))
    if given.fixture:
        found = [[source, theirs[0]] for name, source, _, theirs in expected if name == EXPRESSIONS]
        head = {"messages": expressions.MESSAGES, "names": expressions.NAMES, "special_tokens": SPECIAL}
        lines = ",\n".join(json.dumps(pair, ensure_ascii=False) for pair in found)
        given.fixture.write_text(json.dumps(head, ensure_ascii=False)[:-1] + ', "expected": [\n' + lines + "\n]}\n")

    rows = {name: Row() for name in sources}
    for (name, chat, kind, (theirs, more)), ours in zip(expected, rendered(given.program, cases)):
        row = rows[name]
        if kind == "text":
            same = theirs == ours.get("text")
            if name == BEYOND:
                row.alone += "error" in ours
                row.differ += "text" in ours
                continue
            row.exact += same and theirs is not None
            row.refused += same and theirs is None
            row.differ += not same
            if not same and row.shown < given.show:
                row.shown += 1
                said = f"theirs: {more}" if more else f"ours: {ours['error']}" if "error" in ours else "the texts differ"
                print(f"{name}: {chat!r}: {said}{difference(theirs, ours.get('text'))}")
        elif theirs is None or ("error" in ours and not ours.get("left_out")):
            continue  # refused, which the comparison of texts has counted
        elif ours.get("left_out"):
            row.left_out += 1
        elif ours["text"] == theirs:
            found = {byte for start, end in ours["spans"] for byte in range(start, end)}
            wanted, prompt = more
            if found == wanted:
                row.same += 1
            elif found < wanted and all(part in prompt for part in parts(theirs, wanted - found)):
                row.header += 1
            else:
                row.other += 1
                if row.shown < given.show:
                    row.shown += 1
                    print(f"{name}: {chat}: the answers differ\n      theirs {parts(theirs, wanted)!r}\n      ours   {parts(theirs, found)!r}")
        else:
            row.unlike += 1

    lines = table(rows)
    if given.output:
        given.output.write_text("".join(lines))
    else:
        print("\n" + "".join(lines))
    wrong = [name for name, row in rows.items() if row.differ]
    if wrong:
        print(f"error: texts differ under {len(wrong)} templates: {', '.join(wrong)}", file=sys.stderr)
    return 1 if wrong else 0


def parts(text, found):
    """The parts of a text that consist of these bytes."""
    data, lists = text.encode(), []
    for byte in sorted(found):
        if lists and lists[-1][1] == byte:
            lists[-1][1] += 1
        else:
            lists.append([byte, byte + 1])
    return [data[start:end].decode(errors="replace") for start, end in lists]


def table(rows):
    yield "| template | text exact | both refuse | only ours refuses | text differs | answers exact | except the prompt | answers differ | left out | no reference |\n"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
    sums = [0] * 9
    for name, row in rows.items():
        numbers = [row.exact, row.refused, row.alone, row.differ, row.same, row.header, row.other, row.left_out, row.unlike]
        sums = [a + b for a, b in zip(sums, numbers)]
        yield f"| {name} | " + " | ".join(str(number) if number else "" for number in numbers) + " |\n"
    yield f"| **{len(rows)}** | " + " | ".join(f"**{number}**" for number in sums) + " |\n"


if __name__ == "__main__":
    sys.exit(main())
