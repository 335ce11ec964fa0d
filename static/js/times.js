// Moments in the reader's own zone. The server writes them in UTC, and says so; pointing at one still tells that.

const LANGUAGE = document.documentElement.lang === "en" ? "en-GB" : document.documentElement.lang;
const DATES = {
  short: new Intl.DateTimeFormat(LANGUAGE, { dateStyle: "medium" }),
  long: new Intl.DateTimeFormat(LANGUAGE, { dateStyle: "long" }),
};
const TIME = new Intl.DateTimeFormat(LANGUAGE, { hour: "2-digit", minute: "2-digit" });

/** Write the moments below `root` in the reader's zone (`llmsite/core/moments.py`). */
export function showTimes(root = document) {
  for (const element of root.querySelectorAll("time[data-form]")) {
    const moment = new Date(element.dateTime);
    element.textContent = `${DATES[element.dataset.form].format(moment)}, ${TIME.format(moment)}`;
  }
}
