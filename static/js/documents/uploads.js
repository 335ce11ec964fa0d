// Sends files to the site, a few at a time, each with its own line that says how far it is.

import { call } from "../api.js";

const AT_ONCE = 2;
const WAIT_WITHOUT_ADVICE = 5; // seconds, where the server names none
const LONGEST_NAP = 1; // second, after which it is looked whether there is room earlier than it seemed

const noneYet = () => ({ stored: 0, known: 0, refused: 0 });

export class UploadQueue {
  #list;
  #collection;
  #room;
  #onStored;
  #onDone;
  #waiting = [];
  #running = 0;
  #counts = noneYet();

  /** `onStored()` after each file the site has, `onDone({stored, known, refused})` after the last one. */
  constructor(list, { collection, room, onStored, onDone }) {
    this.#list = list;
    this.#collection = collection;
    this.#room = room;
    this.#onStored = onStored;
    this.#onDone = onDone;
  }

  get isBusy() { return this.#running > 0 || this.#waiting.length > 0; }

  /** Whether no line stands that tells of a file. */
  get isEmpty() { return this.#list.children.length === 0; }

  add(files) {
    for (const file of files) {
      const line = new UploadLine(file.name);
      this.#list.append(line.element);
      this.#waiting.push({ file, line });
    }
    this.#next();
  }

  #next() {
    while (this.#running < AT_ONCE && this.#waiting.length) this.#run(this.#waiting.shift());
  }

  async #run({ file, line }) {
    this.#running += 1;
    try {
      const sent = await this.#send(file, line);
      this.#counts[sent.isNew ? "stored" : "known"] += 1;
      if (sent.isNew) line.remove(); // its document stands in the list below
      else line.tellKnown(sent.document);
      this.#onStored();
    } catch (error) {
      this.#counts.refused += 1;
      line.refuse(error.message);
    }
    this.#running -= 1;
    this.#next();
    if (this.isBusy) return;
    const counts = this.#counts;
    this.#counts = noneYet();
    this.#onDone(counts);
  }

  // Many files at once are many requests: where they are too many for a minute, the rest waits for the next.
  async #send(file, line) {
    for (;;) {
      for (let wait = this.#room.enter(); wait > 0; wait = this.#room.enter()) {
        await line.waitFor(Math.min(wait / 1000, LONGEST_NAP));
      }
      const answer = await post(this.#body(file), (share) => line.show(share));
      this.#room.read(answer.header);
      if (answer.status === 429 && answer.code === "rate_limited") await line.waitFor(answer.retryAfter);
      else if (answer.status === 401) await call("GET", "/auth/me"); // renews the sign-in, or leads to it
      else if (answer.status >= 400 || !answer.status) throw new Error(answer.message);
      else return { isNew: answer.status !== 200, document: answer.document };
    }
  }

  #body(file) {
    const body = new FormData();
    // The collection first: the server then knows where the file goes before it comes.
    if (this.#collection) body.append("collection", this.#collection);
    body.append("file", file);
    return body;
  }
}

class UploadLine {
  #name;
  #progress;
  #state;

  constructor(name) {
    const template = document.getElementById("upload-template");
    this.#name = name;
    this.element = template.content.firstElementChild.cloneNode(true);
    this.element.querySelector(".upload-name").textContent = name;
    this.#progress = this.element.querySelector(".upload-progress");
    this.#progress.setAttribute("aria-label", name);
    this.#state = this.element.querySelector(".upload-state");
    this.#state.textContent = gettext("waiting");
    this.element.querySelector(".upload-dismiss").addEventListener("click", () => this.remove());
  }

  show(share) {
    this.#progress.value = share;
    this.#state.textContent = share < 1 ? gettext("on its way") : gettext("being checked");
  }

  waitFor(seconds) {
    this.#progress.removeAttribute("value");
    this.#state.textContent = gettext("waiting, because the site takes only so many files a minute");
    return new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  }

  refuse(reason) {
    this.element.classList.add("is-refused");
    this.#end(reason);
  }

  /** `document` has this content; it may have another name. */
  tellKnown({ id, name }) {
    const link = document.createElement("a");
    link.href = `/documents/${id}/`;
    if (name === this.#name) link.textContent = gettext("is here already");
    else link.textContent = interpolate(gettext("is here already, as %(name)s"), { name }, true);
    this.#end(link);
  }

  #end(told) {
    this.#progress.hidden = true;
    this.#state.replaceChildren(told);
    this.element.querySelector(".upload-dismiss").hidden = false;
  }

  remove() {
    this.element.remove();
  }
}

// `fetch` does not tell how much of a body is sent.
function post(body, onProgress) {
  return new Promise((resolve) => {
    const request = new XMLHttpRequest();
    request.open("POST", "/api/documents");
    request.responseType = "json";
    request.setRequestHeader("Accept", "application/json");
    request.setRequestHeader("X-CSRFToken", document.querySelector('meta[name="csrf-token"]').content);
    request.upload.addEventListener("progress", ({ loaded, total }) => onProgress(total ? loaded / total : 0));
    request.addEventListener("loadend", () => resolve(answerOf(request)));
    request.send(body);
  });
}

function answerOf(request) {
  const { code, message } = request.response?.error ?? {};
  const header = (name) => request.getResponseHeader(name);
  return {
    status: request.status, // 0 where nobody answered
    code,
    message: message ?? gettext("The upload broke off. Check the connection and try again."),
    document: request.response,
    header,
    retryAfter: Number(header("Retry-After")) || WAIT_WITHOUT_ADVICE,
  };
}
