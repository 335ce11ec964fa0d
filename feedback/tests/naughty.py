"""Texts that have broken sites before: none of them may be more than text anywhere."""

import html
import re

SCRIPT = "<script>alert('xss')</script>"

# Each runs in a page that takes it for markup, an address, a template or a formula.
HOSTILE = [
    SCRIPT,
    "<img src=x onerror=alert(1)>",
    "<img src=x onerror=alert(1)",
    "<svg/onload=alert(1)>",
    "<svg><script>alert(1)<1>alert(2)</script>",
    '"><script>alert(1)</script>',
    "'><script>alert(1);</script x='",
    "--><script>alert(1)</script>",
    "</textarea><script>alert(1)</script>",
    "</title></template><img src=x onerror=alert(1)>",
    "<sc<script>ript>alert(1)</sc</script>ript>",
    "<<script>script>alert(1)//<</script>",
    "<ScRiPt\n>alert(1)</sCrIpT >",
    "<x onclick=alert(1) tabindex=0>here</x>",
    "<details open ontoggle=alert(1)>",
    "<iframe srcdoc='<script>parent.alert(1)</script>'></iframe>",
    "<a href='javascript:alert(1)'>here</a>",
    "[here](javascript:alert(1))",
    "[here](JaVaScRiPt&#58;alert(1))",
    '![x](x" onerror="alert(1))',
    "<!--[if]><script>alert(1)</script -->",
    "<!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><x>&e;</x>",
    "<style>@import'javascript:alert(1)';*{display:none}</style>",
    "<meta http-equiv=refresh content='0;url=javascript:alert(1)'>",
    "<base href='//example.org/'>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;script&#62;alert(1)&#60;/script&#62;",
    "`<img src=x onerror=alert(1)>`",
    "```html\n<script>alert(1)</script>\n```",
    "```\n</code></pre><script>alert(1)</script>\n```",
    "{{ 7*7 }} {% debug %} ${alert(1)} #{7*7}",
    "=cmd|' /C calc'!A0",
    "@SUM(1+1)*cmd|' /C calc'!A0",
    "'; DROP TABLE feedback_feedback; --",
    "%s%n %(x)s {0} {x!r} \\x00 \\u0000",
    "../../../../etc/passwd",
    "__proto__ constructor toString",
]

# Each is easily damaged on the way.
FRAGILE = [
    "0",
    "null",
    "NaN",
    "undefined",
    "true",
    "1e309",
    "Ω≈ç√∫˜µ≤≥÷",
    "田中さんにあげて下さい",
    "مُنَاقَشَةُ سُبُلِ اِسْتِخْدَامِ اللُّغَةِ",
    "\u202eright to left\u202c",
    "Z\u0351\u036b\u0343\u036a\u0302\u036b\u033d\u034f\u0334algo",
    "👩‍👩‍👧‍👦 ✋🏿 🇺🇸",
    "\u200b\u200d\ufeff|",
    "ﬁ ½ ² Ⅷ",
    "x<y and z>w",
    "a < b && c > d",
    "List<String> of <T>",
    "#include <stdio.h>",
    "if (a <= b) { c <<= 2; }",
    "AT&T &amp; R&D &copy &nbsp;",
    "C:\\new\\table",
    "two  spaces\tand a tab\nand a line",
]

NO_CHARACTERS = [
    "\x00",
    "a\x01b",
    "\x0b",
    "\x1b[31mred\x1b[0m",
    "back\x08",
    "\x7f",
    "\x85",
    "\x9f",
    "\ufffe",
    "\U0001ffff",
    "\ufdd0",
]

_TAG = re.compile(
    r"<(/?(script|img|svg|iframe|a|style|meta|base|textarea|template|title|details)\b|[!?])", re.I
)
_CODE = re.compile(r"```.*?```|`[^`\n]+`", re.S)


def has_markup(text):
    """Whether a page that took `text`, but for the code in it, for HTML would find an element of it."""
    return bool(_TAG.search(_CODE.sub("", text)))


def as_read(text):
    """What somebody reads in `text`, whose signs may stand as entities."""
    return html.unescape(text)
