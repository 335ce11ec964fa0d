// The form at the foot of the page: a text field that grows, Enter to send, and a button that sends or stops.

const COUNTER_FROM = 0.9; // of the limit

export class Composer {
  #form;
  #field;
  #button;
  #error;
  #counter;

  constructor(form, { onSend, onStop }) {
    this.#form = form;
    this.#field = form.elements.prompt;
    this.#button = form.querySelector(".composer-send");
    this.#error = form.querySelector(".composer-error");
    this.#counter = form.querySelector(".composer-counter");

    form.noValidate = true; // the button also stops, and then the field may be empty
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.isBusy) onStop();
      else if (this.text.trim()) onSend(this.text);
    });
    sendOnEnter(form, { unless: () => this.isBusy });
    this.#field.addEventListener("input", () => this.#refresh());
    this.#refresh();
  }

  get text() { return this.#field.value; }
  get model() { return this.#form.elements.model.value; }
  /** The id of the collection to answer from; empty without one. */
  get collection() { return this.#form.elements.collection?.value ?? ""; }
  get isBusy() { return this.#form.dataset.busy === "true"; }

  set text(value) {
    this.#field.value = value;
    this.#refresh();
  }

  set busy(busy) {
    this.#form.dataset.busy = String(busy);
    this.#button.disabled = false;
    this.#refresh();
  }

  /** The button was used to stop; nothing more to press until the end is told. */
  waitForStop() {
    // The focus would be lost with the button.
    if (document.activeElement === this.#button) this.focus();
    this.#button.disabled = true;
  }

  set error(message) {
    this.#error.textContent = message;
    this.#error.hidden = !message;
  }

  focus() {
    this.#field.focus();
  }

  #refresh() {
    const { value, maxLength } = this.#field;
    if (!CSS.supports("field-sizing", "content")) {
      this.#field.style.height = "auto";
      this.#field.style.height = `${this.#field.scrollHeight}px`;
    }
    this.#counter.hidden = maxLength < 0 || value.length < maxLength * COUNTER_FROM;
    this.#counter.textContent = `${value.length.toLocaleString()} / ${maxLength.toLocaleString()}`;
    const { stop, send } = this.#button.dataset;
    this.#button.setAttribute("aria-label", this.isBusy ? stop : send);
    this.#button.title = this.isBusy ? stop : send;
    this.#form.classList.toggle("is-empty", !value.trim());
  }
}

/** Enter submits `form` and Shift+Enter makes a new line in its text field. */
export function sendOnEnter(form, { unless = () => false } = {}) {
  form.elements.prompt.addEventListener("keydown", (event) => {
    // On a touch screen Enter makes a new line, because there is no Shift+Enter to do it.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || matchMedia("(pointer: coarse)").matches) return;
    event.preventDefault();
    if (!unless()) form.requestSubmit();
  });
}
