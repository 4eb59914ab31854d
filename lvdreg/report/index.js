"use strict";
// The filters of an index: what does not fit is hidden, and how many are left is said.

const cards = [...document.querySelectorAll(".cards li")];
const list = document.querySelector(".cards");
const controls = ["verdict", "model", "order", "text"].map((id) => document.getElementById(id));
const [verdict, model, order, text] = controls;

function filter() {
  const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const card of cards) {
    const fits = (!verdict.value || card.dataset.verdict === verdict.value) && (!model.value || card.dataset.model === model.value) &&
      words.every((word) => card.dataset.text.includes(word));
    card.hidden = !fits;
    count += fits;
  }
  document.getElementById("count").textContent = `${count} of ${cards.length} shown`;
}

function sort() {
  const names = new Intl.Collator(undefined, { numeric: true });
  const sorted = order.value === "name" ? [...cards].sort((a, b) => names.compare(a.dataset.name, b.dataset.name)) : cards;
  list.append(...sorted);
}

for (const control of [verdict, model, text]) control.addEventListener("input", filter);
order.addEventListener("input", sort);
document.querySelector(".filters").hidden = false;
filter();
