"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const [WIDTH, HEIGHT, COLUMN, ROW, MARGIN] = data.geometry;
  const element = (id) => document.getElementById(id);
  const nodes = data.nodes.map(([layer, order], i) => ({
    i, layer, order, at: element("n" + i), section: element("s" + i), calls: [], callers: [], folded: false, x: 0, y: 0,
  }));
  const lines = data.lines.map(([from, to], i) => ({ i, from, to, at: element("l" + i) }));
  for (const line of lines) {
    if (line.from === line.to) continue;
    nodes[line.from].calls.push(line.to);
    nodes[line.to].callers.push(line.from);
  }
  const svg = document.querySelector("#canvas svg");
  const canvas = element("canvas"), find = element("find"), near = element("near"), found = element("found");
  let chosen = -1;
  document.documentElement.classList.add("scripted");
  document.querySelector(".tools").hidden = false;

  // Entries are what nobody calls from a layer before; where everything is called, the first layer.
  const roots = nodes.filter((n) => !n.callers.some((c) => nodes[c].layer < n.layer)).map((n) => n.i);

  function reached() {
    const seen = new Set(roots), open = [...roots];
    while (open.length) {
      const node = nodes[open.pop()];
      if (node.folded) continue;
      for (const to of node.calls) if (!seen.has(to)) { seen.add(to); open.push(to); }
    }
    return seen;
  }

  function neighbours(i) {
    return new Set([i, ...nodes[i].calls, ...nodes[i].callers]);
  }

  function draw() {
    let seen = reached();
    if (near.getAttribute("aria-pressed") === "true" && chosen >= 0) seen = neighbours(chosen);
    const layers = new Map();
    for (const node of nodes) {
      node.at.style.display = seen.has(node.i) ? "" : "none";
      if (seen.has(node.i)) layers.set(node.layer, [...(layers.get(node.layer) || []), node]);
    }
    const columns = [...layers.keys()].sort((a, b) => a - b);
    const most = Math.max(1, ...[...layers.values()].map((l) => l.length));
    columns.forEach((layer, column) => {
      const row = layers.get(layer).sort((a, b) => a.order - b.order);
      const gap = Math.max(ROW, Math.min(ROW * 2, (most * ROW) / row.length));
      const top = (most * ROW - row.length * gap) / 2;
      row.forEach((node, place) => {
        node.x = MARGIN + column * COLUMN;
        node.y = MARGIN + Math.max(0, top) + place * gap;
        node.at.setAttribute("transform", `translate(${node.x} ${node.y})`);
        const below = node.calls.filter((to) => !seen.has(to)).length;
        node.at.querySelector(".fold").textContent = node.folded && below ? `+${below}` : "";
      });
    });
    svg.setAttribute("width", 2 * MARGIN + (columns.length - 1) * COLUMN + WIDTH + 50);
    svg.setAttribute("height", 2 * MARGIN + most * ROW);
    for (const line of lines) {
      const a = nodes[line.from], b = nodes[line.to], shown = seen.has(a.i) && seen.has(b.i);
      line.at.style.display = shown ? "" : "none";
      if (!shown) continue;
      const x1 = a.x + WIDTH, y1 = a.y + HEIGHT / 2, x2 = b.x, y2 = b.y + HEIGHT / 2;
      const bend = Math.max(40, Math.abs(x2 - x1) / 2);
      const under = Math.max(a.y, b.y) + HEIGHT + 44;
      line.at.querySelector("path").setAttribute("d", a === b
        ? `M${x1} ${y1 - 8}C${x1 + 40} ${y1 - 34} ${x1 + 40} ${y1 + 34} ${x1} ${y1 + 8}`
        : x2 < x1
        ? `M${a.x + WIDTH / 2} ${a.y + HEIGHT}C${a.x + WIDTH / 2} ${under} ${b.x + WIDTH / 2} ${under} ${b.x + WIDTH / 2} ${b.y + HEIGHT}`
        : `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`);
      const text = line.at.querySelector("text");
      if (text) { text.setAttribute("x", (x1 + x2) / 2); text.setAttribute("y", x2 < x1 ? under - 12 : (y1 + y2) / 2 - 5); }
    }
    light();
    found.textContent = found.dataset.match || (seen.size < nodes.length ? `${seen.size} of ${nodes.length} services shown` : "");
  }

  function light() {
    const words = find.value.trim().toLowerCase();
    const hits = words ? nodes.filter((n) => n.at.dataset.name.includes(words)) : [];
    const kept = chosen >= 0 ? neighbours(chosen) : null;
    for (const node of nodes) {
      node.at.classList.toggle("match", words !== "" && hits.includes(node));
      node.at.classList.toggle("chosen", node.i === chosen);
      node.at.classList.toggle("dim", words !== "" ? !hits.includes(node) : kept !== null && !kept.has(node.i));
    }
    for (const line of lines) {
      const own = line.from === chosen || line.to === chosen;
      line.at.classList.toggle("lit", own);
      line.at.classList.toggle("dim", words !== "" ? !own : kept !== null && !own);
    }
    found.dataset.match = words ? `${hits.length} of ${nodes.length} services match` : "";
    return hits;
  }

  // Unfold one way from an entry to a service, so that it shows.
  function reveal(i) {
    let node = nodes[i];
    while (!roots.includes(node.i)) {
      node = nodes[node.callers.find((c) => nodes[c].layer < node.layer)];
      node.folded = false;
    }
  }

  function choose(i, focus) {
    chosen = i;
    if (i >= 0 && nodes[i].at.style.display === "none" && near.getAttribute("aria-pressed") !== "true") reveal(i);
    for (const node of nodes) node.section.classList.toggle("shown", node.i === i);
    document.querySelector(".hint").hidden = i >= 0;
    draw();
    if (i < 0) return;
    const node = nodes[i];
    canvas.scrollTo({ left: node.x - canvas.clientWidth / 3, top: node.y - canvas.clientHeight / 2 });
    if (focus) node.at.focus({ preventScroll: true });
  }

  function fold(i, folded) {
    nodes[i].folded = folded;
    draw();
  }

  svg.addEventListener("click", (event) => {
    const at = event.target.closest(".node");
    if (!at) { choose(-1); return; }
    event.preventDefault();
    const i = Number(at.id.slice(1));
    if (event.target.classList.contains("fold")) fold(i, !nodes[i].folded);
    else choose(i, true);
  });
  svg.addEventListener("keydown", (event) => {
    const at = event.target.closest(".node");
    if (!at) return;
    const i = Number(at.id.slice(1));
    if (event.key === "+" || event.key === "=") fold(i, false);
    else if (event.key === "-") fold(i, true);
    else if (event.key === " ") choose(i, true);
    else return;
    event.preventDefault();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { find.value = ""; choose(-1); }
    if (event.key === "/" && document.activeElement !== find) { event.preventDefault(); find.focus(); }
  });
  element("details").addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#s']");
    if (!link) return;
    event.preventDefault();
    choose(Number(link.getAttribute("href").slice(2)), true);
  });
  find.addEventListener("input", () => { light(); draw(); });
  find.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    const hits = light();
    if (!hits.length) return;
    const following = hits.find((n) => n.i > chosen) || hits[0];
    choose(following.i, false);
  });
  near.addEventListener("click", () => {
    near.setAttribute("aria-pressed", near.getAttribute("aria-pressed") !== "true");
    draw();
  });
  element("open").addEventListener("click", () => { nodes.forEach((n) => { n.folded = false; }); draw(); });
  element("fold").addEventListener("click", () => { foldFrom(1); draw(); });

  function foldFrom(layer) {
    for (const node of nodes) node.folded = node.layer >= layer && node.calls.length > 0;
  }

  if (nodes.length > data.most) {
    let layer = Math.max(...nodes.map((n) => n.layer));
    do foldFrom(layer); while (reached().size > data.most && --layer >= 0);
  }
  const named = /^#s(\d+)$/.exec(location.hash);
  draw();
  if (named && nodes[Number(named[1])]) choose(Number(named[1]), false);
})();
