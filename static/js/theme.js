// Runs in the head, before the first paint: a stored choice of colours must not flash the other set.
// It is a classic script for that reason; everything else is a module.
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  try {
    const theme = localStorage.getItem("theme");
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
  } catch {
    // Storage can be switched off; the system's colours are right then.
  }
})();
