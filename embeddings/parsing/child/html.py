"""HTML: the article of a page where there is one, else all of its text. Nothing that it names is fetched."""

import re
from functools import cache
from typing import Any

from lxml import etree
from lxml import html as lxml_html

from . import plain
from .text import Blocks, Content, Unreadable

MOST_TAGS = 200_000
DECLARED = re.compile(rb"""<meta[^>]{0,200}charset\s*=\s*["']?\s*([\w.:-]{1,40})""", re.IGNORECASE)
DECLARED_AS_XML = re.compile(rb"""^\s*<\?xml[^>]{0,100}encoding\s*=\s*["']([\w.:-]{1,40})""")

UNREAD = frozenset(
    ("script", "style", "noscript", "template", "head", "svg", "iframe", "object", "button", "nav", "footer")
)
HEADINGS = frozenset(("h1", "h2", "h3", "h4", "h5", "h6"))
BLOCKS = HEADINGS.union(
    ("address", "article", "aside", "blockquote", "body", "caption", "dd", "details", "div", "dl", "dt"),
    ("fieldset", "figcaption", "figure", "form", "header", "hr", "li", "main", "ol", "p", "pre", "section"),
    ("summary", "table", "tr", "ul"),
)
BEFORE = {"br": "\n", "td": " | ", "th": " | ", "li": "- "}
SPACES = re.compile(" +")
MAYBE_HIDDEN = "//*[@hidden or @aria-hidden or @style]"
HIDDEN_STYLE = re.compile(r"(?:^|;)(?:display:none|visibility:(?:hidden|collapse))")
NOT_IN_STYLE = re.compile(r"\s|/\*.*?(?:\*/|\Z)", re.DOTALL)

MANY_LINKS = 15
"""Menus are made of links; a page with fewer of them is not searched for the article in it."""
MOSTLY_TEXT = 0.5
"""A page whose article is at least this part of its letters is kept whole, with its headings and its code."""


def prepare(data: bytes) -> None:
    plain.prepare(data)
    if _has_menus(data):
        _extractor()


def _has_menus(data: bytes) -> bool:
    return data.lower().count(b"<a ") >= MANY_LINKS


@cache
def _extractor() -> Any:
    """Half of what the child would take to start."""
    from trafilatura import bare_extraction

    return bare_extraction


def read(data: bytes) -> Content:
    if data.count(b"<") > MOST_TAGS:
        raise Unreadable("too_large")
    tree = _tree(plain.decode(data, declared=_declared(data)))
    title = " ".join(tree.findtext(".//title", "").split())
    whole = _whole(tree).page()
    article = _article(tree).page() if _has_menus(data) else whole
    is_mostly_menus = article.text and len(article.text) < MOSTLY_TEXT * len(whole.text)
    return Content([article if is_mostly_menus else whole], title=title)


def _declared(data: bytes) -> str:
    found = DECLARED_AS_XML.search(data[:1024]) or DECLARED.search(data[:4096])
    return found[1].decode("ascii", "ignore") if found else ""


def _tree(text: str) -> Any:
    parser = lxml_html.HTMLParser(
        encoding="utf-8", no_network=True, huge_tree=False, remove_comments=True, remove_pis=True
    )
    try:
        tree = lxml_html.document_fromstring(text.encode(), parser=parser)
    except (etree.ParserError, etree.XMLSyntaxError) as error:
        raise Unreadable("blank") from error
    # Nested too deeply: the rest of it was left out.
    if any(entry.type == etree.ErrorTypes.ERR_RESOURCE_LIMIT for entry in parser.error_log):
        raise Unreadable("too_large")
    _drop_hidden(tree)
    return tree


def _drop_hidden(tree: Any) -> None:
    """What people do not see is not for a model either: it may be there to tell it something else."""
    for element in filter(_is_hidden, tree.xpath(MAYBE_HIDDEN)):
        if element.getparent() is None:
            raise Unreadable("empty")
        element.drop_tree()


def _is_hidden(element: Any) -> bool:
    if element.get("hidden") is not None or element.get("aria-hidden", "").strip().lower() == "true":
        return True
    return bool(HIDDEN_STYLE.search(NOT_IN_STYLE.sub("", element.get("style", "").lower())))


def _article(tree: Any) -> Blocks:
    """What trafilatura takes for the text of the page, without its menus. It changes the tree."""
    found = _extractor()(
        tree, fast=True, favor_recall=True, include_comments=False, include_tables=True, with_metadata=False
    )
    body = getattr(found, "body", None)
    blocks = Blocks()
    for element in () if body is None else body:
        _add_article(blocks, element)
    return blocks


def _add_article(blocks: Blocks, element: Any) -> None:
    if element.tag == "table":
        for row in element.iter("row"):
            blocks.add(" | ".join(filter(None, (_words(cell) for cell in row.iter("cell")))))
    elif element.tag == "list":
        blocks.add("\n".join(f"- {_words(item)}" for item in element.iter("item")))
    else:
        blocks.add(_words(element), is_heading=element.tag == "head")


def _words(element: Any) -> str:
    return " ".join(" ".join(element.itertext()).split())


def _whole(tree: Any) -> Blocks:
    """The text of all elements that people see, a block to a paragraph."""
    text = _Text()
    for event, node in etree.iterwalk(tree, events=("start", "end")):
        name = node.tag if isinstance(node.tag, str) else ""
        if event == "start":
            text.start(name, node.text or "")
        else:
            text.end(name, node.tail or "")
    text.flush()
    return text.blocks


class _Text:
    """Makes paragraphs of elements as they pass."""

    def __init__(self) -> None:
        self.blocks = Blocks()
        self._parts: list[str] = []
        self._hidden = 0
        self._as_written = 0
        self._is_heading = False

    def start(self, name: str, text: str) -> None:
        if name in BLOCKS:
            self.flush()
            self._is_heading = name in HEADINGS
        self._hidden += name in UNREAD
        self._as_written += name == "pre"
        self._add(BEFORE.get(name, ""))
        self._add(self._spaced(text))

    def end(self, name: str, tail: str) -> None:
        if name in BLOCKS:
            self.flush()
        self._as_written -= name == "pre"
        self._hidden -= name in UNREAD
        self._add(self._spaced(tail))

    def flush(self) -> None:
        text = "".join(self._parts)
        if text.strip("-| \n"):
            self.blocks.add(SPACES.sub(" ", text).strip().removeprefix("| "), is_heading=self._is_heading)
        self._parts, self._is_heading = [], False

    def _spaced(self, text: str) -> str:
        # Those of code are to stay, so until NFKC they are spaces that do not break.
        return text.replace(" ", "\xa0") if self._as_written else " ".join(re.split(r"\s+", text))

    def _add(self, text: str) -> None:
        if text and not self._hidden:
            self._parts.append(text)
