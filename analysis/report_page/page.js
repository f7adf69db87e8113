"use strict";
const root = document.documentElement;
addEventListener("error", (e) => { root.dataset.error = e.message; });

// a switch shows or hides everything of its kind on the whole page
for (const box of document.querySelectorAll("input[data-shows]")) {
  const set = () => root.classList.toggle("no-" + box.dataset.shows, !box.checked);
  box.addEventListener("change", set);
  set();
}

// pairs in another order; the first one is the store's
const order = document.querySelector("#order"), grid = document.querySelector("#pairs-grid");
if (order && grid) {
  order.addEventListener("change", () => {
    const key = order.value, sign = key === "slot" ? 1 : -1;
    const of = (card) => Number(card.dataset[key] || -1);
    for (const card of [...grid.children].sort((a, b) => sign * (of(a) - of(b)))) grid.append(card);
  });
}

// a picture at the window's size
const dialog = document.querySelector("dialog");
const stage = dialog.querySelector(".stage"), text = dialog.querySelector("p");
for (const open of document.querySelectorAll("button.enlarge")) {
  open.addEventListener("click", () => {
    stage.replaceChildren(...[...open.parentElement.children].filter((e) => e !== open).map((e) => e.cloneNode(true)));
    text.textContent = stage.querySelector("img").alt;
    dialog.showModal();
  });
}
dialog.addEventListener("click", (e) => { if (e.target === dialog) dialog.close(); });
dialog.querySelector("button").addEventListener("click", () => dialog.close());

// what is folded is printed too
let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")];
  for (const d of folded) d.open = true;
});
addEventListener("afterprint", () => { for (const d of folded) d.open = false; });

root.dataset.ready = "yes";
