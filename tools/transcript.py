#!/usr/bin/env python3
"""Runs rfgraph with its demo model and writes the terminal as a picture:

    python3 tools/transcript.py target/release/rfgraph docs/pictures/first-answer.svg

Everything shown is the program's output on standard output, wrapped and otherwise unchanged.
"""

import html
import subprocess
import sys
import textwrap

COMMANDS = [
    ["run", "-p", "What is 347 + 285?"],
    ["run", "-p", "Tell me a story."],
]
COLUMNS, LINE, CHARACTER, MARGIN = 88, 20, 8.43, 18


def lines_of(binary):
    """Pairs of a class and a line."""
    for command in COMMANDS:
        shown = " ".join(f'"{part}"' if " " in part else part for part in command)
        yield "command", f"$ rfgraph {shown}"
        result = subprocess.run([binary, *command], capture_output=True, text=True, check=True)
        for line in result.stdout.splitlines():
            for part in textwrap.wrap(line, COLUMNS) or [""]:
                yield "answer", part
        yield "answer", ""


def picture(lines):
    width = int(COLUMNS * CHARACTER) + 2 * MARGIN
    height = LINE * len(lines) + 2 * MARGIN
    rows = "\n".join(
        f'<text class="{kind}" x="{MARGIN}" y="{MARGIN + LINE * (row + 1) - 6}">{html.escape(text)}</text>'
        for row, (kind, text) in enumerate(lines)
        if text
    )
    return f"""<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">
<title>rfgraph answers with its demo model</title>
<style>
text {{ font: 14px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; white-space: pre }}
.command {{ fill: #8fd18f }}
.answer {{ fill: #e6e6e6 }}
</style>
<rect width="{width}" height="{height}" rx="8" fill="#1e2127"/>
{rows}
</svg>
"""


def main():
    binary, target = sys.argv[1:]
    lines = list(lines_of(binary))
    while lines[-1][1] == "":
        lines.pop()
    with open(target, "w", encoding="utf-8") as file:
        file.write(picture(lines))


main()
