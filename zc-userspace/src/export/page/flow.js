// The picture: places where bytes can be, and bands between them as wide as the bytes per second that go there.

const SVG = "http://www.w3.org/2000/svg";
export const NAMES = {
  disk: "disk", page_cache: "page cache", user: "user memory", pipe: "pipe", socket_buffer: "socket buffer",
  nic: "NIC", peer: "peer", kernel: "kernel memory",
};
export const MOVERS = { cpu: "the CPU", dma: "DMA", reference: "reference", cipher: "a cipher" };
// Centres, and half the sizes of the boxes.
const PLACES = {
  disk: [75, 200], page_cache: [290, 200], user: [500, 50], pipe: [385, 375], socket_buffer: [710, 200], nic: [890, 200],
  peer: [890, 50], kernel: [615, 375],
};
const [HALF_WIDTH, HALF_HEIGHT] = [62, 26];
// Always there; the others appear with their first byte.
const TEXTBOOK = ["disk", "page_cache", "user", "socket_buffer", "nic"];
const WIDEST = 36;

export function element(name, attributes = {}, text = null) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== null) made.textContent = text;
  return made;
}

// 1234567 as "1.23 MB".
export function bytes(count) {
  for (const unit of ["B", "kB", "MB", "GB", "TB"]) {
    if (count < 999.5 || unit === "TB") return (unit === "B" || count >= 100 ? count.toFixed(0) : count.toPrecision(3)) + " " + unit;
    count /= 1000;
  }
}

// What stands below a place's name where not all that happens there is seen.
function unseenAt(place, probes) {
  const attached = (name) => probes.some((probe) => probe.name === name && probe.attached);
  if (place === "disk" && !attached("block")) return "cache not observed";
  if (place !== "nic" || (attached("net") && attached("net_receive"))) return null;
  return attached("net") ? "receiving not observed" : "not observed";
}

function drawPlace(place, probes) {
  const [x, y] = PLACES[place];
  const unseen = unseenAt(place, probes);
  const box = element("g", { class: unseen ? "place unseen" : "place" });
  box.append(element("rect", { x: x - HALF_WIDTH, y: y - HALF_HEIGHT, width: 2 * HALF_WIDTH, height: 2 * HALF_HEIGHT, rx: 6 }));
  box.append(element("text", { x, y: unseen ? y - 3 : y + 5 }, NAMES[place]));
  if (unseen) box.append(element("text", { x, y: y + 16 }, unseen));
  return box;
}

// The curve of the n-th band between two places: each is bent further, and the two directions to different sides.
function curve(from, to, nth) {
  const [[x1, y1], [x2, y2]] = [PLACES[from], PLACES[to]];
  if (from === to) {
    return { path: `M${x1 - 40},${y1 - HALF_HEIGHT} C${x1 - 60},${y1 - 80 - 20 * nth} ${x1 + 60},${y1 - 80 - 20 * nth} ${x1 + 40},${y1 - HALF_HEIGHT}`, middle: [x1, y1 - 66 - 20 * nth], end: [x1 + 40, y1 - HALF_HEIGHT], along: [0, 1] };
  }
  const length = Math.hypot(x2 - x1, y2 - y1);
  const [dx, dy] = [(x2 - x1) / length, (y2 - y1) / length];
  const bend = 40 + 60 * nth;
  const [cx, cy] = [(x1 + x2) / 2 - dy * bend, (y1 + y2) / 2 + dx * bend];
  const [start, end] = [edge(from, cx, cy), edge(to, cx, cy)];
  // Nearer to the start, so that the figures of the two directions do not meet.
  const [a, b, c] = [0.38, 0.48, 0.14];
  const middle = [a * start[0] + b * cx + c * end[0], a * start[1] + b * cy + c * end[1]];
  const last = Math.hypot(end[0] - cx, end[1] - cy) || 1;
  return { path: `M${start} Q${cx},${cy} ${end}`, middle, end, along: [(end[0] - cx) / last, (end[1] - cy) / last] };
}

// Where a line from a place's centre to a point leaves its box.
function edge(place, x, y) {
  const [px, py] = PLACES[place];
  const [dx, dy] = [x - px, y - py];
  const scale = Math.min(HALF_WIDTH / Math.abs(dx || 1e-9), HALF_HEIGHT / Math.abs(dy || 1e-9));
  return [px + dx * scale, py + dy * scale];
}

function drawBand(group, hop, nth, widest) {
  const rate = hop.rate;
  const width = Math.max(1.5, (rate / widest) * WIDEST);
  const { path, middle, end, along } = curve(hop.from, hop.to, nth);
  const band = element("path", { class: `band ${hop.mover}`, d: path, "stroke-width": width.toFixed(1) });
  band.append(element("title", {}, `${NAMES[hop.from]} to ${NAMES[hop.to]}, by ${MOVERS[hop.mover]}: ${bytes(rate)}/s`));
  const [ax, ay] = along;
  const size = 7 + width / 3;
  const corner = (forward, side) => `${end[0] + ax * forward - ay * side},${end[1] + ay * forward + ax * side}`;
  const head = element("polygon", { class: `head ${hop.mover}`, points: [corner(2, 0), corner(-size, size * 0.8), corner(-size, -size * 0.8)].join(" ") });
  group.append(band, head);
  return element("text", { class: `rate ${hop.mover}`, x: middle[0], y: middle[1] + 5 }, `${bytes(rate)}/s`);
}

// Draws hops ({from, to, mover, rate in bytes per second}).
export function drawFlow(svg, hops, probes) {
  const shown = new Set(TEXTBOOK);
  for (const { from, to } of hops) shown.add(from).add(to);
  const [bands, labels, places] = [element("g"), element("g"), element("g")];
  const widest = Math.max(1, ...hops.map((hop) => hop.rate));
  const count = new Map();
  for (const hop of hops) {
    const key = `${hop.from}>${hop.to}`;
    const nth = count.get(key) ?? 0;
    count.set(key, nth + 1);
    labels.append(drawBand(bands, hop, nth, widest));
  }
  for (const place of Object.keys(PLACES)) if (shown.has(place)) places.append(drawPlace(place, probes));
  svg.replaceChildren(bands, places, labels);
}

// Lines over time: bytes per second by mover, of points ({at, seconds, flows}), and a mark at the time that is shown.
export function drawStrip(svg, points, from, to, shown) {
  const [width, height] = [960, 90];
  const rates = points.map((point) => {
    const sum = { cpu: 0, dma: 0, reference: 0, cipher: 0 };
    for (const flow of point.flows ?? []) sum[flow.mover] += flow.bytes / point.seconds;
    return { at: point.at, known: point.flows !== null, sum };
  });
  const most = Math.max(1, ...rates.flatMap(({ sum }) => Object.values(sum)));
  const x = (at) => ((at - from) / (to - from)) * width;
  const lines = Object.keys(MOVERS).map((mover) => {
    const parts = [];
    let pen = "M";
    let before = null;
    for (const { at, known, sum } of rates) {
      // Nothing is drawn through a time of which nothing is known.
      if (!known || (before !== null && at - before > 10000)) pen = "M";
      if (known) {
        parts.push(`${pen}${x(at).toFixed(1)},${(height - 3 - (sum[mover] / most) * (height - 8)).toFixed(1)}`);
        pen = "L";
      }
      before = at;
    }
    return element("path", { class: `line ${mover}`, d: parts.join(" ") || "M0,0" });
  });
  svg.replaceChildren(...lines, element("line", { class: "mark", x1: x(shown), x2: x(shown), y1: 0, y2: height }));
}

// A small plot of figures, oldest first.
export function plot(figures, label) {
  const svg = element("svg", { class: "plot", viewBox: "0 0 90 22", role: "img", "aria-label": label });
  const most = Math.max(1, ...figures);
  const points = figures.map((figure, at) => `${(90 - (figures.length - 1 - at) * 3).toFixed(0)},${(20 - (figure / most) * 18).toFixed(1)}`);
  svg.append(element("polyline", { class: "line cpu", points: points.join(" ") }));
  return svg;
}
