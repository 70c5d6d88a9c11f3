// Shows the page in the reader's own choice of light or dark, before anything is drawn; the system's where there is none.
const THEMES = ["light", "dark"];
const kept = (() => { try { return localStorage.getItem("theme"); } catch { return null; } })();  // a file may have no store
if (THEMES.includes(kept)) document.documentElement.dataset.theme = kept;
document.documentElement.classList.add("scripted");
addEventListener("DOMContentLoaded", () => {
  const button = document.getElementById("theme");
  const dark = () => (document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const say = () => { button.textContent = dark() ? "Light" : "Dark"; };
  button.addEventListener("click", () => {
    const chosen = dark() ? "light" : "dark";
    document.documentElement.dataset.theme = chosen;
    try { localStorage.setItem("theme", chosen); } catch { /* it then holds for this page alone */ }
    say();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", say);
  button.hidden = false;
  say();
});
