// Light or dark as Airflow's own page around this one is; by itself as Airflow was last, else as the system is.
// Not deferred: the page is drawn in its colours from the beginning.
(function () {
  "use strict";
  var own = document.documentElement;
  var outer = null;
  try {
    if (window.parent !== window) outer = window.parent.document.documentElement;
  } catch (error) {
    outer = null; // another site's page is around this one
  }
  function mode() {
    if (outer) {
      if (outer.classList.contains("dark")) return "dark";
      if (outer.classList.contains("light")) return "light";
    }
    var stored = null;
    try {
      stored = window.localStorage.getItem("theme");
    } catch (error) {
      stored = null;
    }
    if (stored === "dark" || stored === "light") return stored;
    return window.matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  }
  function apply() {
    own.dataset.theme = mode();
  }
  apply();
  if (outer) new MutationObserver(apply).observe(outer, { attributes: true, attributeFilter: ["class"] });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", apply);
  window.addEventListener("storage", apply);
})();
