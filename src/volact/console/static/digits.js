// Digits of an ID that a person types: each group of seven is checked as soon as it is whole, and a wrong one is named.
// The same rule as volact.core.phone (docs/spec/phone.md, section 1); the server checks again.
(function () {
  "use strict";
  const DAMM = ["0317598642", "7092154863", "4206871359", "1750983426", "6123045978", "3674209581", "5869720134", "8945362017", "9438617205", "2581436790"];
  const GROUP = 7;

  function isRight(group, place) {
    let state = place % 10;
    for (const digit of group) state = Number(DAMM[state][Number(digit)]);
    return state === 0;
  }

  function show(area, list) {
    const digits = area.value.replace(/[\s\-.,;:/]/g, "");
    const odd = /[^0-9]/.test(digits);
    list.replaceChildren();
    const wrong = [];
    for (let start = 0; start < digits.length; start += GROUP) {
      const group = digits.slice(start, start + GROUP), place = start / GROUP;
      const item = document.createElement("li");
      item.textContent = group;
      item.className = "mono";
      if (group.length === GROUP && !odd) {
        const right = isRight(group, place);
        item.classList.add(right ? "digits-right" : "digits-wrong");
        if (!right) wrong.push(place + 1);
      }
      list.append(item);
    }
    area.setAttribute("aria-invalid", String(wrong.length > 0 || odd));
    const note = area.parentElement.querySelector("[data-digits-note]");
    note.textContent = odd ? "Only digits belong here." : wrong.length ? "Group " + wrong.join(", ") + " has a typing error." : "";
  }

  document.querySelectorAll("textarea[data-digits]").forEach(function (area) {
    const list = document.createElement("ol"), note = document.createElement("p");
    list.className = "digit-groups digits-typed";
    list.setAttribute("aria-hidden", "true");
    note.className = "field-error";
    note.setAttribute("data-digits-note", "");
    note.setAttribute("role", "status");
    area.after(list, note);
    area.addEventListener("input", () => show(area, list));
    if (area.value) show(area, list);
  });
})();
