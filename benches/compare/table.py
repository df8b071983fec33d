"""The table as Markdown."""

import datetime
import shlex
import sys

from lab import NOISE


def markdown(lab, given, lines):
    """A heading, the rows that were measured, and the command."""
    others = f"other work took {lab.others:.0%} of the processors at most"
    if lab.others > NOISE:
        others = f"**not quiet: {others}, so do not use these figures**"
    today = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    machine, ours = lab.about
    text = [
        f"{machine}; {today}; {others}.",
        f"Ours: {ours}. Rival: {lab.versions}. {given.threads} threads, {given.rounds} rounds.",
        "",
        "| figure | against | ours | theirs | ratio | goal | reached | |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for figure, line in lines:
        head = f"| {figure.title} | {figure.against} |"
        if "ratio" in line:
            reached = {True: "yes", False: "**no**", None: ""}[line["reached"]]
            ratio = "" if line["ratio"] is None else f"{line['ratio']:.3g}"
            text.append(f"{head} {line['ours']} | {line['theirs']} | {ratio} | {line['goal']} | {reached} | {line['note']} |")
        else:
            (what, reason), = line.items()
            reason = reason.replace("|", "\\|").replace("\n", " ")
            text.append(f"{head} | | | {figure.goal_text()} | {what} | {reason} |")
    text += ["", "```sh", shlex.join(["benches/compare/run", *sys.argv[1:]]), "```", ""]
    return "\n".join(text)
