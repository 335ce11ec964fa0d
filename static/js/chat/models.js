// The list of models in the composer, kept true while the page is open: a model may be switched off
// meanwhile, and another one made the default.

import { call } from "../api.js";

export class ModelPicker {
  #select;
  #followsDefault;

  /** `followsDefault`: whether the default is chosen, as long as nobody has chosen anything. */
  constructor(select, { followsDefault }) {
    this.#select = select;
    this.#followsDefault = followsDefault;
    select.addEventListener("change", () => (this.#followsDefault = false));
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "visible") this.refresh();
    });
  }

  /** Ask the server which models there are. What is chosen stays, unless it is there no more. */
  async refresh() {
    // Where the server is away the old list is as good as any.
    const answer = await call("GET", "/models").catch(() => null);
    if (answer) this.#show(answer.results);
  }

  /** Choosing is over once a question was asked: a conversation keeps its model. */
  settle() {
    this.#followsDefault = false;
  }

  #show(models) {
    const chosen = this.#select.value;
    const offered = models.filter(({ available }) => available);
    const needKeys = models.filter(({ available }) => !available);
    this.#select.replaceChildren(...[...offered, ...needKeys].map(option));
    this.#select.disabled = models.length === 0;
    const stays = !this.#followsDefault && models.some(({ alias }) => alias === chosen);
    const preset = models.find((model) => model.is_default) ?? offered[0];
    if (stays) this.#select.value = chosen;
    else if (preset) this.#select.value = preset.alias;
  }
}

function option({ alias, label, available }) {
  const name = label || alias;
  const element = new Option(available ? name : `${name} ${gettext("(needs a key)")}`, alias);
  element.disabled = !available;
  return element;
}
