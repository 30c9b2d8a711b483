"use strict";
// Draws the report's pictures from what stands in its two data scripts. No network, no library.
(async () => {
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("data").textContent);
  const volumes = data.volumes, strip = data.strip;
  const [nz, ny, nx] = volumes.shape;

  let levels;
  try {
    const packed = Uint8Array.from(atob(byId("pack").textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    levels = new Uint8Array(await new Response(stream).arrayBuffer());
  } catch (error) {
    const trouble = byId("trouble");
    trouble.textContent = `This browser cannot unpack the pictures (${error}). Chrome 80, Firefox 113, Safari 16.4 and newer can.`;
    trouble.hidden = false;
    return;
  }

  // Colours: dark to bright for activity, blue over white to red for differences, grey for maps.
  const ramp = (stops) => Array.from({ length: 256 }, (_, n) => {
    const place = (n / 255) * (stops.length - 1), low = Math.min(Math.floor(place), stops.length - 2), part = place - low;
    return [0, 1, 2].map((c) => Math.round(stops[low][c] + part * (stops[low + 1][c] - stops[low][c])));
  });
  const colours = {
    image: ramp([[0, 0, 4], [31, 12, 72], [85, 15, 109], [136, 34, 106], [186, 54, 85], [227, 89, 51], [249, 140, 10], [249, 201, 50], [252, 255, 164]]),
    difference: ramp([[5, 48, 97], [67, 147, 195], [209, 229, 240], [247, 247, 247], [253, 219, 199], [214, 96, 77], [103, 0, 31]]),
    map: ramp([[0, 0, 0], [255, 255, 255]]),
  };

  const state = { show: "image", against: null, top: 1, along: 2, at: [0, 0, 0], view: 0, row: 0, window: 0 };
  const index = (k, j, i) => (k * ny + j) * nx + i;
  const size = nz * ny * nx, images = {}, maps = {};
  for (const name of data.names) {
    const { begin, low, step } = volumes.images[name], values = new Float32Array(size);
    for (let n = 0; n < size; n++) values[n] = low + step * (levels[begin + n] * 256 + levels[begin + size + n]);
    images[name] = values;
    const first = volumes.maps[name];
    maps[name] = first === undefined ? null : levels.subarray(first, first + size);
  }
  // Outline: half of water in the method's own map; where it has none in the CT's, the given one, or any.
  const spare = maps.ct || maps.map || Object.values(maps).find((map) => map) || null;
  const edgeLevel = volumes.topMu > 0 ? (0.075 / volumes.topMu) * 255 : 256;

  // Level 0-255 of a voxel for what is shown, or null where there is nothing to show.
  const shownLevel = (name) => {
    if (state.show === "map") {
      const map = maps[name];
      if (!map) return null;
      const gain = volumes.topMu / (0.25 * state.top);
      return (at) => map[at] * gain;
    }
    const image = images[name], gain = 255 / (volumes.show * state.top);
    if (state.show === "image") return (at) => image[at] * gain;
    const reference = images[state.against];
    if (name === state.against) return null;
    // The range is a quarter of that of the activity, to either side.
    return (at) => 127.5 + (image[at] - reference[at]) * gain * 2;
  };
  const valueAt = (name, at) => {
    if (state.show === "map") return maps[name] ? (maps[name][at] / 255) * volumes.topMu : null;
    if (state.show === "image") return images[name][at];
    return name === state.against ? null : images[name][at] - images[state.against][at];
  };

  const planes = {
    axial: { across: 2, down: 1, flip: false, ends: ["R", "L"] },
    coronal: { across: 2, down: 0, flip: true, ends: ["R", "L"] },
    sagittal: { across: 1, down: 0, flip: true, ends: ["A", "P"] },
  };
  const sizes = [nz, ny, nx];
  const scratch = document.createElement("canvas");

  function drawPlane(canvas, name) {
    const plane = planes[canvas.dataset.plane], width = sizes[plane.across], height = sizes[plane.down];
    const scale = Math.max(2, Math.round(300 / nx));
    canvas.width = width * scale; canvas.height = height * scale;
    canvas.style.flex = `${width} 1 0`;
    const context = canvas.getContext("2d"), level = shownLevel(name), palette = colours[state.show];
    const at = [...state.at];
    const where = (i, j) => { at[plane.across] = i; at[plane.down] = plane.flip ? height - 1 - j : j; return index(at[0], at[1], at[2]); };
    scratch.width = width; scratch.height = height;
    const pixels = scratch.getContext("2d").createImageData(width, height);
    for (let j = 0, n = 0; j < height; j++) {
      for (let i = 0; i < width; i++, n += 4) {
        const colour = level ? palette[Math.max(0, Math.min(255, Math.round(level(where(i, j)))))] : [40, 40, 40];
        pixels.data[n] = colour[0]; pixels.data[n + 1] = colour[1]; pixels.data[n + 2] = colour[2]; pixels.data[n + 3] = 255;
      }
    }
    scratch.getContext("2d").putImageData(pixels, 0, 0);
    context.imageSmoothingEnabled = false;
    context.drawImage(scratch, 0, 0, width * scale, height * scale);

    const edge = state.show === "map" ? spare : maps[name] || spare;
    if (edge) {
      context.strokeStyle = state.show === "difference" ? "#157f3b" : "#39d98a";
      context.lineWidth = 1;
      context.beginPath();
      const inside = (i, j) => edge[where(i, j)] >= edgeLevel;
      for (let j = 0; j < height; j++) for (let i = 0; i < width; i++) {
        const here = inside(i, j);
        if (i + 1 < width && inside(i + 1, j) !== here) { context.moveTo((i + 1) * scale, j * scale); context.lineTo((i + 1) * scale, (j + 1) * scale); }
        if (j + 1 < height && inside(i, j + 1) !== here) { context.moveTo(i * scale, (j + 1) * scale); context.lineTo((i + 1) * scale, (j + 1) * scale); }
      }
      context.stroke();
    }
    const u = (state.at[plane.across] + 0.5) * scale;
    const v = ((plane.flip ? height - 1 - state.at[plane.down] : state.at[plane.down]) + 0.5) * scale;
    context.strokeStyle = state.show === "difference" ? "rgba(0,0,0,.55)" : "rgba(255,255,255,.6)";
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(u, 0); context.lineTo(u, v - 6); context.moveTo(u, v + 6); context.lineTo(u, height * scale);
    context.moveTo(0, v); context.lineTo(u - 6, v); context.moveTo(u + 6, v); context.lineTo(width * scale, v);
    context.stroke();
    context.fillStyle = state.show === "difference" ? "#000" : "#fff";
    context.font = `${Math.max(11, 4 * scale)}px system-ui, sans-serif`;
    context.textBaseline = "bottom";
    context.fillText(plane.ends[0], 3, height * scale - 2);
    context.textAlign = "right";
    context.fillText(plane.ends[1], width * scale - 3, height * scale - 2);
    const axis = { axial: 0, coronal: 1, sagittal: 2 }[canvas.dataset.plane], letter = "zyx"[axis];
    canvas.setAttribute("aria-label", `${data.titles[name]}, ${canvas.dataset.plane} slice at ${letter} = ${millimetres(axis)} mm`);
  }

  const millimetres = (axis) => (volumes.firstMm[axis] + state.at[axis] * volumes.voxelMm).toFixed(0);
  const digits = (value) => (value === null ? "" : Math.abs(value) >= 100 ? value.toFixed(0) : Math.abs(value) >= 1 ? value.toFixed(2) : value.toPrecision(2));

  function drawSlices() {
    const at = index(...state.at), unit = state.show === "map" ? "1/cm" : volumes.unit;
    for (const figure of byId("methods").querySelectorAll(".method")) {
      const name = figure.dataset.name, value = valueAt(name, at);
      for (const canvas of figure.querySelectorAll("canvas")) drawPlane(canvas, name);
      let said = value === null ? "" : `${digits(value)} ${unit} at the cross-hair`;
      if (state.show === "map" && !maps[name]) said = "no map";
      if (state.show === "difference" && name === state.against) said = "the reference";
      figure.querySelector("figcaption").textContent = said;
    }
    const bar = byId("bar").getContext("2d"), pixels = bar.createImageData(256, 1);
    colours[state.show].forEach((colour, n) => { pixels.data.set([...colour, 255], 4 * n); });
    bar.putImageData(pixels, 0, 0);
    const most = state.show === "map" ? 0.25 * state.top : state.show === "image" ? volumes.show * state.top : (volumes.show * state.top) / 4;
    byId("bar-low").textContent = state.show === "difference" ? `-${digits(most)}` : "0";
    byId("bar-high").textContent = `${digits(most)} ${unit}`;
    for (const [axis, letter] of ["z", "y", "x"].entries()) {
      byId(letter).value = state.at[axis];
      byId(`${letter}-said`).textContent = `${millimetres(axis)} mm`;
    }
    byId("where").textContent = `Slices at z = ${millimetres(0)}, y = ${millimetres(1)}, x = ${millimetres(2)} mm`;
    byId("top-said").textContent = `${Math.round(100 * state.top)} %`;
  }

  // About five round numbers from low to high.
  function ticks(low, high) {
    const raw = Math.max(high - low, 1e-12) / 5, size = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 2.5, 5, 10].map((factor) => factor * size).find((one) => one >= raw * 0.999), found = [];
    for (let value = Math.ceil(low / step - 1e-9) * step; value <= high + 1e-9; value += step) found.push(value);
    return found;
  }

  function drawProfile() {
    const axis = state.along, count = sizes[axis], left = 52, right = 10, top = 10, bottom = 40, width = 560, height = 260;
    const first = volumes.firstMm[axis], last = first + (count - 1) * volumes.voxelMm;
    const x = (mm) => left + ((width - left - right) * (mm - first)) / Math.max(last - first, 1e-9);
    const at = [...state.at], lines = {};
    let most = 0, least = 0;
    for (const name of data.names) {
      lines[name] = Array.from({ length: count }, (_, n) => { at[axis] = n; return images[name][index(...at)]; });
      most = Math.max(most, ...lines[name]);
      least = Math.min(least, ...lines[name]);
    }
    most = most * 1.05 || 1;
    const y = (value) => top + ((height - top - bottom) * (most - value)) / (most - least);
    const parts = [];
    for (const value of ticks(least, most)) {
      parts.push(`<line class="grid" x1="${left}" x2="${width - right}" y1="${y(value)}" y2="${y(value)}"/><text class="end" x="${left - 6}" y="${y(value) + 4}">${digits(value)}</text>`);
    }
    for (const mm of ticks(first, last)) parts.push(`<text class="mid" x="${x(mm)}" y="${height - bottom + 16}">${mm.toFixed(0)}</text>`);
    const here = x(first + state.at[axis] * volumes.voxelMm);
    parts.push(`<line class="grid" x1="${here}" x2="${here}" y1="${top}" y2="${height - bottom}"/>`);
    parts.push(`<text class="mid" x="${(left + width - right) / 2}" y="${height - 6}">mm (${["up", "to the back", "to the patient's left"][axis]}), ${volumes.unit}</text>`);
    data.names.forEach((name, n) => {
      const points = lines[name].map((value, k) => `${x(first + k * volumes.voxelMm).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
      parts.push(`<polyline class="line c${n % 7}" points="${points}"/>`);
    });
    byId("profile").innerHTML = parts.join("");
  }

  function drawStrip() {
    const [views, rows, columns] = strip.shape, shown = strip.windows[state.window];
    const counts = levels.subarray(shown.begin, shown.begin + views * rows * columns);
    const paint = (canvas, width, height, shape, level, line) => {
      const scale = Math.max(1, Math.round(400 / Math.max(width, height)));
      canvas.width = width * scale; canvas.height = height * scale;
      canvas.style.aspectRatio = shape;
      scratch.width = width; scratch.height = height;
      const pixels = scratch.getContext("2d").createImageData(width, height);
      for (let j = 0, n = 0; j < height; j++) for (let i = 0; i < width; i++, n += 4) {
        const colour = colours.image[level(i, j)];
        pixels.data[n] = colour[0]; pixels.data[n + 1] = colour[1]; pixels.data[n + 2] = colour[2]; pixels.data[n + 3] = 255;
      }
      scratch.getContext("2d").putImageData(pixels, 0, 0);
      const context = canvas.getContext("2d");
      context.imageSmoothingEnabled = false;
      context.drawImage(scratch, 0, 0, width * scale, height * scale);
      context.fillStyle = "rgba(57,217,138,.8)";
      context.fillRect(0, (line + 0.5) * scale - 1, width * scale, 1.5);
    };
    // Row 0 is the lowest of the image: drawn at the bottom.
    const [pixelZ, pixelU] = strip.pixelMm;
    paint(byId("projection"), columns, rows, (columns * pixelU) / (rows * pixelZ), (i, j) => counts[(state.view * rows + (rows - 1 - j)) * columns + i], rows - 1 - state.row);
    paint(byId("sinogram"), columns, views, 1, (i, j) => counts[(j * rows + state.row) * columns + i], state.view);
    byId("view-said").textContent = `${strip.views[state.view] + 1}, ${strip.angles[state.view].toFixed(0)}°`;
    byId("row-said").textContent = `${state.row * strip.summed + 1}`;
    byId("projection").setAttribute("aria-label", `Projection of view ${strip.views[state.view] + 1} at ${strip.angles[state.view]} degrees, ${shown.name}, at most ${shown.top.toFixed(0)} counts`);
    byId("sinogram").setAttribute("aria-label", `Sinogram of row ${state.row * strip.summed + 1}, ${shown.name}`);
  }

  let waiting = false;
  const redraw = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; drawSlices(); drawProfile(); });
  };

  for (const [axis, letter] of ["z", "y", "x"].entries()) {
    const slider = byId(letter);
    slider.max = sizes[axis] - 1;
    state.at[axis] = Math.max(0, Math.min(sizes[axis] - 1, Math.round((data.start[axis] - volumes.firstMm[axis]) / volumes.voxelMm)));
    slider.addEventListener("input", () => { state.at[axis] = Number(slider.value); redraw(); });
  }
  const show = (option) => { state.show = option.value; state.against = option.dataset.against || null; };
  byId("show").addEventListener("input", (event) => { show(event.target.selectedOptions[0]); redraw(); });
  // Paper has no selection: what else can be shown follows as pictures of its own.
  addEventListener("beforeprint", () => {
    const [chosen] = byId("show").selectedOptions, copies = [];
    byId("shown").textContent = chosen.text;
    for (const option of byId("show").options) {
      if (option === chosen) continue;
      show(option);
      drawSlices();
      const heading = document.createElement("h3");
      heading.textContent = option.text;
      copies.push(heading);
      for (const part of [document.querySelector(".bar"), byId("methods")]) {
        const copy = part.cloneNode(true), drawn = part.querySelectorAll("canvas");
        copy.querySelectorAll("canvas").forEach((canvas, n) => canvas.getContext("2d").drawImage(drawn[n], 0, 0));
        for (const one of [copy, ...copy.querySelectorAll("[id]")]) one.removeAttribute("id");
        copies.push(copy);
      }
    }
    byId("printed").replaceChildren(...copies);
    show(chosen);
    drawSlices();
  });
  addEventListener("afterprint", () => byId("printed").replaceChildren());
  byId("top").addEventListener("input", (event) => { state.top = event.target.value / 100; redraw(); });
  byId("along").addEventListener("input", (event) => { state.along = Number(event.target.value); redraw(); });
  for (const canvas of document.querySelectorAll(".method canvas")) {
    const move = (event) => {
      const plane = planes[canvas.dataset.plane], box = canvas.getBoundingClientRect();
      const part = (value, size) => Math.max(0, Math.min(size - 1, Math.floor(value * size)));
      state.at[plane.across] = part((event.clientX - box.left) / box.width, sizes[plane.across]);
      const down = part((event.clientY - box.top) / box.height, sizes[plane.down]);
      state.at[plane.down] = plane.flip ? sizes[plane.down] - 1 - down : down;
      redraw();
    };
    canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); move(event); });
    canvas.addEventListener("pointermove", (event) => { if (event.buttons) move(event); });
  }

  strip.windows.forEach((shown, n) => byId("window").add(new Option(shown.name, n)));
  const [views, rows] = strip.shape;
  byId("view").max = views - 1;
  byId("row").max = rows - 1;
  state.row = Math.floor(rows / 2);
  byId("row").value = state.row;
  for (const id of ["window", "view", "row"]) {
    byId(id).addEventListener("input", (event) => { state[id] = Number(event.target.value); requestAnimationFrame(drawStrip); });
  }
  drawStrip();
  redraw();
})();
