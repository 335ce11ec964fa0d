// What every page has: the choice of colours, the drawer on narrow screens, menus that close,
// times in the reader's zone.

import { showTimes } from "./times.js";

const root = document.documentElement;

function storedTheme() {
  return root.dataset.theme ?? "system";
}

function chooseTheme(theme) {
  if (theme === "system") delete root.dataset.theme;
  else root.dataset.theme = theme;
  try {
    localStorage.setItem("theme", theme);
  } catch {
    // Without storage the choice lasts as long as the page.
  }
  showTheme();
}

function showTheme() {
  for (const button of document.querySelectorAll("[data-theme-choice]")) {
    button.setAttribute("aria-pressed", String(button.dataset.themeChoice === storedTheme()));
  }
}

function setUpTheme() {
  for (const button of document.querySelectorAll("[data-theme-choice]")) {
    button.addEventListener("click", () => chooseTheme(button.dataset.themeChoice));
  }
  showTheme();
}

function setUpMenus() {
  document.addEventListener("click", (event) => {
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      if (!menu.contains(event.target)) menu.open = false;
    }
  });
  document.addEventListener("keydown", (event) => {
    const menu = event.key === "Escape" && document.querySelector("details.menu[open]");
    if (!menu) return;
    menu.open = false;
    menu.querySelector("summary").focus();
    event.preventDefault();
  });
}

// On a narrow screen the sidebar is a drawer; on a wide one it always stands, and none of this shows.
function setUpDrawer() {
  const sidebar = document.querySelector(".sidebar");
  const opener = document.querySelector(".sidebar-open");
  const content = document.querySelector(".app-main");
  if (!sidebar || !opener) return;

  const setOpen = (open) => {
    sidebar.classList.toggle("is-open", open);
    opener.setAttribute("aria-expanded", String(open));
    content.inert = open;
    if (open) sidebar.querySelector("a, button").focus();
    else opener.focus();
  };
  opener.addEventListener("click", () => setOpen(true));
  for (const closer of document.querySelectorAll("[data-close-sidebar]")) {
    closer.addEventListener("click", () => setOpen(false));
  }
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || event.defaultPrevented || !sidebar.classList.contains("is-open")) return;
    if (document.querySelector("dialog[open]")) return;
    event.preventDefault();
    setOpen(false);
  });
  // A drawer left open while the window grows must not leave the page inert.
  matchMedia("(min-width: 48rem)").addEventListener("change", () => {
    if (sidebar.classList.contains("is-open")) setOpen(false);
  });
}

setUpTheme();
setUpMenus();
setUpDrawer();
showTimes();
