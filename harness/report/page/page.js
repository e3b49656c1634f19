"use strict";
(function () {
  const $ = (selector, from) => (from || document).querySelector(selector);
  const all = (selector, from) => [...(from || document).querySelectorAll(selector)];
  const specs = all("details.spec");

  // What a link leads to is opened.
  function openTarget() {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target && target.tagName === "DETAILS") {
      target.hidden = false;
      target.open = true;
      target.scrollIntoView();
      $("summary", target).focus({ preventScroll: true });
    }
  }
  addEventListener("hashchange", openTarget);
  document.addEventListener("click", (e) => {
    const link = e.target.closest('a[href^="#"]');
    if (link && link.getAttribute("href") === location.hash) openTarget();
  });
  openTarget();

  // Filters.
  const tools = $("form.tools");
  if (tools) {
    tools.hidden = false;
    const show = $("#show"), find = $("#find"), found = $("#found"), toggle = $("#all");
    const filter = () => {
      const word = find.value.trim().toLowerCase();
      let n = 0;
      for (const spec of specs) {
        const bad = spec.dataset.tone === "fail" || spec.dataset.tone === "unknown";
        const kind = !show.value || (show.value === "bad" ? bad : spec.dataset.tone === "pass");
        const head = $("summary", spec).textContent + ($(".sentence", spec)?.textContent || "") + ($(".why", spec)?.textContent || "");
        spec.hidden = !(kind && head.toLowerCase().includes(word));
        if (!spec.hidden) n++;
      }
      for (const h of all("#requirements h3")) {
        let some = false;
        for (let e = h.nextElementSibling; e && e.tagName === "DETAILS"; e = e.nextElementSibling) some = some || !e.hidden;
        h.hidden = !some;
      }
      found.textContent = n === specs.length ? "" : n + " of " + specs.length;
    };
    show.addEventListener("change", filter);
    find.addEventListener("input", filter);
    tools.addEventListener("submit", (e) => e.preventDefault());
    toggle.addEventListener("click", () => {
      const open = toggle.textContent === "Open all";
      for (const spec of specs) if (!spec.hidden) spec.open = open;
      toggle.textContent = open ? "Close all" : "Open all";
    });
    document.addEventListener("keydown", (e) => {
      if (e.key === "/" && !e.ctrlKey && !e.metaKey && !/^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName)) {
        e.preventDefault();
        find.focus();
      }
    });
  }

  // Copy a command.
  for (const button of all("button.copy")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const code = button.previousElementSibling;
      try {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(code);
        button.textContent = "Selected";
      }
      setTimeout(() => (button.textContent = "Copy"), 1500);
    });
  }

  // A mark of a timeline says what it is, and leads to its line in the list below it.
  const tip = $("#tip");
  let lit = null;
  const rowOf = (mark) => {
    const rows = $(".rows ol", mark.closest(".body") || document);
    return rows && mark.dataset.r ? rows.children[mark.dataset.r - 1] : null;
  };
  const leave = () => {
    tip.hidden = true;
    lit?.classList.remove("lit");
    lit = null;
  };
  document.addEventListener("pointerover", (e) => {
    const mark = e.target.closest(".chart [data-r], .chart [data-t]");
    leave();
    if (!mark) return;
    lit = rowOf(mark);
    lit?.classList.add("lit");
    tip.textContent = mark.dataset.t || "";
    if (lit) {
      const [time, where, text] = lit.children;
      const strong = document.createElement("b");
      strong.textContent = "+" + time.textContent + " s  " + where.textContent;
      tip.append(strong, text.textContent);
    }
    tip.hidden = !tip.textContent;
    const at = mark.getBoundingClientRect(), box = tip.getBoundingClientRect();
    tip.style.left = Math.max(8, Math.min(innerWidth - box.width - 8, at.left + at.width / 2 - box.width / 2)) + "px";
    tip.style.top = (at.top - box.height - 8 > 0 ? at.top - box.height - 8 : at.bottom + 8) + "px";
  });
  addEventListener("scroll", leave, { passive: true });
  document.addEventListener("keydown", (e) => e.key === "Escape" && leave());
  document.addEventListener("click", (e) => {
    const mark = e.target.closest(".chart [data-r]");
    const row = mark && rowOf(mark);
    if (!row) return;
    const box = row.closest(".rows");
    box.scrollTop = row.offsetTop - box.clientHeight / 3;
    row.classList.add("lit");
    setTimeout(() => row.classList.remove("lit"), 1500);
  });
})();
