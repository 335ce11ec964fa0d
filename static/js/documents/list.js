// The list of documents, kept true while something is on its way: the page asks for itself again and
// takes over what is new in it. So the server alone says what a document looks like.

const SHORTEST_WAIT = 1_500; // milliseconds
const LONGEST_WAIT = 6_000;
const STRETCH = 1.4; // while nothing changes

export class DocumentList {
  #element;
  #room;
  #say;
  #wait = SHORTEST_WAIT;
  #timer = null;
  #isDue = false; // whether a look was left out, because nobody saw the page

  constructor(element, { room, say }) {
    this.#element = element;
    this.#room = room;
    this.#say = say;
    if (this.#isRunning) this.#later();
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "visible" && (this.#isRunning || this.#isDue)) this.follow();
    });
  }

  /** Look now, and on until nothing is on its way any more. */
  follow() {
    this.#wait = SHORTEST_WAIT;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#refresh(), 100); // one look for files that are stored together
  }

  get #isRunning() { return this.#element.dataset.running === "true"; }

  #later(seconds = 0) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#refresh(), Math.max(this.#wait, seconds * 1000));
  }

  async #refresh() {
    this.#isDue = document.visibilityState !== "visible";
    if (this.#isDue) return; // the next look is when it is seen again
    const wait = this.#room.enter();
    if (wait) return this.#later(wait / 1000);
    const answer = await fetch(this.#element.dataset.address, { credentials: "same-origin" }).catch(() => null);
    this.#room.read((name) => answer?.headers.get(name) ?? null);
    if (answer?.redirected) return location.reload(); // to the sign-in, which has ended
    if (answer?.ok) this.#takeOver(new DOMParser().parseFromString(await answer.text(), "text/html"));
    else this.#wait = LONGEST_WAIT;
    if (this.#isRunning || !answer?.ok) this.#later(Number(answer?.headers.get("Retry-After")) || 0);
  }

  #takeOver(page) {
    const fresh = page.querySelector(".document-list");
    if (!fresh) return;
    const before = this.#element.textContent;
    this.#element.dataset.running = fresh.dataset.running;
    const [table, freshTable] = [this.#element, fresh].map((list) => list.querySelector("tbody"));
    if (table && freshTable) this.#takeRows(table, freshTable);
    else if (table || freshTable) this.#element.replaceChildren(...fresh.childNodes);
    for (const part of [".collections", ".ask-place", ".hint-place"]) replaceIfNew(part, page);
    const changed = before !== this.#element.textContent;
    this.#wait = changed ? SHORTEST_WAIT : Math.min(this.#wait * STRETCH, LONGEST_WAIT);
  }

  #takeRows(table, freshTable) {
    for (const row of [...table.rows]) {
      if (!freshTable.querySelector(`#${CSS.escape(row.id)}`)) row.remove();
    }
    [...freshTable.rows].forEach((fresh, index) => {
      const row = document.getElementById(fresh.id);
      if (row) this.#update(row, fresh);
      else table.insertBefore(fresh, table.rows[index] ?? null);
    });
  }

  #update(row, fresh) {
    if (row.dataset.status !== fresh.dataset.status) this.#tell(fresh);
    row.dataset.status = fresh.dataset.status;
    [...row.cells].forEach((cell, index) => {
      // What asks whether to delete stays open meanwhile.
      if (cell.querySelector("details")) return;
      const freshCell = fresh.cells[index];
      if (cell.innerHTML !== freshCell.innerHTML) cell.replaceChildren(...freshCell.childNodes);
    });
  }

  #tell(row) {
    const { name, status } = row.dataset;
    if (status === "ready") this.#say(interpolate(gettext("%(name)s is ready."), { name }, true));
    if (status !== "failed") return;
    const reason = row.querySelector(".state-reason")?.textContent ?? "";
    this.#say(interpolate(gettext("%(name)s could not be read. %(reason)s"), { name, reason }, true));
  }
}

function replaceIfNew(selector, page) {
  const [old, fresh] = [document, page].map((one) => one.querySelector(selector));
  if (!old || !fresh || old.contains(document.activeElement) || old.innerHTML === fresh.innerHTML) return;
  old.replaceChildren(...fresh.childNodes);
}
