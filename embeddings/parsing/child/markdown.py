"""Markdown stays as it is written; its headings are found in it."""

import re

from .plain import decode, prepare
from .text import MOST_HEADINGS, Content, Page, clean, one_line

HEADING = re.compile(r" {0,3}#{1,6}[ \t]+(\S.*)")
AFTER_HEADING = " \t#"
FENCE = re.compile(r" {0,3}(```|~~~)")
UNDERLINE = re.compile(r" {0,3}(=+|-{2,})[ \t]*")

__all__ = ["prepare", "read"]


def read(data: bytes) -> Content:
    text = clean(decode(data))
    headings = find_headings(text)
    return Content([Page(1, text, headings)], title=headings[0][1] if headings else "")


def find_headings(text: str) -> list[tuple[int, str]]:
    """Lines with # before them, or underlined; not those of a block of code."""
    found: list[tuple[int, str]] = []
    fence, offset, above = "", 0, ""
    for line in text.split("\n"):
        mark = FENCE.match(line)
        # Cut off first, not by the pattern: that would look for the end of each of many spaces again.
        heading = HEADING.fullmatch(line.rstrip(AFTER_HEADING))
        if mark and fence in ("", mark[1]):
            fence = "" if fence else mark[1]
        elif not fence and heading:
            found.append((offset, one_line(heading[1])))
        elif not fence and above.strip() and len(above) < 200 and UNDERLINE.fullmatch(line):
            found.append((offset - len(above) - 1, one_line(above)))
        above = "" if mark or heading else line
        offset += len(line) + 1
    return found[:MOST_HEADINGS]
