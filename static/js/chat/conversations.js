// The list of conversations in the sidebar: new ones on top, rename and delete in dialogs.

import { call } from "../api.js";

export class ConversationList {
  #list;
  #currentId;

  constructor(list, currentId) {
    this.#list = list;
    this.#currentId = currentId;
    this.#list.addEventListener("click", (event) => {
      const action = event.target.closest("[data-action]")?.dataset.action;
      const item = event.target.closest(".conversation");
      if (action === "rename") this.#askForTitle(item);
      if (action === "delete") this.#askForDeletion(item);
    });
  }

  /** Put `conversation` on top, as the one that is open. */
  show({ id, title }) {
    this.#currentId = id;
    const item = this.#item(id) ?? this.#newItem(id);
    this.#setTitle(item, title);
    this.#list.prepend(item);
    for (const link of this.#list.querySelectorAll("[aria-current]")) link.removeAttribute("aria-current");
    item.querySelector("a").setAttribute("aria-current", "page");
  }

  #item(id) {
    return this.#list.querySelector(`.conversation[data-id="${id}"]`);
  }

  #newItem(id) {
    const item = document.getElementById("conversation-template").content.firstElementChild.cloneNode(true);
    item.dataset.id = id;
    item.querySelector("a").href = `/chat/${id}/`;
    return item;
  }

  #setTitle(item, title) {
    const shown = title || gettext("New chat");
    item.querySelector(".conversation-title").textContent = shown;
    if (item.dataset.id !== this.#currentId) return;
    document.title = `${shown} · llmsite`;
    document.querySelector(".chat-title").textContent = shown;
  }

  async #askForTitle(item) {
    const field = document.querySelector("#rename-dialog [name=title]");
    field.value = item.querySelector(".conversation-title").textContent;
    await askInDialog("rename-dialog", async () => {
      const { title } = await call("PATCH", `/conversations/${item.dataset.id}`, { title: field.value.trim() });
      this.#setTitle(item, title);
    });
  }

  async #askForDeletion(item) {
    const id = item.dataset.id;
    document.querySelector("#delete-dialog .dialog-subject").textContent =
      item.querySelector(".conversation-title").textContent;
    await askInDialog("delete-dialog", async () => {
      await call("DELETE", `/conversations/${id}`);
      if (id === this.#currentId) location.assign("/chat/");
      else item.remove();
    });
  }
}

// Opens a dialog and runs `act` when it is confirmed. It stays open, with the error, when `act` fails.
function askInDialog(id, act) {
  const dialog = document.getElementById(id);
  const form = dialog.querySelector("form");
  const error = dialog.querySelector(".dialog-error");
  error.hidden = true;
  return new Promise((resolve) => {
    form.onsubmit = async (event) => {
      event.preventDefault();
      try {
        await act();
        dialog.close();
      } catch (problem) {
        error.textContent = problem.message;
        error.hidden = false;
      }
    };
    dialog.querySelector("[data-cancel]").onclick = () => dialog.close();
    dialog.onclose = resolve;
    dialog.showModal();
  });
}
