// The page of data sets: what a chosen file would become is shown at once. The server says it, as it would on
// the page without a script.

class FileForm {
  #form = document.querySelector(".dataset-form");
  #preview = document.querySelector("#preview");
  #announcer = document.querySelector(".announcer");
  #asked = null; // what stops the question that is under way

  constructor() {
    const { file, columns } = this.#form.elements;
    file.addEventListener("change", () => this.#look());
    columns.addEventListener("change", () => this.#look());
    this.#form.addEventListener("submit", (event) => {
      if (!event.submitter?.formAction.endsWith(this.#form.dataset.preview)) return;
      event.preventDefault();
      this.#look();
    });
    if (file.files.length) this.#look(); // what was chosen before this script listened
  }

  async #look() {
    this.#asked?.abort();
    const asked = (this.#asked = new AbortController());
    const chosen = this.#form.elements.file.files[0];
    if (!chosen) return this.#preview.replaceChildren();
    this.#suggestName(chosen.name);
    this.#preview.setAttribute("aria-busy", "true");
    this.#say(gettext("The file is being looked at."));
    const page = await this.#ask(asked.signal);
    if (asked.signal.aborted) return;
    this.#preview.removeAttribute("aria-busy");
    const fresh = page?.querySelector("#preview");
    if (fresh) this.#preview.replaceChildren(...fresh.childNodes);
    else this.#fail();
    // What is wrong is an alert, which tells itself.
    this.#say(this.#preview.querySelector("h3")?.textContent.trim() ?? "");
  }

  async #ask(signal) {
    const options = { method: "POST", body: new FormData(this.#form), credentials: "same-origin", signal };
    const answer = await fetch(this.#form.dataset.preview, options).catch(() => null);
    if (answer?.redirected) return location.reload(); // to the sign-in, which has ended
    return answer && new DOMParser().parseFromString(await answer.text(), "text/html");
  }

  #suggestName(file) {
    const { name } = this.#form.elements;
    if (!name.value) name.value = file.replace(/\.\w+$/, "").slice(0, name.maxLength);
  }

  #fail() {
    const told = document.createElement("p");
    told.textContent = gettext("The file could not be looked at. It may be too large, or the connection was lost.");
    const box = document.createElement("div");
    box.className = "form-error";
    box.setAttribute("role", "alert");
    box.append(told);
    this.#preview.replaceChildren(box);
  }

  #say(sentence) {
    this.#announcer.textContent = sentence;
  }
}

new FileForm();
