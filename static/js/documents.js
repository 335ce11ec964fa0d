// The page of documents: files dropped anywhere on it are uploaded, and the list follows their progress.

import { DocumentList } from "./documents/list.js";
import { Room } from "./documents/room.js";
import { UploadQueue } from "./documents/uploads.js";

class DocumentsPage {
  #page = document.querySelector(".documents");
  #room = new Room();
  #list = new DocumentList(this.#page.querySelector(".document-list"), {
    room: this.#room,
    say: (sentence) => this.#say(sentence),
  });
  #form = this.#page.querySelector(".upload");
  #queue = null;

  constructor() {
    if (!this.#form) return;
    this.#queue = new UploadQueue(this.#form.querySelector(".upload-queue"), {
      collection: this.#page.dataset.collection,
      room: this.#room,
      onStored: () => this.#list.follow(),
      onDone: (counts) => this.#allSent(counts),
    });
    this.#form.classList.add("is-live");
    this.#form.addEventListener("submit", (event) => this.#onSubmit(event));
    this.#form.elements.file.addEventListener("change", () => this.#sendChosen());
    this.#takeDrops();
    this.#sendChosen(); // what was chosen before this script listened
    addEventListener("beforeunload", (event) => {
      if (this.#queue.isBusy) event.preventDefault();
    });
  }

  #onSubmit(event) {
    event.preventDefault();
    this.#sendChosen();
  }

  #sendChosen() {
    const field = this.#form.elements.file;
    this.#queue.add([...field.files]);
    field.value = ""; // the same file may be chosen again
  }

  #takeDrops() {
    const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
    document.addEventListener("dragover", (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      this.#page.classList.add("is-dropped-on");
    });
    document.addEventListener("dragleave", (event) => {
      // It also leaves each element for the next one; out of the window there is no next one.
      if (!event.relatedTarget) this.#page.classList.remove("is-dropped-on");
    });
    document.addEventListener("drop", (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      this.#page.classList.remove("is-dropped-on");
      this.#queue.add([...event.dataTransfer.files]);
    });
  }

  // The first file of all makes a collection; apart from the list, this page can only show it anew.
  get #isWithoutCollection() { return !this.#page.dataset.collection; }

  #allSent(counts) {
    const told = [gettext("Uploaded: %(stored)s.")];
    if (counts.known) told.push(gettext("Here already: %(known)s."));
    if (counts.refused) told.push(gettext("Not taken: %(refused)s."));
    this.#say(interpolate(told.join(" "), counts, true));
    if (counts.stored && this.#isWithoutCollection) this.#showCollection();
  }

  #showCollection() {
    if (this.#queue.isEmpty) location.reload();
    // What was not taken, and why, would be gone with the page.
    else this.#form.querySelector(".upload-after").hidden = false;
  }

  // A screen reader reads what is written here; the last sentence counts.
  #say(sentence) {
    this.#page.querySelector(".announcer").textContent = sentence;
  }
}

new DocumentsPage();
