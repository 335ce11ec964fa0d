// Reads the events of one generation to their end, however often the connection is lost.

import { call } from "../api.js";

const FIRST_WAIT = 1_000; // milliseconds, doubled with each attempt
const LONGEST_WAIT = 30_000;

/**
 * Follows a generation from its first event. Handlers: `started(event)`, `sources(event)`, `text(soFar)`,
 * `finished(event)`, `failed(event)`, `connected()`, `disconnected()`. Returns a function that stops
 * following; the generation itself goes on. `shownLength` is how much of the text the page shows already.
 */
export function followGeneration(id, handlers, { shownLength = 0 } = {}) {
  let source = null;
  let timer = null;
  let wait = FIRST_WAIT;
  let text = "";
  let lastSeq = -1;

  function connect() {
    // A new EventSource gets every event from the start, so the text is built anew.
    text = "";
    lastSeq = -1;
    source = new EventSource(`/api/generations/${id}/events`);
    source.addEventListener("open", () => {
      wait = FIRST_WAIT;
      handlers.connected();
    });
    source.addEventListener("started", (event) => takeNew(event, handlers.started));
    source.addEventListener("sources", (event) => takeNew(event, handlers.sources));
    source.addEventListener("delta", (event) => takeNew(event, (data) => takeText(data.text)));
    source.addEventListener("finished", (event) => takeNew(event, (data) => end(() => handlers.finished(data, text))));
    source.addEventListener("failure", (event) => takeNew(event, (data) => end(() => handlers.failed(data, text))));
    source.addEventListener("error", lose);
  }

  function takeNew(event, take) {
    const data = JSON.parse(event.data);
    if (data.seq <= lastSeq) return;
    lastSeq = data.seq;
    take(data);
  }

  function takeText(piece) {
    text += piece;
    // While a lost connection is caught up, what is on the page already is longer.
    if (text.length <= shownLength) return;
    shownLength = text.length;
    handlers.text(text);
  }

  // While its state is CONNECTING the browser tries again by itself, after the last event it got.
  // CLOSED means that the server refused: the sign-in ran out, or the server is restarting.
  function lose() {
    handlers.disconnected();
    if (source.readyState !== EventSource.CLOSED) return;
    timer = setTimeout(retry, wait);
    wait = Math.min(wait * 2, LONGEST_WAIT);
  }

  async function retry() {
    try {
      await call("GET", "/auth/me"); // renews the sign-in where that is what was missing
    } catch {
      // The server is away still; the next attempt comes later.
    }
    connect();
  }

  function end(tell) {
    stop();
    tell();
  }

  function stop() {
    clearTimeout(timer);
    source.close();
  }

  connect();
  return stop;
}
