// The list of messages: which there are, and where the reader is in it.

import { Message } from "./message.js";

const NEAR_THE_END = 80; // pixels; closer than this the reader counts as following along
const RENDER_AT_ONCE = 20; // messages at the end; those above get their Markdown when they come near

export class Thread {
  #scroller;
  #list;
  #jump;
  #messages;
  #following = true;

  constructor(scroller) {
    this.#scroller = scroller;
    this.#list = scroller.querySelector(".thread");
    this.#jump = document.querySelector(".jump");
    this.#messages = [...this.#list.querySelectorAll(".message")].map((element) => new Message(element));
    this.#renderStored();
    this.#watchScrolling();
  }

  get last() { return this.#messages.at(-1) ?? null; }
  get isEmpty() { return this.#messages.length === 0; }

  of(element) {
    return this.#messages.find((message) => message.element === element.closest(".message"));
  }

  before(message) {
    return this.#messages[this.#messages.indexOf(message) - 1] ?? null;
  }

  append(message) {
    this.#messages.push(message);
    this.#list.append(message.element);
  }

  /** Remove `message` and all that follow it. */
  cut(message) {
    for (const removed of this.#messages.splice(this.#messages.indexOf(message))) removed.element.remove();
  }

  scrollToEnd() {
    this.#following = true;
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
  }

  #notePosition() {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroller;
    this.#following = scrollHeight - scrollTop - clientHeight < NEAR_THE_END;
    this.#jump.hidden = this.#following;
  }

  #renderStored() {
    for (const message of this.#messages.slice(-RENDER_AT_ONCE)) message.render();
    const older = this.#messages.slice(0, -RENDER_AT_ONCE);
    const observer = new IntersectionObserver(
      (entries) => {
        for (const entry of entries.filter(({ isIntersecting }) => isIntersecting)) {
          this.of(entry.target).render();
          observer.unobserve(entry.target);
        }
      },
      { root: this.#scroller, rootMargin: "1000px" },
    );
    for (const message of older) observer.observe(message.element);
    addEventListener("beforeprint", () => older.forEach((message) => message.render()));
  }

  #watchScrolling() {
    this.#scroller.addEventListener("scroll", () => this.#notePosition(), { passive: true });
    this.#jump.addEventListener("click", () => this.scrollToEnd());
    new ResizeObserver(() => (this.#following ? this.scrollToEnd() : this.#notePosition())).observe(this.#list);
    if (location.hash.startsWith("#message-")) this.#following = false;
    else this.scrollToEnd();
  }
}
