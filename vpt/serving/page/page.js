"use strict";

const at = (id) => document.getElementById(id);
let chosen = null;

// Texts of the service are put in as texts, never as HTML.
function made(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key in node && key !== "for") node[key] = value;
    else node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

function say(where, text, bad = false) {
  where.textContent = text;
  where.classList.toggle("bad", bad);
}

async function ask(path, options = {}) {
  const token = sessionStorage.getItem("token");
  const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  const response = await fetch(path, { ...options, headers });
  if (response.status === 401) {
    at("access").hidden = false;
    at("token").focus();
  }
  return response;
}

async function json(path, options) {
  const response = await ask(path, options);
  const found = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(found.error || `the service answered ${response.status}`);
  return found;
}

async function begin() {
  try {
    const found = await json("tasks");
    at("access").hidden = true;
    const boxes = found.tasks.map((task, index) => {
      const box = made("input", { type: "checkbox", name: "task", value: task.name, checked: index === 0 });
      const names = task.classes.slice(0, 4).join(", ") + (task.classes.length > 4 ? ", …" : "");
      return made("label", { className: "check", title: names }, box, made("span", {}, task.name, " ", made("small", {}, `${task.classes.length} classes`)));
    });
    at("tasks").replaceChildren(made("legend", {}, "Tasks"), ...boxes);
    at("gallery").hidden = !found.search;
    say(at("said"), found.tasks.length ? "" : "There are no tasks yet.");
  } catch (error) {
    say(at("said"), error.message, true);
  }
}

function take(file) {
  if (!file) return;
  chosen = file;
  at("go").disabled = false;
  const preview = at("preview");
  if (preview.src) URL.revokeObjectURL(preview.src);
  preview.src = URL.createObjectURL(file);
  preview.alt = file.name || "the image";
  preview.hidden = false;
  at("prompt").hidden = true;
  say(at("said"), "");
}

async function classify(event) {
  event.preventDefault();
  const names = [...document.querySelectorAll("input[name=task]:checked")].map((box) => box.value);
  if (!chosen || !names.length) {
    say(at("said"), chosen ? "Choose a task." : "Choose an image.", true);
    return;
  }
  at("go").disabled = true;
  say(at("said"), "Looking …");
  try {
    const query = new URLSearchParams(names.map((name) => ["task", name]));
    query.set("look", at("look").checked);
    const headers = { "Content-Type": chosen.type.startsWith("image/") ? chosen.type : "application/octet-stream" };
    const found = await json(`classify?${query}`, { method: "POST", body: chosen, headers });
    at("results").replaceChildren(...found.results.map(shown));
    say(at("said"), found.results.map((each) => `${each.task}: ${each.label}, ${percent(each.score)}`).join("; "));
    at("results").focus();
  } catch (error) {
    at("results").replaceChildren();
    say(at("said"), error.message, true);
  }
  at("go").disabled = false;
}

const percent = (share) => `${(100 * share).toFixed(1)} %`;

function shown(result) {
  const rows = result.scores.map((each) => {
    const bar = made("div", { className: "bar", ariaHidden: "true" });
    bar.style.width = `${100 * each.score}%`;
    return made("li", {}, bar, made("span", {}, each.label), made("span", { className: "number" }, percent(each.score)));
  });
  const card = made("article", { ariaLabel: result.task }, made("h2", {}, result.task),
    made("p", { className: "label" }, `${result.label} (${percent(result.score)})`), made("ul", { className: "scores" }, ...rows));
  if (result.look) card.append(result.look.why ? made("p", {}, `Where it looked is not known: ${result.look.why}`) : map(result.look, result));
  return card;
}

// The image as the model sees it, under a veil that is thin where the model looked.
function map(look, result) {
  const canvas = made("canvas", { role: "img", ariaLabel: `where the model looked for ${result.label}` });
  const seen = new Image();
  seen.onload = () => {
    const scale = Math.max(1, Math.round(320 / seen.width));
    canvas.width = seen.width * scale;
    canvas.height = seen.height * scale;
    const pen = canvas.getContext("2d");
    pen.drawImage(seen, 0, 0, canvas.width, canvas.height);
    const veil = new OffscreenCanvas(look.columns, look.rows);
    const dots = new ImageData(look.columns, look.rows);
    // One patch that is looked at more than all others would leave those in the dark.
    const most = [...look.values].sort((a, b) => a - b)[Math.floor(0.95 * (look.values.length - 1))] || 1;
    look.values.forEach((value, index) => dots.data.set([8, 8, 24, 190 * (1 - Math.min(1, value / most))], 4 * index));
    veil.getContext("2d").putImageData(dots, 0, 0);
    pen.imageSmoothingEnabled = true;
    pen.drawImage(veil, 0, 0, canvas.width, canvas.height);
    canvas.dataset.drawn = "true";
  };
  seen.src = look.seen;
  return made("figure", {}, canvas, made("figcaption", {}, "As the model sees it; bright where it looked (last block)."));
}

async function search(event) {
  event.preventDefault();
  say(at("found"), "Searching …");
  try {
    const found = await json(`search?${new URLSearchParams({ text: at("words").value })}`);
    const hits = await Promise.all(found.results.map(async (hit) => {
      const picture = await ask(`images/${hit.number}`);
      const image = made("img", { alt: hit.name, src: URL.createObjectURL(await picture.blob()) });
      image.onload = () => URL.revokeObjectURL(image.src);
      return made("li", {}, image, made("small", {}, `${hit.name} (${hit.similarity.toFixed(3)})`));
    }));
    at("hits").replaceChildren(...hits);
    say(at("found"), `${hits.length} images`);
  } catch (error) {
    at("hits").replaceChildren();
    say(at("found"), error.message, true);
  }
}

at("file").addEventListener("change", (event) => take(event.target.files[0]));
for (const kind of ["dragenter", "dragover"]) {
  at("drop").addEventListener(kind, (event) => { event.preventDefault(); at("drop").classList.add("over"); });
}
for (const kind of ["dragleave", "drop"]) {
  at("drop").addEventListener(kind, (event) => { event.preventDefault(); at("drop").classList.remove("over"); });
}
at("drop").addEventListener("drop", (event) => take(event.dataTransfer.files[0]));
document.addEventListener("paste", (event) => take([...event.clipboardData.files].find((file) => file.type.startsWith("image/"))));
at("ask").addEventListener("submit", classify);
at("search").addEventListener("submit", search);
at("access").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", at("token").value);
  begin();
});
begin();
