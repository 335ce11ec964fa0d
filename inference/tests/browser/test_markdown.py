"""What a model writes becomes text and harmless marks, never a script: whole, and split anywhere."""

import pytest

from inference.grounding.extract import extract
from inference.grounding.grounds import Source

pytestmark = pytest.mark.asyncio(loop_scope="session")

HOSTILE = [
    "<script>window.pwned = 1</script>",
    "<img src=x onerror='window.pwned = 1'>",
    "<svg onload='window.pwned = 1'><script>window.pwned = 1</script></svg>",
    "<svg><style><img src=x onerror=window.pwned=1></style></svg>",
    "<math><mtext><table><mglyph><style><img src=x onerror=window.pwned=1>",
    "<iframe srcdoc='<script>parent.pwned = 1</script>'></iframe>",
    "<details open ontoggle='window.pwned = 1'>x</details>",
    "<body onload='window.pwned = 1'><base href='https://evil.example/'>",
    "<form action='https://evil.example/'><button formaction='javascript:pwned=1'>Log in</button></form>",
    "<style>body { display: none }</style><link rel=stylesheet href='https://evil.example/x.css'>",
    "<meta http-equiv=refresh content='0;url=https://evil.example/'>",
    "<a href='javascript:window.pwned=1' onclick='window.pwned=1'>click</a>",
    "[click](javascript:window.pwned=1) [click](JaVaScRiPt&colon;window.pwned=1) [x](\x01javascript:pwned=1)",
    "[click](data:text/html;base64,PHNjcmlwdD5wd25lZD0xPC9zY3JpcHQ+) [v](vbscript:pwned) [r](/admin/logout/)",
    "![pixel](https://evil.example/pixel.png) ![x](data:image/svg+xml,<svg onload=pwned=1>)",
    "![x][ref]\n\n[ref]: https://evil.example/pixel.png 'onerror=pwned=1'",
    "```mermaid\ngraph TD\nA[<img src=x onerror=window.pwned=1>]\n```",
    '```"><img/src=x/onerror=window.pwned=1>\ncode\n```',
    "```html\n<script>window.pwned = 1</script>\n```",
    "<https://evil.example/\"onmouseover='pwned=1'> https://example.org/\"><script>pwned=1</script>",
    "| a |\n|---|\n| <img src=x onerror=window.pwned=1> |",
    "<p class='sidebar is-open' id='prompt' style='position:fixed' name='attributes'>covers the page</p>",
    "<br onclick='window.pwned=1'><BR/><br>",
]

PLACE = {"document": "d", "version": "v", "collection": "c", "title": "", "page": None}
PLACE |= {"start": 0, "end": 9, "score": 1.0}

SAFE_TAGS = {
    *("P", "BR", "STRONG", "EM", "DEL", "CODE", "PRE", "BLOCKQUOTE", "HR", "A", "H3", "H4", "H5", "H6"),
    *("UL", "OL", "LI", "TABLE", "THEAD", "TBODY", "TR", "TH", "TD", "DIV", "SPAN", "BUTTON"),
}
SAFE_ATTRIBUTES = {"class", "href", "rel", "target", "start", "align", "tabindex", "type", "aria-label"}
SAFE_ATTRIBUTES |= {"data-coloured"}

INSPECT = """(root) => {
  const elements = [...root.querySelectorAll("*")];
  return {
    tags: [...new Set(elements.map((element) => element.tagName.toUpperCase()))],
    attributes: [...new Set(elements.flatMap((element) => element.getAttributeNames()))],
    links: elements.filter((element) => element.hasAttribute("href")).map((a) => [a.href, a.rel, a.target]),
  };
}"""

# Feeds a text to the page's own renderer, cut in two at every place, as a stream would bring it.
SPLIT_EVERYWHERE = (
    """async (text) => {
  const { GrowingMarkdown, renderMarkdown } = await import("/static/js/markdown.js");
  const inspect = """
    + INSPECT
    + """;
  const whole = document.createElement("div");
  whole.append(renderMarkdown(text));
  const stage = document.createElement("div");
  document.body.append(stage);
  const seen = [];
  for (let cut = 0; cut <= text.length; cut += 1) {
    const growing = new GrowingMarkdown(stage);
    growing.update(text.slice(0, cut));
    seen.push(inspect(stage));
    growing.update(text);
    seen.push(inspect(stage));
    await growing.finish(text);
  }
  const end = stage.innerText;
  document.body.append(whole);
  const same = end === whole.innerText;
  stage.remove();
  whole.remove();
  return { seen, same, pwned: window.pwned ?? null };
}"""
)


def assert_harmless(found: dict[str, list]) -> None:
    assert set(found["tags"]) <= SAFE_TAGS
    assert set(found["attributes"]) <= SAFE_ATTRIBUTES
    for address, rel, target in found["links"]:
        assert address.startswith(("https:", "http:", "mailto:"))
        assert (rel, target) == ("noopener noreferrer nofollow", "_blank")


async def test_a_hostile_answer_stays_text(visit):
    visitor = await visit()
    await visitor.open()
    await visitor.ask_and_wait("\n\n".join(HOSTILE), "echo")

    body = visitor.answer.locator(".message-body")
    assert_harmless(await body.evaluate(INSPECT))
    await visitor.page.reload()
    await body.locator("code").first.wait_for()
    assert_harmless(await body.evaluate(INSPECT))
    assert await visitor.page.evaluate("window.pwned ?? null") is None
    assert "<script>window.pwned = 1</script>" in await visitor.answer_text()


async def test_no_split_makes_it_a_script(visit):
    visitor = await visit()
    await visitor.open()
    for hostile in HOSTILE:
        result = await visitor.page.evaluate(SPLIT_EVERYWHERE, hostile)
        assert result["pwned"] is None, hostile
        assert result["same"], hostile
        for found in result["seen"]:
            assert_harmless(found)


QUOTED = (
    "The fox is safe [2] \\\\[2] &#91;2] ![x](http://evil.example/p.png), [here](http://evil.example), "
    "<b>x</b>, <http://evil.example>, www.evil.example, a@evil.example, *a* _b_ `c` ~d~, c_d_e and C:\\dir"
)

# Renders an answer as the page does, below which two sources are listed.
RENDER_WITH_SOURCES = """async (text) => {
  const { renderMarkdown } = await import("/static/js/markdown.js");
  const { linkCitations } = await import("/static/js/chat/citations.js");
  const section = document.createElement("section");
  section.innerHTML = [1, 2].map((n) =>
    `<li class="source" value="${n}"><a class="source-link" href="/documents/${n}/">${n}</a></li>`).join("");
  const fragment = renderMarkdown(text);
  linkCitations(fragment, section);
  const answer = document.createElement("div");
  answer.append(fragment);
  const elements = [...answer.querySelectorAll(":not(p)")];
  const shown = answer.textContent.replaceAll("\u2060", "").trim();
  return [shown, elements.map((one) => `${one.tagName} ${one.textContent}`)];
}"""


async def test_what_an_extract_quotes_is_text(visit):
    """Its only link is the citation that we have written."""
    visitor = await visit()
    await visitor.open()
    source = Source(**PLACE, text=QUOTED)

    text, elements = await visitor.page.evaluate(
        RENDER_WITH_SOURCES, "".join(extract("fox", [source], most=1))
    )

    assert text == f"“{QUOTED}” [1]"
    assert elements == ["A 1"]


ORDINARY = """# Title

Text with **bold**, *soft* and `code`.

1. one
2. two

   more of two
3. three

- a

- b
  - c

> quote

| x | y |
|--:|---|
| 1 | <br>2 |

```python
print("hi")
```

[ref][r] and https://example.org.

[r]: https://example.org/r
"""

GROW = """async ({ text, step }) => {
  const { GrowingMarkdown, renderMarkdown } = await import("/static/js/markdown.js");
  const stage = document.createElement("div");
  const growing = new GrowingMarkdown(stage);
  let added = 0;
  const observer = new MutationObserver((records) => {
    const nodes = records.flatMap((record) => [...record.addedNodes]);
    added += nodes.filter((node) => node.nodeType === Node.ELEMENT_NODE).length;
  });
  observer.observe(stage, { childList: true, subtree: true });
  let steps = 0;
  for (let end = step; end < text.length + step; end += step) {
    growing.update(text.slice(0, end));
    steps += 1;
  }
  await new Promise((resolve) => setTimeout(resolve));
  await growing.finish(text);
  const whole = document.createElement("div");
  whole.append(renderMarkdown(text));
  const strip = (html) => html.replace(/<span class="hljs[^>]*>|<\\/span>| data-coloured=""/g, "");
  return { added, steps, same: strip(stage.innerHTML) === strip(whole.innerHTML) };
}"""


@pytest.mark.parametrize("step", [1, 7])
async def test_growing_ends_as_the_whole(visit, step):
    visitor = await visit()
    await visitor.open()
    result = await visitor.page.evaluate(GROW, {"text": ORDINARY, "step": step})
    assert result["same"]


async def test_a_piece_of_a_long_answer_renders_only_the_end(visit):
    visitor = await visit()
    await visitor.open()
    paragraphs = 200
    text = "".join(f"Paragraph {number} of the answer.\n\n" for number in range(paragraphs))
    result = await visitor.page.evaluate(GROW, {"text": text, "step": 10})
    # Each step shows at most the two open blocks and the ones it has settled, however many stand above.
    assert result["added"] <= 3 * result["steps"] + 2 * paragraphs


async def test_markdown_has_the_marks_of_a_chat(visit):
    visitor = await visit(permissions=["clipboard-read", "clipboard-write"])
    await visitor.open()
    await visitor.ask_and_wait(ORDINARY, "echo")
    body = visitor.answer.locator(".message-body")

    assert await body.locator("h3").inner_text() == "Title"
    assert await body.locator("ol li").count() == 3
    assert await body.locator("td[align=right]").inner_text() == "1"
    assert await body.locator(".code-header span").inner_text() == "python"
    await body.locator(".hljs-string").wait_for()
    assert await body.locator("a").first.get_attribute("href") == "https://example.org/r"
    await body.locator(".code-copy").click()
    assert await visitor.page.evaluate("navigator.clipboard.readText()") == 'print("hi")\n'
    await visitor.answer.locator(".message-copy").click()
    assert (await visitor.page.evaluate("navigator.clipboard.readText()")).strip() == ORDINARY.strip()
