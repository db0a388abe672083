"use strict";

// One file is one question, so that results come one by one; a DICOM series is asked about as a whole.
const ALONE = /\.(nii|nii\.gz|png|jpe?g|mat)$/i;

const [main, drop, input, status, busy, clear, results] = ["main", "#drop", "#files", "#status", "#busy", "#clear",
  "#results"].map((selector) => document.querySelector(selector));
const mostBytes = Number(main.dataset.mostBytes);
let working = false;

// Everything that comes from a file becomes text, never markup.
function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

const percent = (p) => `${(100 * p).toFixed(1)}\u00a0%`;
const size = (row) => row.area_mm2 === undefined ? `${row.area_px}\u00a0pixels` : `${row.area_mm2.toFixed(1)}\u00a0mm²`;

function list(pairs) {
  return element("dl", {}, ...pairs.flatMap(([term, text]) =>
    [element("dt", {textContent: term}), element("dd", {}, text)]));
}

function maskLink(mask) {
  const bytes = Uint8Array.from(atob(mask.content), (character) => character.charCodeAt(0));
  const href = URL.createObjectURL(new Blob([bytes], {type: "application/octet-stream"}));
  return element("a", {href, download: mask.name, textContent: mask.name});
}

function segmentation(row) {
  const found = row.tumour === "yes", several = row.slices > 1;
  const facts = [];
  if (found) {
    for (const [name, own] of Object.entries(row.segmented)) facts.push([`Outlined as ${name}`, own]);
    facts.push(["Mean probability", `${percent(row.mean_probability)} within the outline`]);
    if (several) {
      facts.push(["Largest in", `slice ${row.largest_slice} of 0 to ${row.slices - 1}`]);
      facts.push(["Outlined in", `${row.slices_with_tumour} of ${row.slices} slices` +
        (row.slices_with_tumour > 12 ? "; 12 are shown" : "")]);
      if (row.volume_mm3 !== undefined) facts.push(["Volume", `${row.volume_mm3.toFixed(0)}\u00a0mm³`]);
    }
    if (row.area_mm2 === undefined) facts.push(["Size of a pixel", "not known, so there are no millimetres"]);
  } else {
    facts.push(["Highest probability", percent(row.highest_probability) + (several ? `, in slice ${row.slice}` : "")]);
  }
  if (row.presence_threshold !== undefined) {
    facts.push(["Presence score", `${row.presence_score.toFixed(2)}; a tumour has at least ${row.presence_threshold.toFixed(2)}`]);
  }
  facts.push([found ? "Mask" : "Mask (empty)", maskLink(row.mask)]);
  if (row.tumour === "not judged") return [element("p", {className: "main", textContent: "Not judged"}), list(facts)];
  const title = found ? `Tumour: ${size(row)}` : "No tumour found";
  return [element("p", {className: "main", textContent: title}), list(facts)];
}

function lesionTable(row) {
  const cells = (tag, texts) => element("tr", {}, ...texts.map((textContent) => element(tag, {textContent})));
  const shown = row.lesions.slice(0, 10).filter((lesion) => lesion.longest_diameter_mm !== undefined);
  if (!shown.length) return [];
  const count = `${row.lesion_count} lesion${row.lesion_count === 1 ? "" : "s"}` +
    (row.lesion_count > 10 ? "; the 10 largest" : "");
  return [element("div", {className: "wide"}, element("table", {}, element("caption", {textContent: count}),
    cells("th", ["lesion", "volume", "longest diameter", "× perpendicular", "slices", "mean probability"]),
    ...shown.map((lesion) => cells("td", [
      `${lesion.lesion}` + (lesion.class === undefined ? "" : ` (${lesion.class})`),
      lesion.volume_ml === undefined ? "–" : `${lesion.volume_ml.toFixed(2)}\u00a0ml`,
      `${lesion.longest_diameter_mm.toFixed(1)}\u00a0mm, slice ${lesion.diameter_slice}`,
      `${lesion.perpendicular_diameter_mm.toFixed(1)}\u00a0mm`,
      lesion.z0 + (lesion.z1 > lesion.z0 ? ` to ${lesion.z1}` : ""), percent(lesion.mean_probability)]))))];
}

function classification(row) {
  const bars = element("div", {className: "bars"});
  for (const [name, p] of Object.entries(row.probabilities)) {
    const filled = element("span");
    filled.style.width = `${100 * p}%`;
    const bar = element("i", {ariaHidden: "true"}, filled);
    bars.append(element("b", {className: name === row.class ? "best" : "", textContent: name}), bar,
      element("span", {textContent: percent(p)}));
  }
  const where = row.slices > 1 ? ` (slice ${row.slice})` : "";
  const made = element("div", {className: row.tumour !== "yes" ? "class greyed" : "class"},
    element("p", {className: "main", textContent: `Class: ${row.class}${where}`}), bars);
  let note = "";
  if (row.tumour !== "yes") {
    note = row.tumour !== "no" ? "No tumour was looked for, so this class means nothing." : "The classifier assumes a tumour. None was found, so this class means nothing.";
  } else if (row.slices_with_tumour > 1) {
    const votes = Object.entries(row.votes).map(([name, count]) => `${count} ${name}`).join(", ");
    note = `Of the ${row.slices_with_tumour} slices with tumour: ${votes}.`;
  }
  if (note) made.append(element("p", {className: "note", textContent: note}));
  return made;
}

function article(row) {
  const made = element("article", {className: "card"}, element("h2", {textContent: row.file}));
  if (row.status !== "ok") {
    made.append(element("p", {className: "bad", textContent: `It could not be used: ${row.reason}.`}));
    return made;
  }
  if (row.warning) made.append(element("p", {className: "warning", textContent: `Warning: ${row.warning}.`}));
  const alt = row.tumour === "yes" ? "Outline of the tumour" : "The slice, without an outline";
  const wide = row.slices > 1 && row.slices_with_tumour > 1;
  made.append(element("div", {className: wide ? "found volume" : "found"},
    element("img", {src: row.picture, alt}), element("div", {}, ...segmentation(row), classification(row))), ...lesionTable(row));
  return made;
}

async function ask(files) {
  const name = files[0].name + (files.length > 1 ? ` and ${files.length - 1} more` : "");
  const failed = (reason) => [{file: name, status: "failed", reason}];
  if (files.reduce((sum, file) => sum + file.size, 0) > mostBytes) {
    return failed(`the upload is bigger than the ${mostBytes / 2 ** 20} MB that this server accepts`);
  }
  const form = new FormData();
  for (const file of files) form.append("files", file);
  try {
    const answer = await fetch("slices", {method: "POST", body: form});
    const content = await answer.json();
    return content.files ?? failed(content.error);
  } catch {
    return failed("the server can't be reached, or the file can't be read; is the server still running?");
  }
}

function groups(files) {
  const together = files.filter((file) => !ALONE.test(file.name));
  const alone = files.filter((file) => ALONE.test(file.name)).map((file) => [file]);
  return together.length ? [...alone, together] : alone;
}

async function examine(files) {
  if (working || !files.length) return;
  working = true;
  input.disabled = true;
  busy.hidden = false;
  let used = 0, refused = 0;
  const questions = groups(files);
  for (const [number, group] of questions.entries()) {
    const count = questions.length > 1 ? `${number + 1} of ${questions.length}: ` : "";
    status.textContent = `Examining ${count}${group[0].name}${group.length > 1 ? ` and ${group.length - 1} more` : ""} …`;
    for (const row of await ask(group)) {
      row.status === "ok" ? used++ : refused++;
      results.prepend(article(row));
    }
  }
  status.textContent = `Done: ${used} examined` + (refused ? `, ${refused} could not be used.` : ".");
  working = false;
  input.disabled = false;
  input.value = "";
  busy.hidden = true;
  clear.hidden = false;
}

input.addEventListener("change", () => examine([...input.files]));
clear.addEventListener("click", () => {
  for (const link of results.querySelectorAll("a[download]")) URL.revokeObjectURL(link.href);
  results.replaceChildren();
  status.textContent = "Results removed.";
  clear.hidden = true;
  input.focus();
});
// A file that misses the zone would otherwise be opened by the browser in place of the page.
for (const kind of ["dragover", "drop"]) window.addEventListener(kind, (event) => event.preventDefault());
drop.addEventListener("dragover", () => drop.classList.add("over"));
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => {
  drop.classList.remove("over");
  examine([...event.dataTransfer.files]);
});
