// What moves on a page of training: while something is under way the page asks for itself again, and takes over
// its parts marked `moving`. So the server alone says how things stand.

import { Room } from "../documents/room.js";
import { showTimes } from "../times.js";

const SHORTEST_WAIT = 3_000; // milliseconds
const LONGEST_WAIT = 10_000;
const STRETCH = 1.3; // while nothing changes

class MovingPage {
  #room = new Room();
  #wait = SHORTEST_WAIT;
  #timer = null;

  constructor() {
    if (this.#isMoving) this.#later();
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "visible" && this.#isMoving) this.#later(0.1);
    });
  }

  get #isMoving() { return document.querySelector('.moving[data-moving="true"]') !== null; }

  #later(seconds = this.#wait / 1000) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#refresh(), seconds * 1000);
  }

  async #refresh() {
    if (document.visibilityState !== "visible") return; // the next look is when it is seen again
    const wait = this.#room.enter();
    if (wait) return this.#later(wait / 1000);
    const answer = await fetch(location.href, { credentials: "same-origin" }).catch(() => null);
    this.#room.read((name) => answer?.headers.get(name) ?? null);
    if (answer?.redirected) return location.reload(); // to the sign-in, which has ended
    if (answer?.ok) this.#takeOver(new DOMParser().parseFromString(await answer.text(), "text/html"));
    if (this.#isMoving) this.#later(Number(answer?.headers.get("Retry-After")) || this.#wait / 1000);
  }

  #takeOver(page) {
    showTimes(page);
    const parts = [...document.querySelectorAll(".moving")];
    const fresh = [...page.querySelectorAll(".moving")];
    // A run that has ended has other parts: what was typed into a form there is nothing yet.
    const state = (one) => one.querySelector(".curves")?.dataset.status;
    if (parts.length !== fresh.length || state(document) !== state(page)) return location.reload();
    let changed = false;
    parts.forEach((part, index) => { changed = this.#update(part, fresh[index]) || changed; });
    this.#wait = changed ? SHORTEST_WAIT : Math.min(this.#wait * STRETCH, LONGEST_WAIT);
  }

  #update(part, fresh) {
    if (part.dataset.moving) part.dataset.moving = fresh.dataset.moving;
    part.hidden = fresh.hidden;
    if (part.innerHTML === fresh.innerHTML) return false;
    const scrolled = part.querySelector(".table-frame")?.scrollTop ?? 0;
    // What somebody is just using keeps still, and comes over with the next look.
    if (part.contains(document.activeElement) && document.activeElement.matches("input, select, button")) return false;
    const open = [...part.querySelectorAll("details")].map((one) => one.open);
    const picked = new Set([...part.querySelectorAll("input:checked")].map((one) => one.value));
    part.replaceChildren(...fresh.childNodes);
    part.querySelectorAll("details").forEach((one, index) => { one.open ||= open[index] ?? false; });
    part.querySelectorAll("input[type=checkbox]").forEach((one) => { one.checked = picked.has(one.value); });
    const frame = part.querySelector(".table-frame");
    if (frame) frame.scrollTop = scrolled;
    return true;
  }
}

new MovingPage();
