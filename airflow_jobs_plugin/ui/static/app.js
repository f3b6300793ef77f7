// What the pages need a script for, besides htmx. Nothing here writes HTML.
(function () {
  "use strict";

  // -- times in the reader's zone: the one chosen in Airflow, else the browser's ------------------------------------
  function zone() {
    try {
      var chosen = window.localStorage.getItem("timezone");
      if (chosen) {
        try {
          chosen = JSON.parse(chosen);
        } catch (error) {
          // kept as plain text
        }
        new Intl.DateTimeFormat("en", { timeZone: chosen });
        return chosen;
      }
    } catch (error) {
      // no storage, or no such zone
    }
    return Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
  }
  var readers = zone();
  var days = new Intl.DateTimeFormat("en", { weekday: "short", timeZone: readers });
  var parts = new Intl.DateTimeFormat("en-CA", {
    year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit",
    hourCycle: "h23", timeZone: readers
  });
  function localTimes(root) {
    root.querySelectorAll("time[data-local]").forEach(function (element) {
      var when = new Date(element.dateTime);
      if (isNaN(when)) return;
      var found = {};
      parts.formatToParts(when).forEach(function (part) { found[part.type] = part.value; });
      element.title = when.toISOString().replace("T", " ").replace(/\.\d+Z$/, " UTC");
      element.textContent = found.year + "-" + found.month + "-" + found.day + " " + found.hour + ":" + found.minute + ":" + found.second;
      if (element.closest("[data-weekday]")) element.textContent = days.format(when) + " " + element.textContent;
    });
    root.querySelectorAll('[data-zone=""]').forEach(function (element) { element.textContent = "in " + readers; });
  }

  // -- Airflow's own pages: this one is in a frame that may not navigate the window around it, but that page may -----
  document.addEventListener("click", function (event) {
    var link = event.target.closest("a[data-airflow]");
    if (!link || event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey) return;
    if (window.parent === window) return;
    try {
      var outer = window.parent.document;
      var copy = outer.createElement("a");
      copy.href = link.href;
      outer.body.append(copy);
      copy.click();
      copy.remove();
      event.preventDefault();
    } catch (error) {
      // another site's page is around this one: the link opens in the frame
    }
  });

  // -- lists of which some are ticked ----------------------------------------------------------------------------------
  function ticked(name) {
    return document.querySelectorAll('input[type="checkbox"][name="' + name + '"]:checked').length;
  }
  function countTicked(root) {
    root.querySelectorAll("[data-needs-checked]").forEach(function (button) {
      button.disabled = ticked(button.dataset.needsChecked) === 0;
    });
    root.querySelectorAll("[data-count-checked]").forEach(function (place) {
      var many = ticked(place.dataset.countChecked);
      place.textContent = many ? many + " ticked" : "";
    });
  }
  document.addEventListener("change", function (event) {
    var all = event.target.dataset && event.target.dataset.checkAll;
    if (all) {
      document.querySelectorAll('input[type="checkbox"][name="' + all + '"]').forEach(function (box) {
        box.checked = event.target.checked;
      });
    }
    countTicked(document);
    showWhen(document);
  });

  // -- parts of a form that only some choices have -----------------------------------------------------------------------
  function showWhen(root) {
    root.querySelectorAll("[data-show-when]").forEach(function (part) {
      var condition = part.dataset.showWhen.split("=");
      var field = document.getElementById(condition[0]);
      part.hidden = !field || condition[1].split(",").indexOf(field.value) < 0;
    });
  }

  // -- errors beside fields ------------------------------------------------------------------------------------------------
  function markInvalid() {
    document.querySelectorAll("p.wrong").forEach(function (message) {
      var field = document.getElementById(message.id.replace(/^err-/, ""));
      if (!field) return;
      if (message.textContent.trim()) field.setAttribute("aria-invalid", "true");
      else field.removeAttribute("aria-invalid");
    });
  }

  // -- from a fault to its line in the editor --------------------------------------------------------------------------------
  document.addEventListener("click", function (event) {
    var link = event.target.closest("a[data-line]");
    var text = document.getElementById("text");
    if (!link || !text) return;
    event.preventDefault();
    var lines = text.value.split("\n");
    var line = Math.min(Number(link.dataset.line), lines.length) - 1;
    var start = lines.slice(0, line).reduce(function (sum, one) { return sum + one.length + 1; }, 0);
    text.focus();
    text.setSelectionRange(start + Number(link.dataset.column) - 1, start + lines[line].length);
    var height = parseFloat(getComputedStyle(text).lineHeight);
    text.scrollTop = Math.max(0, (line - 5) * height);
  });

  // -- what those hear who do not see: only what is new ------------------------------------------------------------------------
  var said = null;
  function announce() {
    var live = document.querySelector("[data-announce]");
    var place = document.getElementById("announcer");
    if (!live || !place || live.dataset.announce === said) return;
    if (said !== null) place.textContent = live.dataset.announce;
    said = live.dataset.announce;
  }

  // -- parts that could not be brought up to date ---------------------------------------------------------------------------------
  function trouble(text) {
    var place = document.getElementById("trouble");
    if (!place) return;
    place.textContent = text;
    place.hidden = !text;
  }
  document.addEventListener("htmx:responseError", function (event) {
    var answer = event.detail.xhr;
    var why = answer.status === 401 ? "Your session is over; reload the page to log in." : answer.getResponseHeader("X-Error");
    trouble("This page could not be brought up to date: " + (why || "the server answered " + answer.status) + ".");
  });
  document.addEventListener("htmx:sendError", function () {
    trouble("This page could not be brought up to date: the server does not answer. It is asked again.");
  });
  document.addEventListener("htmx:afterOnLoad", function (event) {
    if (event.detail.xhr.status < 400) trouble("");
  });

  function ready(root) {
    localTimes(root);
    showWhen(root);
    countTicked(root);
    markInvalid();
    announce();
  }
  document.addEventListener("htmx:afterSettle", function () { ready(document); });
  // A page that the browser kept in memory may show buttons that were disabled while it was left.
  window.addEventListener("pageshow", function () { ready(document); });
  ready(document);
})();
