// The review of feedback by keyboard. What a key does is in the page: `data-key` names the key of a link, a
// button or a field. In the list, j and k go from entry to entry.

const RENEW_EVERY = 5 * 60 * 1000; // milliseconds; a claim lasts three times as long
const TYPED_INTO = "input:not([type=radio], [type=checkbox]), textarea, select, [contenteditable]";
const STORED = "single-keys";

// Without storage the choice lasts as long as the page.
function stored() {
  try {
    return localStorage.getItem(STORED);
  } catch {
    return null;
  }
}

function store(choice) {
  try {
    localStorage.setItem(STORED, choice);
  } catch {
    // As above.
  }
}

class Keys {
  #dialog = document.getElementById("keys-dialog");
  #switch = this.#dialog.querySelector("[name=shortcuts]");
  #entries = [...document.querySelectorAll(".queue-link")];

  constructor() {
    this.#switch.checked = stored() !== "off";
    this.#switch.addEventListener("change", () => store(this.#switch.checked ? "on" : "off"));
    document.querySelector(".queue-keys").addEventListener("click", () => this.#dialog.showModal());
    document.addEventListener("keydown", (event) => this.#onKey(event));
    // One of several choices is taken by its number.
    document.querySelectorAll("[name=scope]").forEach((choice, index) => { choice.dataset.key = index + 1; });
  }

  #onKey(event) {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (event.target.matches(TYPED_INTO)) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (this.#dialog.open || document.querySelector(".sidebar.is-open") || !this.#switch.checked) return;
    if (this.#move({ j: 1, k: -1 }[event.key]) || this.#act(event.key)) event.preventDefault();
  }

  // To the entry that is so many further on in the list; the first key goes to the first one.
  #move(step) {
    if (!step || !this.#entries.length) return false;
    const now = this.#entries.indexOf(document.activeElement);
    const next = now < 0 ? 0 : Math.min(Math.max(now + step, 0), this.#entries.length - 1);
    this.#entries[next].focus();
    this.#entries[next].scrollIntoView({ block: "nearest" });
    return true;
  }

  #act(key) {
    const target = [...document.querySelectorAll("[data-key]")].find((one) => one.dataset.key === key);
    if (!target) return false;
    if (target.matches(TYPED_INTO)) target.focus();
    else target.click();
    return true;
  }
}

// While the page of a claimed entry is looked at, the claim is renewed, so that nobody else takes it over.
function keepClaim() {
  const claim = document.getElementById("claim");
  if (!claim) return;
  setInterval(() => {
    if (document.hidden) return;
    // Where it leads to is this page, which is not needed again.
    fetch(claim.action, { method: "POST", body: new FormData(claim), redirect: "manual" }).catch(() => {});
  }, RENEW_EVERY);
}

new Keys();
keepClaim();
