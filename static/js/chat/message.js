// One message on the page. The server renders stored messages and this file live ones, both from
// the same template; the attributes of the element are the state, so both end up alike.

import { GrowingMarkdown } from "../markdown.js";
import { linkCitations, showExcerpts, showSources } from "./citations.js";

const RENDER_EVERY = 80; // milliseconds
const SHORTEST_MEASURED = 0.1; // seconds of writing from which a speed is shown
const RUNNING = ["queued", "streaming"];
const BROKEN = ["failed", "cut", "interrupted"];

export class Message {
  #element;
  #body;
  #sources;
  #text;
  #growing = null;
  #timer = null;

  constructor(element) {
    this.#element = element;
    this.#body = element.querySelector(".message-body");
    this.#sources = element.querySelector(".sources");
    this.#text = this.#body.textContent;
    this.#showState();
  }

  /** A new element for `data`, a message as the API gives it. */
  static create(data) {
    const template = document.getElementById("message-template");
    const element = template.content.firstElementChild.cloneNode(true);
    element.dataset.role = data.role;
    const author = data.role === "user" ? gettext("You") : gettext("Answer");
    element.querySelector(".message-author").textContent = author;
    element.querySelector(".message-body").textContent = data.content;
    const message = new Message(element);
    message.identify(data);
    if (data.generation) message.describe(fromGeneration(data.generation));
    if (data.generation?.grounding) message.ground(data.generation.grounding);
    return message;
  }

  get element() { return this.#element; }
  get id() { return this.#element.dataset.id; }
  get role() { return this.#element.dataset.role; }
  get text() { return this.#text; }
  get generation() { return this.#element.dataset.generation; }
  get isRunning() { return RUNNING.includes(this.#element.dataset.status); }

  get versions() {
    const links = [...this.#element.querySelectorAll(".message-versions a")];
    return links.length ? links.map((link) => link.dataset.id) : [this.id];
  }

  /** Give an element its row's id, as soon as the server has told it. */
  identify({ id }) {
    this.#element.dataset.id = id;
    this.#element.id = `message-${id}`;
  }

  /** Put this message beside the others that answer the same one. */
  showVersions(ids) {
    const nav = this.#element.querySelector(".message-versions");
    nav.replaceChildren(...ids.map((id, index) => this.#versionLink(id, index + 1)));
    nav.hidden = ids.length < 2;
  }

  #versionLink(id, number) {
    const link = document.createElement("a");
    link.href = `?at=${id}#message-${id}`;
    link.dataset.id = id;
    link.textContent = number;
    if (id === this.id) link.setAttribute("aria-current", "true");
    return link;
  }

  /** Show what the answer stands on in documents; numbers in brackets lead to its sources from now on. */
  ground({ answered, extract, sources }) {
    showSources(this.#sources, sources);
    const grounding = answered ? "passages" : "nothing";
    this.describe({ grounding: extract ? "extract" : grounding });
  }

  /** Replace the stored text by its Markdown. A question stays as it was typed. */
  render() {
    if (this.role !== "assistant" || this.isRunning || this.#body.dataset.rendered) return;
    this.#body.dataset.rendered = "true";
    this.#markdown.finish(this.#text);
    showExcerpts(this.#sources, this.#text);
  }

  /** Show the text of a running answer so far, at most every 80 ms. */
  grow(text) {
    this.#text = text;
    this.#timer ??= setTimeout(() => {
      this.#timer = null;
      this.#markdown.update(this.#text);
    }, RENDER_EVERY);
    if (this.#element.dataset.status === "queued") this.describe({ status: "streaming" });
  }

  get #markdown() {
    const decorate = (fragment) => linkCitations(fragment, this.#sources);
    this.#growing ??= new GrowingMarkdown(this.#body, { decorate });
    return this.#growing;
  }

  /** Show the whole text of an answer that has ended. */
  settle(text, facts) {
    clearTimeout(this.#timer);
    this.#text = text;
    this.describe(facts);
    this.render();
  }

  /** Put the focus here, where what had it is gone. */
  focus() {
    this.#element.tabIndex = -1;
    this.#element.focus({ preventScroll: true });
  }

  /** Merge `facts` about the generation (see `fromGeneration`) into what is shown. */
  describe(facts) {
    for (const [name, value] of Object.entries(facts)) {
      if (value !== null && value !== undefined && value !== "") this.#element.dataset[name] = value;
    }
    this.#showState();
  }

  #showState() {
    const { dataset } = this.#element;
    const note = this.#element.querySelector(".message-note");
    note.textContent = notes(dataset).join(" ");
    note.hidden = !note.textContent;
    note.classList.toggle("is-error", BROKEN.includes(dataset.status));
    this.#element.querySelector(".message-retry").hidden = !BROKEN.includes(dataset.status);
    this.#element.querySelector(".message-facts").textContent = this.isRunning ? "" : figures(dataset).join("\u00a0· ");
    this.#element.setAttribute("aria-busy", String(this.isRunning));
  }
}

/** The facts of a generation as the API gives it, under the names of the element's attributes. */
export function fromGeneration(generation) {
  return {
    generation: generation.id,
    status: generation.status,
    model: generation.model,
    requestedModel: generation.requested_model,
    error: generation.error?.message,
    ...fromFinished(generation),
  };
}

/** The facts of a `started` event: who answers, perhaps in place of another one. */
export function fromStarted(event) {
  return { model: event.model, requestedModel: event.requested_model, cache: event.cache };
}

/** The facts of a `finished` event. */
export function fromFinished(event) {
  return {
    cache: event.cache,
    finishReason: event.finish_reason,
    inputTokens: event.usage?.input_tokens,
    outputTokens: event.usage?.output_tokens,
    latencyMs: event.latency_ms,
    firstTokenMs: event.time_to_first_token_ms,
    contextTrimmed: event.context_trimmed ? "true" : "",
    droppedParameters: event.dropped_parameters?.join(", "),
  };
}

// Where a curator's answer is told, the documents answer themselves, or have no answer, no model is asked; the
// page says so itself.
function isOfModel({ cache, grounding }) {
  return cache !== "verified" && grounding !== "extract" && grounding !== "nothing";
}

function notes(facts) {
  const lines = [];
  if (facts.requestedModel && isOfModel(facts)) {
    const names = { model: facts.model, requested: facts.requestedModel };
    lines.push(interpolate(gettext("Answered by %(model)s in place of %(requested)s."), names, true));
  }
  if (BROKEN.includes(facts.status)) lines.push(facts.error || gettext("The answer broke off."));
  if (facts.status === "stopped") lines.push(gettext("Stopped."));
  if (facts.finishReason === "length") lines.push(gettext("The answer reached its length limit."));
  if (facts.contextTrimmed === "true") {
    lines.push(gettext("Older turns were left out, because the conversation is longer than the model's window."));
  }
  if (facts.droppedParameters) {
    lines.push(interpolate(gettext("This model does not take: %(names)s."), { names: facts.droppedParameters }, true));
  }
  return lines;
}

function figures(facts) {
  const parts = isOfModel(facts) ? [facts.model] : [];
  if (facts.inputTokens && facts.outputTokens) {
    const counts = { input: number(facts.inputTokens), output: number(facts.outputTokens) };
    parts.push(interpolate(gettext("%(input)s tokens in, %(output)s out"), counts, true));
  }
  if (facts.latencyMs) {
    parts.push(interpolate(gettext("%(seconds)s s"), { seconds: number(facts.latencyMs / 1000, facts.latencyMs < 1000 ? 2 : 1) }, true));
  }
  const speed = tokensPerSecond(facts);
  if (speed) parts.push(interpolate(gettext("%(speed)s tokens/s"), { speed: number(speed) }, true));
  return parts.filter(Boolean).map((part) => part.replaceAll(" ", "\u00a0")); // lines break between facts only
}

// The first token pays for reading the prompt, so it says nothing about the speed of writing; and
// a few tokens within the precision of the clock say nothing at all.
function tokensPerSecond({ outputTokens, latencyMs, firstTokenMs }) {
  const seconds = (latencyMs - firstTokenMs) / 1000;
  return seconds >= SHORTEST_MEASURED ? (outputTokens - 1) / seconds : null;
}

function number(value, digits = 0) {
  return Number(value).toLocaleString(document.documentElement.lang, {
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  });
}
