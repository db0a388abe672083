// Files that were chosen or dropped, folders among them, put together as questions to the server.

const ALONE = /\.(nii|nii\.gz|png|jpe?g|mat)$/i;
const HEAD = 65536; // bytes in which the series of a DICOM file is looked for

const pathOf = (file) => file.path ?? file.webkitRelativePath ?? "";
const folderOf = (file) => pathOf(file).split("/").slice(0, -1).join("/");

// All files of a drop, those in folders with their path. To be called while the event is handled.
export async function dropped(transfer) {
  const items = [...transfer.items].filter((item) => item.kind === "file");
  const found = items.map((item) => ({entry: item.webkitGetAsEntry?.(), file: item.getAsFile()}));
  const files = await Promise.all(found.map(({entry, file}) => entry?.isDirectory ? walk(entry) : file ? [file] : []));
  return files.flat();
}

async function walk(entry) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    return [Object.assign(file, {path: entry.fullPath.replace(/^\//, "")})];
  }
  const reader = entry.createReader(), files = [];
  // The entries come in portions.
  for (;;) {
    const entries = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!entries.length) return files;
    for (const each of entries) files.push(...await walk(each));
  }
}

// One image is one question, so that results come one by one: a file by itself, or a DICOM series of one folder. Of
// folders, what is no image is left out; of files that were chosen by hand, the server says what is wrong with them.
export async function questions(files) {
  const groups = new Map();
  let leftOut = 0;
  // Those of folders come in any order.
  const ordered = [...files].sort((a, b) => pathOf(a).localeCompare(pathOf(b), "en", {numeric: true}));
  for (const file of ordered) {
    const within = pathOf(file) !== "";
    let key = `file ${groups.size}`;
    if (within && /^(\..*|DICOMDIR)$/i.test(file.name)) {
      leftOut++;
      continue;
    }
    if (!ALONE.test(file.name)) {
      const head = new Uint8Array(await file.slice(0, HEAD).arrayBuffer().catch(() => new ArrayBuffer(0)));
      const dicom = String.fromCharCode(...head.subarray(128, 132)) === "DICM";
      if (within && !dicom) {
        leftOut++;
        continue;
      }
      key = `series ${folderOf(file)} ${dicom ? seriesOf(head) : ""}`;
    }
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(file);
  }
  return {groups: [...groups.values()], leftOut};
}

// The SeriesInstanceUID, (0020,000E), that follows the study's: others may be in sequences before. The server reads the
// whole header, and decides; this only keeps series of a study apart, so that each has an upload of its own.
function seriesOf(head) {
  let last = "";
  for (let i = 132; i + 8 < head.length; i++) {
    if (head[i] !== 0x20 || head[i + 1] !== 0 || head[i + 2] !== 0x0e || head[i + 3] !== 0) continue;
    const explicit = head[i + 4] === 0x55 && head[i + 5] === 0x49; // UI
    const length = explicit ? head[i + 6] + 256 * head[i + 7] : head[i + 4] + 256 * head[i + 5];
    const uid = String.fromCharCode(...head.subarray(i + 8, i + 8 + Math.min(length, 64))).replace(/\0+$/, "");
    if (/^[\d.]+$/.test(uid)) last = uid;
  }
  return last;
}
