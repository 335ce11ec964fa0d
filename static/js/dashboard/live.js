// Keeps the page true while somebody looks at it: every few seconds it takes over what the site tells now.

import { Room } from "../documents/room.js";
import { show } from "./charts.js";

const WAIT = 5_000; // milliseconds
const LONGEST_WAIT = 60_000; // while the site does not answer

class Live {
  #element = document.querySelector("#live");
  #room = new Room();
  #wait = WAIT;
  #timer = null;

  constructor() {
    if (this.#element?.dataset.isLive !== "true") return;
    this.#later();
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "visible") this.#later(100);
    });
  }

  #later(wait = this.#wait) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#look(), wait);
  }

  async #look() {
    if (document.visibilityState !== "visible") return; // the next look is when it is seen again
    const wait = this.#room.enter();
    if (wait) return this.#later(wait);
    const answer = await fetch(this.#element.dataset.address, { credentials: "same-origin" }).catch(() => null);
    this.#room.read((name) => answer?.headers.get(name) ?? null);
    // Signed out, or no operator any more: the page itself says so.
    if (answer?.redirected || answer?.status === 403) return location.reload();
    if (answer?.ok) this.#take(await answer.json());
    document.querySelector("#stale").hidden = Boolean(answer?.ok);
    this.#wait = answer?.ok ? WAIT : Math.min(this.#wait * 2, LONGEST_WAIT);
    this.#later();
  }

  #take({ parts, ...drawn }) {
    for (const [name, html] of Object.entries(parts)) this.#update(document.querySelector(`[data-part="${name}"]`), html);
    show(drawn);
  }

  // The site has made this HTML, with all that is foreign in it escaped, as in the page itself.
  #update(part, html) {
    if (!part || part.contains(document.activeElement)) return;
    const holder = document.createElement("template");
    holder.innerHTML = html;
    const fresh = document.createElement(part.tagName);
    fresh.append(holder.content);
    if (fresh.innerHTML !== part.innerHTML) part.replaceChildren(...fresh.childNodes);
  }
}

new Live();
