// The account pages: copying a new key.

async function copy(button) {
  const source = document.getElementById(button.dataset.copy);
  try {
    await navigator.clipboard.writeText(source.textContent.trim());
  } catch {
    // Without the right to the clipboard the text is at least selected.
    getSelection().selectAllChildren(source);
    return;
  }
  button.textContent = button.dataset.done;
  document.querySelector("[role=status]").textContent = button.dataset.done;
}

function setUpCopying() {
  for (const button of document.querySelectorAll("[data-copy]")) {
    button.addEventListener("click", () => copy(button));
  }
}

// To reload the page of a new key would send the form again, and make another one. An entry of the history
// that a script has replaced is asked for with GET, which leads to the account page.
function leaveNoFormBehind() {
  if (document.querySelector("[data-shown-once]")) history.replaceState(null, "", location.href);
}

setUpCopying();
leaveNoFormBehind();
