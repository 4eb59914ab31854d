"use strict";
// The controls of a 3D view: looks, sides, and for each layer whether it is shown, how opaque, and by what coloured.

/** Make an element; text is text, never markup. */
function made(tag, about = {}, ...inside) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(about)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...inside);
  return element;
}

function buttons(label, names, press, about = {}) {
  const all = names.map((name) => made("button", { type: "button", ...about, onclick: () => press(name) }, name));
  return made("div", { role: "group", "aria-label": label, class: "buttons" }, made("span", { "aria-hidden": "true" }, label), ...all);
}

/** Draw which colour means how much, and say it in words. */
function legend(scene, layers) {
  return layers.flatMap((layer) => {
    const field = layer.opacity > 0 && layer.values.find((each) => each.name === layer.shown);
    if (!field) return [];
    const bar = made("div", { class: "bar", "aria-hidden": "true" });
    bar.style.background = `linear-gradient(to right, ${scene.maps[field.map].map((c) => `rgb(${c.map(Math.round)})`)})`;
    const signed = field.map === "distance", ends = signed
      ? [`${-field.to} mm, inside`, "0, on the surface", `${field.to} mm, outside`]
      : ["0 mm, certain", `${field.to / 2} mm`, `${field.to} mm and more`];
    const words = made("div", { class: "ends" }, ...ends.map((text) => made("span", {}, text)));
    return [made("div", {}, `${layer.title}: ${field.name}`, bar, words)];
  });
}

/** Build the controls of one layer; ``changed`` is called when one is used. */
function layerControls(layer, changed) {
  const id = (what) => `${layer.key}-${what}`;
  const box = made("input", { type: "checkbox", id: id("show") });
  const slider = made("input", { type: "range", id: id("opacity"), min: 5, max: 100, step: 5 });
  const choices = ["", ...(layer.colours ? ["own colours"] : []), ...layer.values.map((each) => each.name)];
  const choice = made("select", { id: id("colour") },
    ...choices.map((name) => made("option", { value: name }, name || "one colour")));
  const read = () => {
    layer.opacity = box.checked ? slider.value / 100 : 0;
    layer.shown = choice.value;
    changed();
  };
  box.addEventListener("change", read);
  slider.addEventListener("input", () => { box.checked = true; read(); });
  choice.addEventListener("change", () => { box.checked = true; read(); });
  layer.set = ([opacity, shown]) => {
    box.checked = opacity > 0;
    slider.value = 100 * (opacity || 1);
    choice.value = choices.includes(shown) ? shown : "";
    layer.opacity = opacity;
    layer.shown = choice.value;
    slider.setAttribute("aria-valuetext", `${slider.value} percent`);
  };
  slider.addEventListener("input", () => slider.setAttribute("aria-valuetext", `${slider.value} percent`));
  return made("fieldset", {}, made("legend", {}, layer.title),
    made("label", { for: id("show") }, box, "shown"),
    made("label", { for: id("opacity") }, "opacity", slider),
    made("label", { for: id("colour") }, "colours", choice));
}

/** Put the 3D view into the section, and fold the picture away. */
async function start(section, scene) {
  const canvas = made("canvas", { tabindex: 0, role: "application", "aria-roledescription": "3D view", "aria-describedby": "keys",
    "aria-label": "Result in 3D" });
  if (!canvas.getContext("webgl2") || typeof DecompressionStream === "undefined") throw new Error("no WebGL 2");
  const topology = await facesOf(scene.topology), layers = [];
  for (const packed of scene.layers) layers.push(await layerOf(packed, topology));
  const value = made("p", { role: "status", class: "value" }, "Point at the view to read values, or press Enter in it.");
  const bars = made("div", { class: "bars" });
  const viewer = new Viewer(canvas, scene, layers, (words) => { value.textContent = words; });
  const changed = () => { viewer.redraw(); bars.replaceChildren(...legend(scene, layers)); };
  const fits = (look) => Object.keys(look).every((key) => layers.some((each) => each.key === key)) &&
    Object.entries(look).every(([key, [, shown]]) => !shown || layers.find((each) => each.key === key).values.some((v) => v.name === shown));
  const only = { surface: [1, ""] }, looks = Object.keys(LOOKS).filter((name) => fits(LOOKS[name]));
  const take = (look) => { for (const layer of layers) layer.set(look[layer.key] ?? [0, ""]); changed(); };
  const press = (group, name) => {
    for (const button of group.querySelectorAll("button")) button.setAttribute("aria-pressed", String(button.textContent === name));
  };
  const choose = buttons("Show", looks, (name) => { take(LOOKS[name]); press(choose, name); }, { "aria-pressed": "false" });
  const free = () => { press(choose, null); changed(); };
  const sides = buttons("From", scene.views.map((each) => each.name), (name) => viewer.look(name));
  const moves = buttons("Move", ["turn left", "turn right", "nearer", "farther", "reset"], (name) => {
    ({ "turn left": () => viewer.turn(0, -0.3), "turn right": () => viewer.turn(0, 0.3), nearer: () => viewer.nearer(0.8),
      farther: () => viewer.nearer(1.25), reset: () => viewer.look(scene.views[0].name) })[name]();
  });
  const keys = made("p", { id: "keys", class: "faint" }, "Drag to turn, Shift and drag to move, wheel to zoom. Keys: arrows turn, " +
    "Shift and arrows move, + and - zoom, Home resets, Enter reads the value in the middle.");
  const panel = made("div", { class: "panel" }, choose, sides, moves, ...[...layers].reverse().map((each) => layerControls(each, free)));
  section.querySelector("#view3d").append(made("div", { class: "view" }, made("div", {}, canvas, bars, value, keys), panel));
  for (const picture of section.querySelectorAll("[data-fold]")) picture.open = false;
  take(looks.length ? LOOKS[looks[0]] : only);
  if (looks.length) press(choose, looks[0]);
  section.dataset.ready = "3D";
}

const section = document.getElementById("view");
start(section, JSON.parse(document.getElementById("scene").textContent)).catch((error) => {
  section.dataset.ready = "picture";
  const note = document.getElementById("no3d");
  note.hidden = false;
  note.append(` (${error.message})`);
});
