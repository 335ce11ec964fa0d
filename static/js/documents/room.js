// Leaves room for the person: the site takes only so many requests of somebody in a while, and says with
// each answer how many are left. What pages ask by themselves stops before the last third of them.

const KEPT = 1 / 3;
const LONGEST_EXTRA = 60; // seconds
const PATIENCE = 5_000; // milliseconds in which an answer is expected
const KEY = "room-opens-at";

export class Room {
  #ownOpensAt = 0;

  /** Milliseconds to wait before the next request; 0 where it may be sent now, and then it counts as sent. */
  enter() {
    const opensAt = this.#opensAt;
    const wait = opensAt - Date.now();
    if (wait > 0) return wait;
    // Of all that waited for this moment one goes; its answer says when the next one may.
    if (opensAt) this.#opensAt = Date.now() + PATIENCE;
    return 0;
  }

  /** Look at an answer; `header(name)` is the value of one of its headers, or null. */
  read(header) {
    const [limit, left, reset] = ["Limit", "Remaining", "Reset"].map((name) => Number(header(`X-RateLimit-${name}`)));
    if (!limit) return;
    const lacking = limit * KEPT - left;
    // In `reset` seconds one more is left, so who lacks many waits longer.
    const seconds = reset + Math.min(lacking, LONGEST_EXTRA);
    this.#opensAt = lacking > 0 ? Date.now() + seconds * 1000 : 0;
  }

  // Milliseconds since 1970, or 0 while there is room. The limit is the person's, so all tabs have one.
  get #opensAt() {
    try {
      return Number(localStorage.getItem(KEY));
    } catch {
      return this.#ownOpensAt; // storage can be switched off
    }
  }

  set #opensAt(moment) {
    this.#ownOpensAt = moment;
    try {
      localStorage.setItem(KEY, moment);
    } catch {
      // Then each tab knows of itself alone.
    }
  }
}
