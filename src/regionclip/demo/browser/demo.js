// Pictures that react: boxes, a table beside them, a box to draw, a heat map; and a strip of
// pictures to choose from. Everything that came from a visitor is set as text, never as HTML.
(() => {
  "use strict";
  const SVG = "http://www.w3.org/2000/svg";

  function make(tag, className, text) {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  }

  function makeSvg(tag, attributes) {
    const element = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  }

  function rectangle(box, className) {
    const [x0, y0, x1, y1] = box;
    return makeSvg("rect", {
      x: x0, y: y0, width: x1 - x0, height: y1 - y0, class: className,
      "vector-effect": "non-scaling-stroke",
    });
  }

  function stageOf(view) {
    const stage = make("div", "rc-stage");
    stage.style.aspectRatio = `${view.width} / ${view.height}`;
    stage.style.width = `min(100%, calc(62vh * ${view.width / view.height}))`;
    const image = make("img");
    image.src = view.image;
    image.alt = view.name;
    image.draggable = false;
    const drawing = makeSvg("svg", {
      viewBox: `0 0 ${view.width} ${view.height}`, preserveAspectRatio: "none",
    });
    stage.append(image, drawing);
    return { stage, drawing };
  }

  // ---- detections: boxes, filter and table, each of which lights up the others ----

  function showDetections(root, view, stage, drawing) {
    const rows = view.boxes.map((each, index) => ({ ...each, index }));
    const state = { least: 0, hidden: new Set(), column: "score", isDescending: true };
    const labels = make("div", "rc-labels");
    stage.append(labels);
    // the largest first, so that small boxes stay within reach of the mouse
    const area = ({ box }) => (box[2] - box[0]) * (box[3] - box[1]);
    for (const row of [...rows].sort((one, other) => area(other) - area(one))) {
      row.shape = rectangle(row.box, "rc-box");
      row.shape.style.stroke = row.color;
      row.shape.style.fill = row.color;
      drawing.append(row.shape);
    }
    for (const row of rows) {
      const isAtTop = row.box[1] < 0.06 * view.height;
      row.label = make("span", "rc-label", `${row.name} ${row.score.toFixed(2)}`);
      // at its box's right side where the left one would leave it no room
      const isAtRight = row.box[0] > 0.7 * view.width;
      row.label.style.left = `${(100 * row.box[isAtRight ? 2 : 0]) / view.width}%`;
      row.label.style.top = `${(100 * row.box[isAtTop ? 3 : 1]) / view.height}%`;
      row.label.style.transform =
        `translate(${isAtRight ? "-100%" : "0"}, ${isAtTop ? "0" : "-100%"})`;
      row.label.style.background = row.color;
      row.label.style.color = row.ink;
      labels.append(row.label);
      row.line = tableLine(row);
      for (const part of [row.shape, row.line]) {
        part.addEventListener("pointerenter", () => light(row));
        part.addEventListener("pointerleave", () => light(null));
      }
      row.shape.addEventListener("pointerenter", () => scrollTo(row.line));
    }

    function light(lit) {
      root.classList.toggle("rc-has-lit", lit !== null);
      for (const row of rows) {
        for (const part of [row.shape, row.label, row.line]) {
          part.classList.toggle("rc-lit", row === lit);
        }
      }
    }

    const count = make("span", "rc-count");
    function filter() {
      let shown = 0;
      for (const row of rows) {
        const isShown = row.score >= state.least && !state.hidden.has(row.name);
        shown += isShown;
        for (const part of [row.shape, row.label, row.line]) {
          part.classList.toggle("rc-off", !isShown);
        }
      }
      count.textContent = `${shown} of ${rows.length} boxes shown`;
    }

    const body = make("tbody");
    function sort() {
      const value = (row) => row[state.column];
      const sign = state.isDescending ? -1 : 1;
      const compare = (one, other) =>
        typeof value(one) === "string"
          ? value(one).localeCompare(value(other)) : value(one) - value(other);
      for (const row of [...rows].sort((one, other) => sign * compare(one, other))) {
        body.append(row.line);
      }
    }
    root.append(filterBar(rows, state, filter, count), table(state, sort, body));
    sort();
    filter();
  }

  // within the table's frame alone: scrollIntoView would move the page under the mouse
  function scrollTo(line) {
    const frame = line.closest(".rc-table-frame");
    const head = frame.querySelector("thead").clientHeight;
    const above = line.offsetTop - head - frame.scrollTop;
    const below = line.offsetTop + line.clientHeight - frame.clientHeight - frame.scrollTop;
    if (above < 0) frame.scrollTop += above;
    else if (below > 0) frame.scrollTop += below;
  }

  function tableLine(row) {
    const line = make("tr");
    const name = make("td");
    const dot = make("i", "rc-dot");
    dot.style.background = row.color;
    name.append(dot, row.name);
    line.append(name, make("td", "", row.score.toFixed(3)));
    row.width = Math.round(row.box[2] - row.box[0]);
    row.height = Math.round(row.box[3] - row.box[1]);
    row.left = Math.round(row.box[0]);
    row.top = Math.round(row.box[1]);
    for (const key of ["left", "top", "width", "height"]) line.append(make("td", "", row[key]));
    return line;
  }

  function table(state, sort, body) {
    const element = make("table", "rc-table");
    const head = make("tr");
    const columns = ["name", "score", "left", "top", "width", "height"];
    const cells = columns.map((column) => {
      const cell = make("th");
      const button = make("button", "", column);
      button.type = "button";
      button.title = `sort by ${column}`;
      button.addEventListener("click", () => {
        state.isDescending = state.column === column ? !state.isDescending : column === "score";
        state.column = column;
        mark();
        sort();
      });
      cell.append(button);
      head.append(cell);
      return cell;
    });
    function mark() {
      cells.forEach((cell, index) => {
        const isSorted = columns[index] === state.column;
        const order = state.isDescending ? "descending" : "ascending";
        cell.setAttribute("aria-sort", isSorted ? order : "none");
      });
    }
    mark();
    const header = make("thead");
    header.append(head);
    element.append(header, body);
    const frame = make("div", "rc-table-frame");
    frame.append(element);
    return frame;
  }

  function filterBar(rows, state, filter, count) {
    const bar = make("div", "rc-filter");
    const least = make("label", "rc-least");
    const slider = make("input");
    Object.assign(slider, { type: "range", min: 0, max: 1, step: 0.01, value: 0 });
    slider.setAttribute("aria-label", "hide scores below");
    const shown = make("output", "", "0.00");
    slider.addEventListener("input", () => {
      state.least = Number(slider.value);
      shown.textContent = state.least.toFixed(2);
      filter();
    });
    least.append("hide scores below", slider, shown);
    const chips = make("div", "rc-chips");
    const counts = new Map();
    for (const row of rows) counts.set(row.name, (counts.get(row.name) ?? 0) + 1);
    for (const [name, number] of counts) {
      const chip = make("button", "rc-chip", `${name} ${number}`);
      chip.type = "button";
      chip.title = `hide or show ${name}`;
      chip.setAttribute("aria-pressed", "true");
      chip.style.borderColor = rows.find((row) => row.name === name).color;
      chip.addEventListener("click", () => {
        const isHidden = !state.hidden.delete(name);
        if (isHidden) state.hidden.add(name);
        chip.setAttribute("aria-pressed", String(!isHidden));
        filter();
      });
      chips.append(chip);
    }
    const line = make("div", "rc-line");
    line.append(least, count);
    bar.append(line, chips);
    return bar;
  }

  // ---- a box to draw ----

  function letDraw(view, stage, drawing, trigger) {
    stage.classList.add("rc-drawable");
    let shape = null;
    let start = null;
    const show = (box) => {
      shape?.remove();
      shape = rectangle(box, "rc-drawn");
      drawing.append(shape);
    };
    const at = (event) => {
      const frame = stage.getBoundingClientRect();
      const inside = (value, size) => Math.min(Math.max(value, 0), size);
      return [
        inside(((event.clientX - frame.left) / frame.width) * view.width, view.width),
        inside(((event.clientY - frame.top) / frame.height) * view.height, view.height),
      ];
    };
    const boxTo = ([x, y]) => [
      Math.min(start[0], x), Math.min(start[1], y), Math.max(start[0], x), Math.max(start[1], y),
    ];
    stage.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      stage.setPointerCapture(event.pointerId);
      start = at(event);
    });
    stage.addEventListener("pointermove", (event) => start && show(boxTo(at(event))));
    stage.addEventListener("pointerup", (event) => {
      if (!start) return;
      const box = boxTo(at(event));
      start = null;
      show(box);
      trigger("drawn", { box, place: view.place });
    });
    stage.addEventListener("pointercancel", () => { start = null; });
    if (view.drawn) show(view.drawn);
  }

  // ---- a heat map ----

  // dark violet to yellow: matplotlib's plasma (CC0), nine of its colours
  const HEAT = [
    [13, 8, 135], [76, 2, 161], [126, 3, 168], [170, 35, 149], [204, 71, 120],
    [230, 108, 92], [248, 149, 64], [253, 197, 39], [240, 249, 33],
  ];

  function heatColor(share) {
    const place = Math.min(Math.max(share, 0), 1) * (HEAT.length - 1);
    const low = Math.min(Math.floor(place), HEAT.length - 2);
    return HEAT[low].map((value, index) => value + (place - low) * (HEAT[low + 1][index] - value));
  }

  function showHeat(root, view, stage) {
    const { rows, columns, cells, low, high } = view.heat;
    const small = document.createElement("canvas");
    Object.assign(small, { width: columns, height: rows });
    const context = small.getContext("2d");
    const pixels = context.createImageData(columns, rows);
    cells.forEach((value, index) => {
      pixels.data.set([...heatColor((value - low) / (high - low || 1)), 255], 4 * index);
    });
    context.putImageData(pixels, 0, 0);
    const canvas = make("canvas", "rc-heat");
    Object.assign(canvas, { width: 16 * columns, height: 16 * rows });
    const painter = canvas.getContext("2d");
    painter.imageSmoothingQuality = "high";
    painter.drawImage(small, 0, 0, canvas.width, canvas.height);
    stage.append(canvas);
    const reading = make("output", "rc-reading", "move the mouse over the picture to read values");
    stage.addEventListener("pointermove", (event) => {
      const frame = stage.getBoundingClientRect();
      const cell = (share, count) => Math.min(Math.max(Math.floor(share * count), 0), count - 1);
      const row = cell((event.clientY - frame.top) / frame.height, rows);
      const column = cell((event.clientX - frame.left) / frame.width, columns);
      reading.textContent = `similarity here ${cells[row * columns + column].toFixed(3)}`;
    });
    const strength = make("label", "rc-least");
    const slider = make("input");
    Object.assign(slider, { type: "range", min: 0, max: 1, step: 0.05, value: 0.6 });
    slider.setAttribute("aria-label", "strength of the colours");
    const apply = () => { canvas.style.opacity = slider.value; };
    slider.addEventListener("input", apply);
    apply();
    strength.append("colours", slider);
    const scale = make("div", "rc-scale");
    const ramp = make("i");
    ramp.style.background = `linear-gradient(90deg, ${HEAT.map((c) => `rgb(${c})`).join(",")})`;
    scale.append(low.toFixed(3), ramp, high.toFixed(3));
    const line = make("div", "rc-line");
    line.append(strength, scale, reading);
    root.append(line);
  }

  function picture(element, props, trigger, watch) {
    const render = () => {
      const root = element.querySelector(".rc-root");
      const view = props.value;
      root.replaceChildren();
      root.classList.remove("rc-has-lit");
      if (!view) return;
      const { stage, drawing } = stageOf(view);
      root.append(stage);
      if (view.boxes?.length) showDetections(root, view, stage, drawing);
      if (view.is_drawable) letDraw(view, stage, drawing, trigger);
      if (view.heat) showHeat(root, view, stage);
    };
    render();
    watch("value", render);
  }

  function strip(element, props, trigger, watch) {
    const render = () => {
      const root = element.querySelector(".rc-root");
      root.replaceChildren();
      (props.value?.pictures ?? []).forEach((each, index) => {
        const button = make("button", "rc-thumb");
        button.type = "button";
        button.title = each.name;
        button.setAttribute("aria-pressed", String(index === props.value.current));
        const image = make("img");
        image.src = each.image;
        image.alt = each.name;
        button.append(image, make("span", "", each.name));
        button.addEventListener("click", () => trigger("picked", { index }));
        root.append(button);
      });
      const chosen = root.querySelector("[aria-pressed=true]");
      if (chosen) root.scrollLeft = chosen.offsetLeft - (root.clientWidth - chosen.clientWidth) / 2;
    };
    render();
    watch("value", render);
  }

  window.regionclipDemo = { picture, strip };
})();
