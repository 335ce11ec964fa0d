// The chat page: ties the composer, the thread and the list of conversations to the API.

import { call } from "./api.js";
import { Composer, sendOnEnter } from "./chat/composer.js";
import { ConversationList } from "./chat/conversations.js";
import { keepDraft, takeDraft } from "./chat/draft.js";
import { Ratings } from "./chat/feedback.js";
import { Message, fromFinished, fromStarted } from "./chat/message.js";
import { ModelPicker } from "./chat/models.js";
import { followGeneration } from "./chat/stream.js";
import { Thread } from "./chat/thread.js";

class ChatPage {
  #page = document.querySelector(".chat");
  #thread = new Thread(document.querySelector(".chat-scroller"));
  #composer = new Composer(document.querySelector(".composer"), {
    onSend: (text) => this.#ask(text),
    onStop: () => this.#stop(),
  });
  #conversation = this.#page.dataset.conversation || null;
  #models = new ModelPicker(document.getElementById("model"), { followsDefault: !this.#conversation });
  #conversations = new ConversationList(document.querySelector(".conversations"), this.#conversation);
  #running = null; // the message that is being written
  #stopWanted = false; // stop was pressed before the server had named the generation

  constructor() {
    this.#page.addEventListener("click", (event) => this.#onClick(event));
    document.addEventListener("keydown", (event) => this.#onKey(event));
    addEventListener("popstate", () => this.#onHistory());
    new Ratings(this.#page, { announce, textOf: (element) => this.#thread.of(element).text });
    this.#onHistory(); // Somebody may have gone back or forward before this script listened.
    if (this.#thread.last?.isRunning) this.#follow(this.#thread.last);
    this.#composer.text ||= takeDraft();
    if (matchMedia("(hover: hover)").matches) this.#composer.focus();
  }

  #onClick(event) {
    const button = event.target.closest("button");
    if (!button) return;
    const message = this.#thread.of(button);
    if (button.matches(".suggestion")) this.#ask(button.textContent.trim());
    else if (button.matches(".code-copy")) copy(button, button.closest(".code-frame").querySelector("code").textContent);
    else if (button.matches(".message-copy")) copy(button, message.text);
    else if (button.matches(".message-regenerate, .message-retry, .message-fresh")) this.#regenerate(message);
    else if (button.matches(".message-edit")) this.#edit(message);
  }

  #onKey(event) {
    if (event.defaultPrevented || document.querySelector("dialog[open]")) return;
    if (event.key === "Escape" && this.#composer.isBusy) this.#stop();
    if (event.key.toLowerCase() === "k" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      location.assign("/chat/");
    }
  }

  // The server renders what an address shows. A link within the page also counts as history: nothing to do.
  #onHistory() {
    const shown = this.#conversation ? `/chat/${this.#conversation}/` : "/chat/";
    if (location.pathname !== shown) location.reload();
  }

  // --- Asking ----------------------------------------------------------------------------------

  async #ask(prompt) {
    if (this.#composer.isBusy) return;
    const parent = this.#thread.last?.id ?? null;
    const question = Message.create({ id: "", role: "user", content: prompt });
    this.#composer.text = "";
    this.#begin();
    this.#thread.append(question);
    this.#thread.scrollToEnd();
    const isNew = !this.#conversation;
    try {
      if (isNew) await this.#openConversation();
      const body = { prompt, model: this.#composer.model };
      const answer = await this.#post(parent ? { ...body, parent } : body);
      question.identify(answer.user_message);
      this.#models.settle();
      if (isNew) history.pushState(null, "", `/chat/${this.#conversation}/`);
      this.#show(answer);
    } catch (error) {
      this.#thread.cut(question);
      // What was typed meanwhile is not thrown away.
      this.#composer.text = [prompt, this.#composer.text].filter(Boolean).join("\n\n");
      // Where the answer was lost on its way, the question may have been taken.
      if (isNew && error.status) this.#dropConversation();
      this.#giveUp(error);
    }
  }

  async #openConversation() {
    const { id } = await call("POST", "/conversations", { model: this.#composer.model });
    this.#conversation = id;
  }

  // A conversation whose first question was refused would stand empty in the list.
  #dropConversation() {
    if (this.#conversation) call("DELETE", `/conversations/${this.#conversation}`).catch(() => {});
    this.#conversation = null;
  }

  async #regenerate(message) {
    if (this.#composer.isBusy) return;
    this.#begin();
    try {
      const answer = await this.#post({ regenerate: message.id, model: this.#composer.model });
      const hadFocus = message.element.contains(document.activeElement);
      this.#thread.cut(message);
      this.#show(answer, { versions: message.versions });
      if (hadFocus) this.#thread.last.focus();
    } catch (error) {
      this.#giveUp(error);
    }
  }

  #edit(message) {
    const form = document.getElementById("edit-template").content.firstElementChild.cloneNode(true);
    const { element } = message;
    const close = () => {
      form.remove();
      element.classList.remove("is-edited");
      element.querySelector(".message-edit").focus();
    };
    form.elements.prompt.value = message.text;
    form.querySelector("[data-cancel]").addEventListener("click", close);
    sendOnEnter(form);
    form.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.preventDefault();
      close();
    });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#askInstead(message, form.elements.prompt.value);
    });
    element.classList.add("is-edited");
    element.querySelector(".message-body").after(form);
    form.elements.prompt.focus();
  }

  async #askInstead(message, prompt) {
    if (this.#composer.isBusy || !prompt.trim()) return;
    this.#begin();
    try {
      const parent = this.#thread.before(message)?.id ?? null;
      const answer = await this.#post({ prompt, parent, model: this.#composer.model });
      const question = Message.create(answer.user_message);
      question.showVersions([...message.versions, question.id]);
      this.#thread.cut(message);
      this.#thread.append(question);
      this.#show(answer);
    } catch (error) {
      this.#giveUp(error);
    }
  }

  #post(question) {
    const { collection } = this.#composer;
    const body = collection ? { ...question, collection } : question;
    return call("POST", `/conversations/${this.#conversation}/messages`, body);
  }

  // --- Answering -------------------------------------------------------------------------------

  #begin() {
    this.#stopWanted = false;
    this.#composer.error = "";
    this.#composer.busy = true;
    this.#page.classList.add("has-messages");
  }

  #giveUp(error) {
    this.#composer.busy = false;
    this.#composer.error = error.message;
    this.#page.classList.toggle("has-messages", !this.#thread.isEmpty);
    this.#composer.focus();
    if (error.code === "model_not_found") this.#models.refresh();
    if (error.status === 401) keepDraft(this.#composer.text); // the sign-in page is on its way
  }

  #show({ conversation, message: data }, { versions = [] } = {}) {
    const message = Message.create(data);
    if (versions.length) message.showVersions([...versions, message.id]);
    this.#thread.append(message);
    this.#thread.scrollToEnd();
    this.#conversations.show(conversation);
    // An address that named another branch (?at=) would lead a reload there.
    history.replaceState(null, "", `/chat/${conversation.id}/`);
    this.#follow(message);
  }

  #follow(message) {
    this.#running = message;
    this.#composer.busy = true;
    announce(gettext("The answer is being written."));
    followGeneration(message.generation, {
      started: (event) => message.describe(fromStarted(event)),
      sources: (event) => message.ground(event),
      text: (text) => message.grow(text),
      finished: (event, text) => this.#finish(message, event, text),
      failed: (event, text) => this.#fail(message, event, text),
      connected: () => this.#setConnected(true),
      disconnected: () => this.#setConnected(false),
    }, { shownLength: message.text.length });
    if (this.#stopWanted) this.#stop();
  }

  #finish(message, event, text) {
    const stopped = event.finish_reason === "cancelled";
    message.settle(text, { status: stopped ? "stopped" : "finished", ...fromFinished(event) });
    if (stopped) this.#end(gettext("The answer was stopped."));
    else this.#end(howItEnded(event));
  }

  #fail(message, event, text) {
    const status = { upstream_cut: "cut", interrupted: "interrupted" }[event.code] ?? "failed";
    message.settle(text, { status, error: event.message });
    this.#end(event.message);
  }

  #end(announcement) {
    this.#running = null;
    this.#composer.busy = false;
    this.#setConnected(true);
    announce(announcement);
  }

  async #stop() {
    this.#stopWanted = true;
    this.#composer.waitForStop();
    if (!this.#running) return;
    try {
      await call("POST", `/generations/${this.#running.generation}/stop`);
    } catch (error) {
      this.#composer.error = error.message;
      this.#composer.busy = true; // the button works again
    }
  }

  #setConnected(connected) {
    document.querySelector(".connection-lost").hidden = connected;
  }
}

// Says the start and the end to a screen reader; the words of the answer are left to its user.
function announce(sentence) {
  document.querySelector(".announcer").textContent = sentence;
}

function howItEnded({ cache }) {
  if (cache === "verified") return gettext("The answer is complete. A curator has checked it.");
  if (cache) return gettext("The answer is complete. It comes from the cache.");
  return gettext("The answer is complete.");
}

async function copy(button, text) {
  await writeToClipboard(text);
  button.classList.add("is-done");
  announce(gettext("Copied."));
  setTimeout(() => button.classList.remove("is-done"), 1500);
}

// The clipboard's own interface exists over HTTPS and on this machine only; people also run the
// site over plain HTTP in their network.
async function writeToClipboard(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const field = document.createElement("textarea");
  field.value = text;
  document.body.append(field);
  field.select();
  document.execCommand("copy");
  field.remove();
}

new ChatPage();
