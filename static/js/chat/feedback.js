// What the reader says of answers: a thumb is sent at once, and opens a form in which more can be said.

import { call } from "../api.js";

export class Ratings {
  #said; // what was said of each answer, by its id
  #sent = new Map(); // what was sent last of each answer
  #announce;
  #textOf;

  constructor(page, { announce, textOf }) {
    this.#said = new Map(Object.entries(JSON.parse(document.getElementById("feedback-said").textContent)));
    this.#announce = announce;
    this.#textOf = textOf;
    for (const element of page.querySelectorAll(".message")) this.#show(element);
    page.addEventListener("click", (event) => this.#onClick(event));
    page.addEventListener("submit", (event) => this.#onSubmit(event));
    page.addEventListener("keydown", (event) => this.#onKey(event));
  }

  #onClick(event) {
    const button = event.target.closest("button");
    const element = button?.closest(".message");
    if (!element) return;
    if (button.matches(".message-rating button")) this.#rate(element, Number(button.dataset.rating));
    else if (button.matches(".feedback-close")) this.#close(element);
    else if (button.matches(".feedback-withdraw")) this.#takeBack(element);
    else if (button.matches(".feedback-take")) this.#take(element);
  }

  #onSubmit(event) {
    if (!event.target.matches(".feedback-form")) return;
    event.preventDefault();
    this.#save(event.target.closest(".message"));
  }

  #onKey(event) {
    const form = event.key === "Escape" && event.target.closest(".feedback-form");
    if (!form) return;
    event.preventDefault();
    this.#close(form.closest(".message"));
  }

  // The thumb that is pressed opens and closes the form; the other one says the opposite.
  async #rate(element, rating) {
    const said = this.#of(element);
    if (said?.rating === rating) {
      if (formOf(element)) this.#close(element);
      else this.#open(element);
      return;
    }
    const form = this.#open(element, rating);
    const words = { comment: form.elements.comment.value, correction: form.elements.correction.value };
    if (await this.#send(element, { rating, tags: tagsOf(form), ...words })) {
      this.#announce(gettext("Saved. You can say more below the answer."));
    }
  }

  async #save(element) {
    const form = formOf(element);
    const { comment, correction } = form.elements;
    const rating = Number(form.dataset.rating);
    const said = { rating, tags: tagsOf(form), comment: comment.value, correction: correction.value };
    if (!(await this.#send(element, said))) return;
    this.#announce(gettext("Your feedback is saved. Thank you."));
    this.#close(element);
  }

  async #takeBack(element) {
    const remove = () => this.#of(element) && call("DELETE", `/feedback/${this.#of(element).id}`);
    if (!(await this.#try(element, remove))) return;
    this.#said.delete(element.dataset.id);
    this.#announce(gettext("Your feedback is taken back."));
    this.#show(element);
    this.#close(element);
  }

  // The answer itself, to be made better; what was typed already stays.
  #take(element) {
    const { correction } = formOf(element).elements;
    correction.value ||= this.#textOf(element);
    correction.focus();
  }

  async #send(element, said) {
    const message = element.dataset.id;
    const kept = await this.#try(element, () => call("POST", "/feedback", { message, ...said }));
    if (!kept) return false;
    this.#said.set(message, kept);
    this.#show(element);
    return true;
  }

  // What `work` gives, true where that is nothing; false where it failed, of which the form then tells. Of one
  // answer one thing is sent after the other: what was said last is what is kept.
  async #try(element, work) {
    const { id } = element.dataset;
    const sent = (this.#sent.get(id) ?? Promise.resolve()).then(work);
    this.#sent.set(id, sent.catch(() => {}));
    try {
      return (await sent) ?? true;
    } catch (error) {
      this.#fail(element, error);
      return false;
    }
  }

  #fail(element, error) {
    const place = this.#open(element).querySelector(".form-error");
    place.textContent = error.message;
    place.hidden = false;
  }

  #of(element) {
    return this.#said.get(element.dataset.id);
  }

  #show(element) {
    const said = this.#of(element);
    for (const button of element.querySelectorAll(".message-rating button")) {
      button.setAttribute("aria-pressed", String(Number(button.dataset.rating) === said?.rating));
    }
    const form = formOf(element);
    if (!form) return;
    form.dataset.status = said?.status ?? "open";
    form.querySelector(".form-error").hidden = true;
    form.querySelector(".feedback-withdraw").hidden = !said;
  }

  /** The form below an answer, with what was said of it; one that is open keeps what was typed. */
  #open(element, rating = this.#of(element)?.rating) {
    let form = formOf(element);
    if (!form) {
      form = document.getElementById("feedback-template").content.firstElementChild.cloneNode(true);
      fill(form, this.#of(element));
      element.append(form);
    }
    form.dataset.rating = rating ?? form.dataset.rating;
    this.#show(element);
    return form;
  }

  #close(element) {
    const form = formOf(element);
    if (!form) return;
    const hadFocus = form.contains(document.activeElement);
    form.remove();
    const thumbs = element.querySelector(".message-rating");
    if (hadFocus) (thumbs.querySelector("[aria-pressed=true]") ?? thumbs.querySelector("button")).focus();
  }
}

function formOf(element) {
  return element.querySelector(".feedback-form");
}

function fill(form, said) {
  if (!said) return;
  form.elements.comment.value = said.comment;
  form.elements.correction.value = said.correction;
  for (const box of form.querySelectorAll("[name=tags]")) box.checked = said.tags.includes(box.value);
}

// Only those that are shown: what is wrong with an answer is nothing to say of a good one.
function tagsOf(form) {
  const boxes = form.querySelectorAll(`.feedback-tag[data-rating="${form.dataset.rating}"] :checked`);
  return [...boxes].map((box) => box.value);
}
