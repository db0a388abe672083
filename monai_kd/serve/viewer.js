// A slice or a volume with its outlines: window, level, enlargement and slices, by mouse, touch and keyboard.

const STEP = 1.25, MOST_ZOOM = 16;
const NOTCH = 40, LINE = 33; // pixels that the wheel turns for a slice, and of a line

// Everything that comes from a file becomes text, never markup.
export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

export const bytesOf = (base64) => Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));

async function unpacked(base64) {
  const stream = new Blob([bytesOf(base64)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

// The borders between pixels inside and outside of a mask, in pixels of the slice.
function outline(mask, columns, rows) {
  const path = new Path2D();
  const inside = (x, y) => x >= 0 && y >= 0 && x < columns && y < rows && mask[y * columns + x];
  const line = (x0, y0, x1, y1) => { path.moveTo(x0, y0); path.lineTo(x1, y1); };
  for (let y = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++) {
      if (!mask[y * columns + x]) continue;
      if (!inside(x - 1, y)) line(x, y, x, y + 1);
      if (!inside(x + 1, y)) line(x + 1, y, x + 1, y + 1);
      if (!inside(x, y - 1)) line(x, y, x + 1, y);
      if (!inside(x, y + 1)) line(x, y + 1, x + 1, y + 1);
    }
  }
  return path;
}

function rgb(colour) {
  return [1, 3, 5].map((start) => parseInt(colour.slice(start, start + 2), 16));
}

class Viewer {
  constructor(view, pixels, masks, name) {
    Object.assign(this, {view, pixels, masks, name, slice: view.first, zoom: 1, x: 0.5, y: 0.5, turned: 0,
      outlines: new Map()});
    [this.black, this.white] = view.window;
    this.lowest = view.low;
    this.highest = view.low + view.step * pixels.reduce((most, value) => Math.max(most, value), 1);
    this.canvas = element("canvas", {tabIndex: 0, className: "view"});
    this.canvas.setAttribute("role", "img");
    this.slices = document.createElement("canvas");
    [this.slices.width, this.slices.height] = [view.columns, view.rows];
    const marks = Object.entries(view.marks ?? {}).map(([edge, letters]) =>
      element("span", {className: `mark ${edge}`, textContent: letters, ariaHidden: "true"}));
    this.element = element("figure", {className: "viewer"},
      element("div", {className: "screen"}, this.canvas, ...marks), this.controls());
    this.listen();
    this.drawSlice();
    new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  get several() { return this.view.slices > 1; }

  controls() {
    const {view} = this, grey = this.highest - this.lowest;
    const slider = (label, least, most, step, value, changed, shown) => {
      const output = element("output");
      const input = element("input", {type: "range", min: least, max: most, step, value});
      const show = () => { output.textContent = shown(Number(input.value)); input.ariaValueText = output.textContent; };
      input.addEventListener("input", () => { changed(Number(input.value)); show(); this.draw(); });
      show();
      return {input, show, row: element("label", {className: "slider"}, element("span", {textContent: label}), input,
        output)};
    };
    const round = (value) => Number(value.toPrecision(3)).toLocaleString("en", {maximumFractionDigits: 3});
    this.bySlice = slider("Slice", 1, view.slices, 1, this.slice + 1, (value) => {
      this.slice = value - 1;
      this.drawSlice();
    }, (value) => `${value} of ${view.slices}`);
    this.byWindow = slider("Window", grey / 200, grey * 1.5, "any", this.white - this.black, (value) =>
      this.setWindow((this.black + this.white) / 2, value), round);
    this.byLevel = slider("Level", this.lowest - grey / 4, this.highest + grey / 4, "any",
      (this.black + this.white) / 2, (value) => this.setWindow(value, this.white - this.black), round);
    this.filling = slider("Fill", 0, 100, 5, 0, () => this.drawSlice(), (value) => `${value}\u00a0%`);
    this.outlined = element("input", {type: "checkbox", checked: true});
    this.outlined.addEventListener("change", () => this.draw());
    const button = (text, label, pressed) => {
      const made = element("button", {type: "button", textContent: text, ariaLabel: label});
      made.addEventListener("click", pressed);
      return made;
    };
    const legend = this.masks.length < 2 ? [] : [element("ul", {className: "legend"}, ...view.masks.map((mask) => {
      const sample = element("i", {ariaHidden: "true"});
      sample.style.background = mask.colour;
      return element("li", {}, sample, mask.name);
    }))];
    return element("figcaption", {}, ...(this.several ? [this.bySlice.row] : []), this.byWindow.row, this.byLevel.row,
      this.filling.row, element("div", {className: "buttons"},
        element("label", {}, this.outlined, " Outline"), button("−", "Smaller", () => this.enlarge(1 / STEP)),
        button("+", "Larger", () => this.enlarge(STEP)), button("Reset", "Reset the view", () => this.reset())),
      ...legend, this.help());
  }

  help() {
    const keys = [["drag", "window (across) and level (up and down)"], ["Shift and drag", "move the enlarged slice"],
      ["Ctrl and wheel, + and −", "enlarge"], ["arrows", `${this.several ? "slices; " : ""}move the enlarged slice`], ["o", "outline"], ["f", "fill"],
      ["0", "reset"]];
    if (this.several) keys.unshift(["wheel, Page Up and Page Down, Home and End", "slices"]);
    return element("details", {className: "keys"}, element("summary", {textContent: "Mouse and keys"}),
      element("dl", {}, ...keys.flatMap(([key, does]) =>
        [element("dt", {textContent: key}), element("dd", {textContent: does})])));
  }

  listen() {
    const {canvas} = this;
    let from = null;
    canvas.addEventListener("pointerdown", (event) => {
      // One finger scrolls the page, until the slice is enlarged.
      if (event.button !== 0 || (event.pointerType === "touch" && this.zoom === 1)) return;
      from = [event.clientX, event.clientY];
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!from) return;
      const [x, y] = [event.clientX - from[0], event.clientY - from[1]];
      from = [event.clientX, event.clientY];
      if (event.shiftKey || event.pointerType === "touch") {
        this.move(-x / canvas.clientWidth, -y / canvas.clientHeight);
      } else {
        const unit = (this.highest - this.lowest) / 500;
        this.setWindow((this.black + this.white) / 2 + y * unit, this.white - this.black + x * unit);
      }
    });
    for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, () => { from = null; });
    canvas.addEventListener("wheel", (event) => {
      if (event.ctrlKey) this.enlarge(event.deltaY < 0 ? STEP : 1 / STEP);
      else if (!this.several) return;
      else this.turn(event.deltaY * (event.deltaMode === WheelEvent.DOM_DELTA_LINE ? LINE : 1));
      event.preventDefault();
    }, {passive: false});
    canvas.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.altKey || event.metaKey) return;
      const moves = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};
      const others = {
        "+": () => this.enlarge(STEP), "=": () => this.enlarge(STEP), "-": () => this.enlarge(1 / STEP),
        "0": () => this.reset(), o: () => this.outlined.click(), f: () => this.fill(),
      };
      const slices = {PageUp: this.slice - 1, PageDown: this.slice + 1, Home: 0, End: this.view.slices - 1};
      const move = this.zoom > 1 ? moves[event.key] : undefined;
      if (this.several && event.key in slices) this.show(slices[event.key]);
      else if (move) this.move(0.1 * move[0], 0.1 * move[1]);
      else if (this.several && event.key in moves) this.show(this.slice + moves[event.key][0] + moves[event.key][1]);
      else if (event.key in others) others[event.key]();
      else return;
      event.preventDefault();
    });
  }

  // A notch of a wheel is a slice; trackpads send many small turns.
  turn(pixels) {
    this.turned = Math.sign(pixels) === Math.sign(this.turned) ? this.turned + pixels : pixels;
    if (Math.abs(this.turned) < NOTCH) return;
    this.show(this.slice + Math.sign(this.turned));
    this.turned = 0;
  }

  show(slice) {
    this.slice = Math.min(Math.max(slice, 0), this.view.slices - 1);
    this.bySlice.input.value = this.slice + 1;
    this.bySlice.show();
    this.drawSlice();
  }

  setWindow(level, width) {
    const grey = this.highest - this.lowest;
    width = Math.min(Math.max(width, grey / 200), 1.5 * grey);
    level = Math.min(Math.max(level, this.lowest - grey / 4), this.highest + grey / 4);
    [this.black, this.white] = [level - width / 2, level + width / 2];
    this.byWindow.input.value = width;
    this.byLevel.input.value = level;
    this.byWindow.show();
    this.byLevel.show();
    this.drawSlice();
  }

  enlarge(factor) {
    this.zoom = Math.min(Math.max(this.zoom * factor, 1), MOST_ZOOM);
    if (this.zoom < 1.01) this.zoom = 1;
    this.canvas.classList.toggle("enlarged", this.zoom > 1);
    this.move(0, 0);
  }

  // By parts of the screen.
  move(x, y) {
    const half = 0.5 / this.zoom;
    this.x = Math.min(Math.max(this.x + x / this.zoom, half), 1 - half);
    this.y = Math.min(Math.max(this.y + y / this.zoom, half), 1 - half);
    this.draw();
  }

  fill() {
    this.filling.input.value = Number(this.filling.input.value) > 0 ? 0 : 40;
    this.filling.show();
    this.drawSlice();
  }

  reset() {
    Object.assign(this, {zoom: 1, x: 0.5, y: 0.5});
    this.canvas.classList.remove("enlarged");
    this.outlined.checked = true;
    this.filling.input.value = 0;
    this.filling.show();
    const [black, white] = this.view.window;
    this.setWindow((black + white) / 2, white - black);
  }

  // The pixels of the slice, by window, level and fill.
  drawSlice() {
    const {columns, rows, low, step} = this.view, count = columns * rows, start = this.slice * count;
    const image = new ImageData(columns, rows), data = image.data, scale = 255 / (this.white - this.black);
    for (let i = 0; i < count; i++) {
      const grey = (low + step * this.pixels[start + i] - this.black) * scale;
      data[4 * i] = data[4 * i + 1] = data[4 * i + 2] = grey; // clamped by the array
      data[4 * i + 3] = 255;
    }
    const part = Number(this.filling.input.value) / 100;
    if (part) {
      this.masks.forEach((mask, number) => {
        const colour = rgb(this.view.masks[number].colour);
        for (let i = 0; i < count; i++) {
          if (!mask[start + i]) continue;
          for (let c = 0; c < 3; c++) data[4 * i + c] += part * (colour[c] - data[4 * i + c]);
        }
      });
    }
    this.slices.getContext("2d").putImageData(image, 0, 0);
    const where = this.several ? `Slice ${this.slice + 1} of ${this.view.slices}` : "Slice";
    const marked = this.masks.some((mask) => mask.subarray(start, start + count).includes(1));
    const {marks} = this.view;
    const sides = marks ? ` ${marks.left} is at the left, ${marks.top} at the top.` : " Left and right are not known.";
    this.canvas.ariaLabel = `${where} of ${this.name}, ${marked ? "with" : "without"} an outline.${sides}`;
    this.draw();
  }

  outlineOf(number) {
    const key = `${number} ${this.slice}`, {columns, rows} = this.view, count = columns * rows;
    if (!this.outlines.has(key)) {
      const mask = this.masks[number].subarray(this.slice * count, (this.slice + 1) * count);
      this.outlines.set(key, outline(mask, columns, rows));
    }
    return this.outlines.get(key);
  }

  draw() {
    const {canvas, view} = this, {columns, rows, aspect} = view;
    canvas.style.aspectRatio = `${columns} / ${rows * aspect}`;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
    if (!width || !height) return;
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    const context = canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = "#000";
    context.fillRect(0, 0, width, height);
    const scale = Math.min(width / columns, height / (rows * aspect)) * this.zoom, tall = scale * aspect;
    context.setTransform(scale, 0, 0, tall, width / 2 - this.x * columns * scale, height / 2 - this.y * rows * tall);
    context.imageSmoothingQuality = "high";
    context.drawImage(this.slices, 0, 0);
    if (!this.outlined.checked) return;
    this.masks.forEach((_, number) => {
      // Scaled here, so that the line is as wide across as along.
      const path = new Path2D();
      path.addPath(this.outlineOf(number), context.getTransform());
      context.save();
      context.setTransform(1, 0, 0, 1, 0, 0);
      context.strokeStyle = view.masks[number].colour;
      context.lineWidth = 1.6 * ratio;
      context.lineCap = "square";
      context.stroke(path);
      context.restore();
    });
  }
}

// Resolves to the element of a viewer; rejects where the browser can't unpack the pixels.
export async function viewer(view, name) {
  // All low bytes, then all high bytes.
  const bytes = new Uint8Array(await unpacked(view.pixels)), count = bytes.length / 2;
  const pixels = new Uint16Array(count);
  for (let i = 0; i < count; i++) pixels[i] = bytes[i] | bytes[count + i] << 8;
  const masks = await Promise.all(view.masks.map(async (mask) => new Uint8Array(await unpacked(mask.pixels))));
  return new Viewer(view, pixels, masks, name).element;
}
