// The passages that an answer was given: their list below it, and links from the [n] that the model wrote.
// The list in the page is the state: the server renders stored ones, and this file live ones, both from the
// same template. A bracket that was escaped in Markdown is none of the answer's own: an extract quotes it.

import { excerpt } from "./excerpts.js";

const CITATION = /\[\d{1,3}(?:\s*,\s*\d{1,3})*\]/g;

/** Fill an answer's list of sources. One without a text is of a document that is gone, or withheld from us. */
export function showSources(section, sources) {
  section.querySelector(".sources-list").replaceChildren(...sources.map(item));
  section.hidden = sources.length === 0;
}

/** Let each passage begin where the answer leans on it. */
export function showExcerpts(section, answer) {
  for (const source of section.querySelectorAll(".source:has(.source-link[href])")) {
    const text = source.querySelector(".source-text");
    // What was given is kept, because an answer may be shown more than once.
    text.dataset.whole ??= text.textContent;
    text.textContent = excerpt(text.dataset.whole, answer);
  }
}

function item(source) {
  const element = document.getElementById("source-template").content.firstElementChild.cloneNode(true);
  element.value = source.n;
  const link = element.querySelector(".source-link");
  link.textContent = source.title;
  if (source.text) link.href = addressOf(source);
  const page = element.querySelector(".source-page");
  page.textContent = source.page ? interpolate(gettext("page %(page)s"), { page: source.page }, true) : "";
  element.querySelector("meter").value = source.score;
  element.querySelector(".source-text").textContent = source.text || reasonOfNone(source);
  return element;
}

function reasonOfNone({ withheld }) {
  if (withheld) return gettext("You may no longer read this document.");
  return gettext("This document has been deleted or replaced.");
}

// Where the reader shows the passage, marked.
function addressOf({ document, version, page, start, end }) {
  const query = new URLSearchParams({ version, page: page ?? 1, start, end });
  return `/documents/${document}/?${query}#passage`;
}

/**
 * Make links of the citations in a piece of an answer: of numbers in brackets that a source in `section` has,
 * wherever they are text. Code is left as it is, and so is what is a link already.
 */
export function linkCitations(fragment, section) {
  const items = [...section.querySelectorAll(".source:has(.source-link[href])")];
  if (!items.length) return;
  const links = new Map(items.map((source) => [source.value, source.querySelector(".source-link")]));
  for (const node of textsOf(fragment)) {
    const parts = partsOf(node.data, links);
    if (parts.length > 1) node.replaceWith(...parts);
  }
}

function textsOf(fragment) {
  const walker = document.createTreeWalker(fragment, NodeFilter.SHOW_TEXT, (node) =>
    node.parentElement?.closest("a, code, pre") ? NodeFilter.FILTER_REJECT : NodeFilter.FILTER_ACCEPT,
  );
  const nodes = [];
  while (walker.nextNode()) nodes.push(walker.currentNode);
  return nodes;
}

// Text and links by turns; the brackets stay text, so that [1, 2] is two links.
function partsOf(text, links) {
  const parts = [];
  let end = 0;
  for (const bracket of text.matchAll(CITATION)) {
    for (const digits of bracket[0].matchAll(/\d+/g)) {
      const number = Number(digits[0]);
      if (!links.has(number)) continue;
      const start = bracket.index + digits.index;
      parts.push(text.slice(end, start), citation(number, links.get(number)));
      end = start + digits[0].length;
    }
  }
  return [...parts, text.slice(end)];
}

function citation(number, { href, textContent: title }) {
  const link = document.createElement("a");
  link.className = "citation";
  link.href = href;
  link.target = "_blank";
  link.rel = "noopener";
  link.textContent = number;
  link.title = title;
  link.setAttribute("aria-label", interpolate(gettext("Source %(number)s: %(title)s"), { number, title }, true));
  return link;
}
