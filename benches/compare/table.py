"""The table as Markdown."""

import datetime
import os
import shlex
import sys


def markdown(lab, given, lines):
    """A heading, the rows that were measured, and how."""
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    today = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    machine, ours = lab.about
    text = [
        f"{machine}; {today}; load average at the end {load}.",
        f"Ours: {ours}. Rival: {lab.versions}. {given.threads} threads, {given.rounds} rounds.",
        "",
        "| figure | against | ours | theirs | ratio | goal | reached | |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for figure, line in lines:
        head = f"| {figure.title} | {figure.against} |"
        if "ratio" in line:
            reached = "yes" if line["reached"] else "**no**"
            text.append(f"{head} {line['ours']} | {line['theirs']} | {line['ratio']:.2f} | {line['goal']} | {reached} | {line['note']} |")
        else:
            (what, reason), = line.items()
            reason = reason.replace("|", "\\|").replace("\n", " ")
            text.append(f"{head} | | | {figure.goal_text()} | {what} | {reason} |")
    text += ["", "```sh", shlex.join(["benches/compare/run", *sys.argv[1:]]), "```", ""]
    return "\n".join(text)
