"use strict";
// The page of lvdreg serve: sends files one after the other, and shows how they stand.

const about = JSON.parse(document.getElementById("about").textContent);
const by = (id) => document.getElementById(id);
const cards = new Map();
let timer, open;

/** Make an element; text is text, never markup. */
function made(tag, attributes = {}, ...inside) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value);
  }
  element.append(...inside);
  return element;
}

const say = (words) => { by("said").textContent = words; };

/** Ask the server; what it refuses is an error with its words. */
async function ask(method, path, options = {}, body = undefined) {
  const headers = { "x-lvdreg-token": about.token };
  if (body) headers["content-type"] = "application/octet-stream";
  const answer = await fetch(`${path}?${new URLSearchParams(options)}`, { method, headers, body });
  if (!answer.ok) throw new Error((await answer.text()).trim());
  return answer.status === 204 ? null : answer.json();
}

/** Send files, one after the other. */
async function send(files) {
  const kind = by("kind").value, failed = [];
  for (const [number, file] of [...files].entries()) {
    say(`Sending ${file.name} (${number + 1} of ${files.length})`);
    try {
      if (file.size > about.limit) throw new Error(`larger than ${about.limit >> 20} MB`);
      await ask("POST", "/jobs", { kind, name: file.name, model: by("model").value }, file);
    } catch (error) {
      failed.push(`${file.name}: ${error.message}`);
    }
    refresh();
  }
  by("files").value = "";
  say(failed.length ? `Not taken: ${failed.join("; ")}` : "All files are there.");
}

function button(label, press) {
  return made("button", { type: "button", onclick: async () => { try { await press(); } catch (error) { say(error.message); } refresh(); } }, label);
}

/** Build what stands for one job. */
function card(job) {
  const picture = made("span", { class: "blank" }), badge = made("strong", { class: "verdict" });
  const stage = made("p", { class: "faint" }), bar = made("progress", { max: about.stages.length, "aria-label": `Progress of ${job.name}` });
  const actions = made("p", { class: "buttons" }), wrong = made("details", {}, made("summary", {}, "Wrong? Correct it and run it again"));
  const choices = about.options[job.kind].map((name) => {
    const select = made("select", {}, ...about.choices[name].map((value) => made("option", { value }, value)));
    select.value = job.options[name];
    select.dataset.name = name;
    return made("label", {}, `${about.words[name]} `, select);
  });
  const again = button("Run again", async () => {
    const options = Object.fromEntries([...wrong.querySelectorAll("select")].map((each) => [each.dataset.name, each.value]));
    await ask("POST", `/jobs/${job.id}/again`, options);
    say(`${job.name} is run again.`);
  });
  wrong.append(made("p", { class: "filters" }, ...choices, again));
  const options = Object.entries(job.options).filter(([, value]) => value !== "auto").map(([name, value]) => `${about.words[name] ?? name} ${value}`);
  const title = made("p", {}, badge, " ", made("strong", {}, job.name), ` (${[about.kinds[job.kind], ...options].join(", ")})`);
  const element = made("li", { "data-id": job.id }, picture, made("div", {}, title, stage, bar, actions, wrong));
  return { element, picture, badge, stage, bar, actions, wrong, state: "" };
}

/** Bring a card up to date; buttons are made when a job is finished, and stay. */
function update(shown, job) {
  const busy = job.state === "waiting" || job.state === "running", number = about.stages.indexOf(job.stage);
  shown.badge.textContent = job.state === "done" ? job.verdict : job.state;
  shown.badge.className = `verdict ${job.state === "done" ? job.verdict : job.state}`;
  shown.stage.textContent = job.state === "running" ? `Now: ${job.stage}` : job.state === "waiting" ? "Waiting for its turn" : job.reason;
  shown.bar.hidden = job.state !== "running";
  if (number >= 0) shown.bar.value = number; else if (job.state === "running") shown.bar.value ||= 1;
  shown.wrong.hidden = busy || !about.options[job.kind].length;
  if (shown.state === job.state) return;
  shown.state = job.state;
  const remove = button(busy ? "Cancel" : "Remove", async () => { await ask("DELETE", `/jobs/${job.id}`); if (open === job.id) close(); });
  const links = [["zip", "Download all (zip)"], ["glb", "3D model (glb)"]].filter(([what]) => job.files.includes(what))
    .map(([what, words]) => made("a", { href: `/jobs/${job.id}/${what}`, download: "" }, words));
  const look = job.files.includes("page") ? [button("Show in 3D", () => show(job))] : [];
  shown.actions.replaceChildren(...look, ...links, remove);
  if (job.files.includes("thumbnail")) shown.picture.replaceWith(shown.picture = made("img", { src: `/jobs/${job.id}/thumbnail`, alt: "" }));
}

/** Show the page of a result, which may not touch this one. */
function show(job) {
  open = job.id;
  by("shown").hidden = false;
  by("shown-title").textContent = job.name;
  by("frame").replaceChildren(made("iframe", { src: `/jobs/${job.id}/page`, title: `Result: ${job.name}`, sandbox: "allow-scripts" }));
  by("shown").scrollIntoView();
}

function close() {
  open = undefined;
  by("shown").hidden = true;
  by("frame").replaceChildren();
}

async function refresh() {
  clearTimeout(timer);
  let jobs;
  try {
    jobs = await ask("GET", "/jobs");
  } catch {
    say("The server does not answer. Start lvdreg serve again; nothing that is finished is lost.");
    timer = setTimeout(refresh, 3000);
    return;
  }
  for (const [id, shown] of cards) if (!jobs.some((job) => job.id === id)) { shown.element.remove(); cards.delete(id); }
  for (const job of [...jobs].reverse()) {
    if (!cards.has(job.id)) { cards.set(job.id, card(job)); by("jobs").prepend(cards.get(job.id).element); }
    update(cards.get(job.id), job);
  }
  by("none").hidden = jobs.length > 0;
  const busy = jobs.some((job) => job.state === "waiting" || job.state === "running");
  timer = setTimeout(refresh, busy ? 500 : 5000);
}

function choose() {
  const kind = by("kind").value;
  by("model").replaceChildren(...about.models[kind].map((name) => made("option", { value: name }, name)));
  by("files").accept = about.suffixes[kind].join(",");
}

by("kind").addEventListener("change", choose);
by("files").addEventListener("change", () => send(by("files").files));
by("add").addEventListener("submit", (event) => event.preventDefault());
for (const name of ["dragover", "drop"]) addEventListener(name, (event) => event.preventDefault());
addEventListener("drop", (event) => { if (event.dataTransfer.files.length) send(event.dataTransfer.files); });
choose();
refresh();
