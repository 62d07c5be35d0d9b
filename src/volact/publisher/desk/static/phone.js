// The phone desk's digits: each group is checked while it is typed (docs/spec/phone.md §1); the server checks again.
(function () {
  "use strict";
  const DAMM = ["0317598642", "7092154863", "4206871359", "1750983426", "6123045978", "3674209581", "5869720134", "8945362017", "9438617205", "2581436790"];
  const WIDTH = 7;
  function isRight(place, digits) {
    let state = place % 10;
    for (const digit of digits) state = Number(DAMM[state][Number(digit)]);
    return state === 0;
  }
  function onlyDigits(text) { return text.normalize("NFKC").replace(/[^0-9]/g, ""); }

  const form = document.querySelector("form[data-phone]");
  if (!form) return;
  const boxes = Array.from(form.querySelectorAll("input[data-group]"));
  const said = form.querySelector("[data-said]"), button = form.querySelector("button[data-look-up]");
  const count = form.querySelector("[data-typed]");

  function mark(box) {
    const place = boxes.indexOf(box), digits = box.value, whole = digits.length === WIDTH;
    const state = !digits ? "" : !whole ? "part" : isRight(place, digits) ? "right" : "wrong";
    box.dataset.state = state;
    box.setAttribute("aria-invalid", String(state === "wrong"));
    return state;
  }
  function tell() {
    const states = boxes.map(mark);
    const wrong = states.map((state, i) => (state === "wrong" ? i + 1 : 0)).filter(Boolean);
    const right = states.filter((state) => state === "right").length;
    const text = wrong.length ? "Group " + wrong.join(", ") + (wrong.length > 1 ? " are" : " is") + " wrong: ask for " + (wrong.length > 1 ? "them" : "it") + " again." : right === boxes.length ? "All groups are right." : "";
    if (said.textContent !== text) said.textContent = text;
    said.dataset.state = wrong.length ? "wrong" : right === boxes.length ? "right" : "";
    count.textContent = right + " of " + boxes.length;
    button.disabled = right !== boxes.length;
    return right === boxes.length;
  }
  function fill(place, digits) { // what does not fit one box goes into those after it
    for (let i = place; i < boxes.length && digits; i += 1) { boxes[i].value = digits.slice(0, WIDTH); digits = digits.slice(WIDTH); place = i; }
    return place;
  }
  boxes.forEach((box, place) => {
    box.addEventListener("input", () => {
      const digits = onlyDigits(box.value);
      let last = place;
      if (digits.length > WIDTH) last = fill(place, digits); else box.value = digits;
      const done = tell();
      const at = boxes[last];
      if (done) button.focus();
      else if (at.value.length === WIDTH && at.dataset.state === "right" && last + 1 < boxes.length) boxes[last + 1].focus();
      else if (at.dataset.state === "wrong") { at.focus(); at.select(); }
    });
    box.addEventListener("keydown", (event) => {
      if (event.key === "Backspace" && !box.value && place > 0) { event.preventDefault(); boxes[place - 1].focus(); }
      if ((event.key === " " || event.key === "-") && box.value) event.preventDefault();
    });
    box.addEventListener("paste", (event) => {
      event.preventDefault();
      const digits = onlyDigits((event.clipboardData || window.clipboardData).getData("text"));
      const last = fill(place, digits);
      if (tell()) button.focus(); else boxes[Math.min(last + 1, boxes.length - 1)].focus();
    });
  });
  tell();
})();
