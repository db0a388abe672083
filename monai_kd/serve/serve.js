import {dropped, questions} from "./study.js";
import {bytesOf, element, viewer} from "./viewer.js";

const [main, drop, input, folder, status, busy, clear, results] = ["main", "#drop", "#files", "#folder", "#status",
  "#busy", "#clear", "#results"].map((selector) => document.querySelector(selector));
const mostBytes = Number(main.dataset.mostBytes);
let working = false;

const percent = (p) => `${(100 * p).toFixed(1)}\u00a0%`;
const size = (row) => row.area_mm2 === undefined ? `${row.area_px}\u00a0pixels` : `${row.area_mm2.toFixed(1)}\u00a0mm²`;

function list(pairs) {
  return element("dl", {}, ...pairs.flatMap(([term, text]) =>
    [element("dt", {textContent: term}), element("dd", {}, text)]));
}

function saved(file, kind) {
  const href = URL.createObjectURL(new Blob([bytesOf(file.content)], {type: kind}));
  return element("a", {href, download: file.name, textContent: file.name});
}

function segmentation(row) {
  const found = row.tumour === "yes", several = row.slices > 1;
  const facts = [];
  if (found) {
    for (const [name, own] of Object.entries(row.segmented)) facts.push([`Outlined as ${name}`, own]);
    facts.push(["Mean probability", `${percent(row.mean_probability)} within the outline`]);
    if (several) {
      facts.push(["Largest in", `slice ${row.largest_slice + 1} of ${row.slices}`]);
      facts.push(["Outlined in", `${row.slices_with_tumour} of ${row.slices} slices`]);
      if (row.volume_mm3 !== undefined) facts.push(["Volume", `${row.volume_mm3.toFixed(0)}\u00a0mm³`]);
    }
    if (row.area_mm2 === undefined) facts.push(["Size of a pixel", "not known, so there are no millimetres"]);
  } else {
    const where = several ? `, in slice ${row.slice + 1} of ${row.slices}` : "";
    facts.push(["Highest probability", percent(row.highest_probability) + where]);
  }
  if (row.presence_threshold !== undefined) {
    facts.push(["Presence score", `${row.presence_score.toFixed(3)}; at least ${row.presence_threshold.toFixed(3)} counts as ${row.finds}`]);
  }
  if (!row.oriented) facts.push(["Left and right", "not known: the file does not say how the slice lies"]);
  // An unknown size of a pixel is a fact of its own.
  const remarks = row.reason.split("; ").filter((remark) => remark && !remark.startsWith("spacing not known"));
  if (remarks.length) facts.push(["Remark", remarks.join("; ")]);
  facts.push([found ? "Mask" : "Mask (empty)", saved(row.mask, "application/octet-stream")]);
  if (row.dicom_seg) facts.push(["DICOM SEG", saved(row.dicom_seg, "application/dicom")]);
  if (row.tumour === "not judged") return [element("p", {className: "main", textContent: "Not judged"}), list(facts)];
  const title = found ? `${row.finds[0].toUpperCase()}${row.finds.slice(1)}: ${size(row)}` : `No ${row.finds} found`;
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
      `${lesion.longest_diameter_mm.toFixed(1)}\u00a0mm, slice ${lesion.diameter_slice + 1}`,
      `${lesion.perpendicular_diameter_mm.toFixed(1)}\u00a0mm`,
      `${lesion.z0 + 1}` + (lesion.z1 > lesion.z0 ? ` to ${lesion.z1 + 1}` : ""), percent(lesion.mean_probability)]))))];
}

function classification(row) {
  const uncertain = row.uncertain === "yes", several = row.slices > 1;
  const bars = element("div", {className: "bars"});
  for (const [name, p] of Object.entries(row.probabilities)) {
    const filled = element("span");
    filled.style.width = `${100 * p}%`;
    const bar = element("i", {ariaHidden: "true"}, filled);
    bars.append(element("b", {className: name === row.class && !uncertain ? "best" : "", textContent: name}), bar,
      element("span", {textContent: percent(p)}));
  }
  const where = several ? ` (slice ${row.slice + 1} of ${row.slices})` : "";
  const title = `Class: ${uncertain ? "uncertain" : row.class}${where}`;
  const judged = row.tumour === "yes" && row.class !== "not judged";
  const made = element("div", {className: judged ? "class" : "class greyed"},
    element("p", {className: uncertain ? "main uncertain" : "main", textContent: title}), bars);
  const notes = row.class_note ? [row.class_note] : [];
  if (judged && row.slices_with_tumour > 1) {
    const votes = Object.entries(row.votes).map(([name, count]) => `${count} ${name}`).join(", ");
    notes.push(`Of the ${row.slices_with_tumour} slices with ${row.finds}: ${votes}.`);
  }
  made.append(...notes.map((note) => element("p", {className: "note", textContent: note})));
  return made;
}

async function shown(row) {
  try {
    return await viewer(row.view, row.file);
  } catch {
    // A browser that can't unpack the pixels.
    const alt = row.tumour === "yes" ? `Outline of the ${row.finds}` : "The slice, without an outline";
    return element("img", {src: row.picture, alt});
  }
}

async function article(row) {
  const made = element("article", {className: "card"}, element("h2", {textContent: row.file}));
  if (row.status !== "ok") {
    made.append(element("p", {className: "bad", textContent: `It could not be used: ${row.reason}.`}));
    return made;
  }
  if (row.warning) made.append(element("p", {className: "warning", textContent: `Warning: ${row.warning}.`}));
  made.append(element("div", {className: "found"}, await shown(row),
    element("div", {}, ...segmentation(row), classification(row))), ...lesionTable(row));
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

async function examine(gathered) {
  if (working) return;
  working = true;
  let used = 0, refused = 0;
  let files;
  try {
    files = await gathered;
  } catch {
    status.textContent = "What was dropped can't be read.";
    working = false;
    return;
  }
  if (!files.length) {
    working = false;
    return;
  }
  input.disabled = folder.disabled = true;
  busy.hidden = false;
  status.textContent = `Looking at ${files.length} file${files.length > 1 ? "s" : ""} …`;
  const {groups, leftOut} = await questions(files);
  for (const [number, group] of groups.entries()) {
    const count = groups.length > 1 ? `${number + 1} of ${groups.length}: ` : "";
    status.textContent = `Examining ${count}${group[0].name}${group.length > 1 ? ` and ${group.length - 1} more` : ""} …`;
    for (const row of await ask(group)) {
      row.status === "ok" ? used++ : refused++;
      results.prepend(await article(row));
    }
  }
  const others = leftOut ? ` ${leftOut} other file${leftOut > 1 ? "s" : ""} of the folder left out.` : "";
  status.textContent = `Done: ${used} examined` + (refused ? `, ${refused} could not be used.` : ".") + others;
  working = false;
  input.disabled = folder.disabled = false;
  input.value = folder.value = "";
  busy.hidden = true;
  clear.hidden = false;
}

for (const each of [input, folder]) each.addEventListener("change", () => examine([...each.files]));
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
  examine(dropped(event.dataTransfer));
});
