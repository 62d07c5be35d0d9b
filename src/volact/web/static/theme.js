// Colours before the first paint: what was chosen here, else what the system prefers.
(function () {
  "use strict";
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  function apply() {
    let chosen = null;
    try { chosen = localStorage.getItem("volact-theme"); } catch (error) { /* storage is switched off */ }
    const theme = chosen === "dark" || chosen === "light" ? chosen : dark.matches ? "dark" : "light";
    document.documentElement.setAttribute("data-bs-theme", theme);
  }
  dark.addEventListener("change", function () { apply(); document.dispatchEvent(new Event("volact:theme")); });
  window.volactTheme = function (name) {
    try { localStorage.setItem("volact-theme", name); } catch (error) { /* then it holds for this page only */ }
    apply();
    if (name === "dark" || name === "light") document.documentElement.setAttribute("data-bs-theme", name);
    document.dispatchEvent(new Event("volact:theme"));
  };
  apply();
})();
