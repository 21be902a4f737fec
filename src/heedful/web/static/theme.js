// Light or dark: as the system says, until somebody presses the button.

const NAME = "heedful-theme";
const root = document.documentElement;
const button = document.querySelector("[data-theme-toggle]");
const systemIsDark = matchMedia("(prefers-color-scheme: dark)");

function chosen() {
  try {
    return localStorage.getItem(NAME);
  } catch {
    return null; // storage is switched off: the system decides
  }
}

function isDark() {
  return (root.dataset.theme ?? (systemIsDark.matches ? "dark" : "light")) === "dark";
}

function apply(theme) {
  if (theme === "dark" || theme === "light") root.dataset.theme = theme;
  if (!button) return;
  button.hidden = false;
  button.textContent = isDark() ? "Light" : "Dark";
  button.setAttribute("aria-label", `Switch to ${isDark() ? "light" : "dark"} colours`);
}

button?.addEventListener("click", () => {
  const theme = isDark() ? "light" : "dark";
  apply(theme);
  try {
    localStorage.setItem(NAME, theme);
  } catch {
    // then it holds for this page
  }
});
systemIsDark.addEventListener("change", () => apply(chosen()));
apply(chosen());
