// The reader: brings the cited passage into view, in the middle, with some text around it.

const passage = document.getElementById("passage");
if (passage) {
  passage.scrollIntoView({ block: "center" });
  passage.focus({ preventScroll: true }); // a screen reader begins to read there
}
