// The one place where a model's text becomes DOM. Everything that leaves here went through DOMPurify
// with a short list of allowed tags; raw HTML in an answer is shown as the text it is.

import { Lexer, Marked } from "../vendor/marked-18.2.1/marked.esm.js";
import DOMPurify from "../vendor/dompurify-3.4.18/purify.es.mjs";

const SCHEMES = /^(?:https?:|mailto:)/i;
const HIGHLIGHT_LIMIT = 20_000; // characters; longer blocks stay plain, because colouring them blocks the page

const ALLOWED = {
  ALLOWED_TAGS: [
    "p", "br", "strong", "em", "del", "code", "pre", "blockquote", "hr", "a",
    "h3", "h4", "h5", "h6", "ul", "ol", "li", "table", "thead", "tbody", "tr", "th", "td",
  ],
  ALLOWED_ATTR: ["href", "start", "align", "class"],
  ALLOWED_URI_REGEXP: SCHEMES,
  ADD_URI_SAFE_ATTR: ["align", "start"], // else their values would have to look like addresses
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};
const ALLOWED_IN_CODE = { ALLOWED_TAGS: ["span"], ALLOWED_ATTR: ["class"], RETURN_DOM_FRAGMENT: true };

function escapeHtml(text) {
  const entities = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
  return text.replace(/[&<>"']/g, (character) => entities[character]);
}

const marked = new Marked({
  gfm: true,
  renderer: {
    // Models write <br> inside table cells; any other tag is shown, not obeyed.
    html({ text }) {
      return /^<br\s*\/?>$/i.test(text.trim()) ? "<br>" : escapeHtml(text);
    },
    // An image would be fetched from its host the moment it is shown; a link waits for a click.
    image({ href, text }) {
      return `<a href="${escapeHtml(href)}">${escapeHtml(text || href)}</a>`;
    },
    // The page's own headings are h1 and h2.
    heading({ tokens, depth }) {
      const level = Math.min(depth + 2, 6);
      return `<h${level}>${this.parser.parseInline(tokens)}</h${level}>\n`;
    },
    // An escaped bracket opens no citation (chat/citations.js): a word joiner, which nobody sees, says so.
    text({ type, text }) {
      return type === "escape" && text === "[" ? "[\u2060" : false;
    },
    checkbox({ checked }) {
      return checked ? "☑ " : "☐ ";
    },
  },
});

/** A DocumentFragment of `text`, safe to insert. */
export function renderMarkdown(text) {
  return clean(marked.parse(text));
}

function clean(html) {
  const fragment = DOMPurify.sanitize(html, ALLOWED);
  for (const link of fragment.querySelectorAll("a")) secureLink(link);
  for (const element of fragment.querySelectorAll("[class]")) {
    // Only marked's own language mark may stay: other classes would borrow the page's looks.
    if (!/^language-[\w+#.-]+$/.test(element.className)) element.removeAttribute("class");
  }
  for (const pre of fragment.querySelectorAll("pre")) frameCode(pre);
  for (const table of fragment.querySelectorAll("table")) frameTable(table);
  return fragment;
}

function secureLink(link) {
  if (!link.hasAttribute("href")) return;
  link.rel = "noopener noreferrer nofollow";
  link.target = "_blank";
}

function frameTable(table) {
  const frame = document.createElement("div");
  frame.className = "table-frame";
  frame.tabIndex = 0;
  table.replaceWith(frame);
  frame.append(table);
}

function frameCode(pre) {
  const code = pre.querySelector("code");
  if (!code) return;
  const language = code.className.replace("language-", "");
  const frame = document.createElement("div");
  frame.className = "code-frame";
  const header = document.createElement("div");
  header.className = "code-header";
  const label = document.createElement("span");
  label.textContent = language;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "code-copy";
  button.textContent = gettext("Copy");
  button.setAttribute("aria-label", gettext("Copy code"));
  header.append(label, button);
  pre.tabIndex = 0;
  pre.replaceWith(frame);
  frame.append(header, pre);
}

/** Colour the code blocks below `element`. Loads the highlighter when the first one needs it. */
export async function highlightCode(element) {
  const blocks = [...element.querySelectorAll("pre > code[class^='language-']:not([data-coloured])")];
  if (!blocks.length) return;
  const { highlight } = await import("./highlight.js");
  for (const code of blocks) {
    code.dataset.coloured = "";
    if (code.textContent.length > HIGHLIGHT_LIMIT) continue;
    const html = highlight(code.textContent, code.className.replace("language-", "").toLowerCase());
    if (html !== null) code.replaceChildren(DOMPurify.sanitize(html, ALLOWED_IN_CODE));
  }
}

// A block is settled when two others follow it. One would not do: after a list, the "2" of a coming
// "2. …" is a paragraph until its full stop arrives.
const OPEN_BLOCKS = 2;

/**
 * Markdown that grows. Settled blocks are rendered once; only the open end is rendered again, so
 * that a long answer costs no more per piece than a short one.
 */
export class GrowingMarkdown {
  #element;
  #open = document.createElement("div");
  #settledText = "";
  #decorate;

  /** `decorate(fragment)` may add to what is rendered, before it is shown. */
  constructor(element, { decorate = () => {} } = {}) {
    this.#element = element;
    this.#decorate = decorate;
    this.#open.className = "open-blocks";
    this.#element.replaceChildren(this.#open);
  }

  /** Show `text`, which must begin with what the last call showed. */
  update(text) {
    const source = text.replace(/\r\n?/g, "\n");
    const tail = source.slice(this.#settledText.length);
    const settled = settledLength(tail);
    if (settled) {
      this.#open.before(this.#render(tail.slice(0, settled)));
      this.#settledText += tail.slice(0, settled);
    }
    this.#open.replaceChildren(this.#render(tail.slice(settled)));
    highlightCode(this.#element);
  }

  /** Render the whole text once more: a reload shows exactly this. */
  finish(text) {
    this.#element.replaceChildren(this.#render(text));
    return highlightCode(this.#element);
  }

  #render(text) {
    const fragment = renderMarkdown(text);
    this.#decorate(fragment);
    return fragment;
  }
}

function settledLength(source) {
  const tokens = Lexer.lex(source, { gfm: true });
  let open = OPEN_BLOCKS;
  let end = tokens.length;
  while (end > 0 && open > 0) {
    end -= 1;
    if (tokens[end].type !== "space") open -= 1;
  }
  const settled = tokens.slice(0, end).map((token) => token.raw).join("");
  // The lexer's pieces are slices of its source; should one ever not be, nothing is settled.
  return source.startsWith(settled) ? settled.length : 0;
}
