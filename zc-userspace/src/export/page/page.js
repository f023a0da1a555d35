// Asks the daemon every two seconds, keeps what it answers, and shows the moment that is chosen.
"use strict";
import { drawFlow, drawStrip } from "/flow.js";
import { fillAdvice, fillHops, fillPeers, fillProbes, fillProcesses, visible } from "/table.js";

const INTERVAL = 2000;
// What could be saved is asked for less often.
const ADVICE = 5000;
// How far back the daemon's history and ours go, in milliseconds.
const REACH = 11 * 60 * 1000;
const at = (id) => document.getElementById(id);

const state = { whose: "", points: new Map(), probes: [], sort: "bytes", order: "desc", processes: null, generation: 0, advised: -Infinity };

async function ask(path) {
  const answer = await fetch(path);
  if (!answer.ok) throw Object.assign(new Error((await answer.json()).detail), { status: answer.status });
  return answer.json();
}

// The points of the host, group or process that is chosen, by time: what the daemon has forgotten (it may have been
// started again) stays.
async function history() {
  const { generation, points } = state;
  const since = points.size ? Math.max(...points.keys()) : 0;
  const query = new URLSearchParams({ since });
  if (state.whose) query.set(...split(state.whose));
  // A process that is gone and forgotten leaves what we have of it.
  const answer = await ask(`/api/v1/history?${query}`).catch((error) => {
    if (error.status === 404) return { points: [] };
    throw error;
  });
  if (generation !== state.generation) return;
  for (const point of answer.points) points.set(point.at, point);
  const newest = points.size ? Math.max(...points.keys()) : 0;
  for (const time of points.keys()) if (time < newest - REACH) points.delete(time);
}

// "pid=7" or "group=a=b".
function split(whose) {
  const at = whose.indexOf("=");
  return [whose.slice(0, at), whose.slice(at + 1)];
}

function sorted() {
  return [...state.points.values()].sort((a, b) => a.at - b.at);
}

// The hops of a point, most first, in bytes per second.
function hopsOf(point) {
  const hops = (point?.flows ?? []).map((flow) => ({ ...flow, rate: flow.bytes / point.seconds }));
  return hops.sort((a, b) => b.rate - a.rate);
}

function show() {
  const points = sorted();
  const newest = points.at(-1)?.at ?? Date.now();
  const back = Number(at("time").value) * 1000;
  const wanted = newest + back;
  const point = points.findLast((one) => one.at <= wanted);
  const hops = hopsOf(point);
  const when = point ? new Date(point.at).toLocaleTimeString() : "";
  at("when").textContent = back === 0 ? "now" : `${-back / 1000} s ago${when && `, ${when}`}`;
  at("time").setAttribute("aria-valuetext", at("when").textContent);
  drawFlow(at("flow"), hops, state.probes);
  drawStrip(at("strip"), points, newest - 600000, newest, wanted);
  fillHops(at("hops"), hops);
  Object.assign(at("flow").dataset, { at: point?.at ?? "", newest, whose: state.whose });
  let caption = "Bands are as wide as the bytes per second.";
  if (!point) caption = "Nothing is known of that time.";
  else if (point.flows === null) caption = "Others moved more in that moment, and only what moved most is kept.";
  at("flow-caption").textContent = caption;
}

function showProcesses() {
  const { processes, total } = state.processes;
  fillProcesses(at("rows"), processes, (one) => choose(`pid=${one.pid}`, `${visible(one.comm)} (pid ${one.pid})`));
  at("count").textContent = `${processes.length} of ${total}`;
  for (const head of document.querySelectorAll("th[data-sort]")) {
    if (head.dataset.sort === state.sort) head.setAttribute("aria-sort", state.order === "asc" ? "ascending" : "descending");
    else head.removeAttribute("aria-sort");
  }
}

async function processes() {
  const query = new URLSearchParams({ limit: 100, sort: state.sort, order: state.order });
  if (at("filter").value) query.set("filter", at("filter").value);
  const asked = query.toString();
  state.asked = asked;
  const answer = await ask(`/api/v1/processes?${query}`);
  if (state.asked !== asked) return;
  state.processes = answer;
  showProcesses();
}

// The groups to choose from; what is chosen stays, even if it is no group or gone.
async function groups() {
  const { groups } = await ask("/api/v1/groups");
  const select = at("whose");
  const options = groups.filter((group) => group.bytes > 0).map(({ group }) => new Option(visible(group), `group=${group}`));
  const kept = [...select.options].filter((option) => option.value === "" || option.value.startsWith("pid=") || (option.value === state.whose && !options.some((one) => one.value === state.whose)));
  if (select.options.length === kept.length + options.length && options.every((one) => [...select.options].some((old) => old.value === one.value))) return;
  select.replaceChildren(...kept, ...options);
  select.value = state.whose;
}

// Of the last minute, or of as much of it as the daemon runs; a while is enough to tell.
async function advice() {
  if (performance.now() - state.advised < ADVICE) return;
  const answer = await ask("/api/v1/advise?window=1m").catch((error) => {
    if (error.status === 503) return null;
    throw error;
  });
  if (answer === null) return;
  state.advised = performance.now();
  fillAdvice(at("advice"), answer);
}

// Of the process that is chosen, if one is and it is still known.
async function peers() {
  const { generation, whose } = state;
  const answer = whose.startsWith("pid=") ? await ask(`/api/v1/processes/${encodeURIComponent(split(whose)[1])}`).catch((error) => {
    if (error.status === 400 || error.status === 404) return null;
    throw error;
  }) : null;
  if (generation !== state.generation) return;
  at("peers-of").hidden = answer === null;
  if (answer !== null) fillPeers(at("peers"), answer.peers);
}

function choose(whose, name) {
  const select = at("whose");
  if (![...select.options].some((option) => option.value === whose)) select.add(new Option(name, whose), 1);
  select.value = whose;
  if (state.whose !== whose) {
    state.whose = whose;
    state.points = new Map();
    state.generation += 1;
    // A reload shows the same.
    window.history.replaceState(null, "", whose ? `#${encodeURIComponent(whose)}` : "#");
  }
  refresh();
}

function say(text, failed) {
  const status = at("status");
  if (status.textContent !== text) status.textContent = text;
  status.classList.toggle("failed", failed);
}

async function refresh() {
  try {
    const { kernel, probes } = await ask("/api/v1/probes");
    state.probes = probes;
    fillProbes(at("probes"), probes);
    await Promise.all([processes(), groups(), advice()]);
    await Promise.all([history(), peers()]);
    show();
    say(`Live. Linux ${kernel}.`, false);
  } catch (error) {
    say(`No answer from the daemon; trying again. (${error.message})`, true);
  }
}

async function forever() {
  if (!document.hidden) await refresh();
  setTimeout(forever, INTERVAL);
}

at("whose").addEventListener("change", (event) => choose(event.target.value, ""));
at("time").addEventListener("input", show);
at("live").addEventListener("click", () => {
  at("time").value = 0;
  show();
});
at("filter").addEventListener("input", () => processes().catch(() => {}));
for (const head of document.querySelectorAll("th[data-sort]")) {
  head.querySelector("button").addEventListener("click", () => {
    const column = head.dataset.sort;
    const first = ["pid", "comm"].includes(column) ? "asc" : "desc";
    state.order = state.sort === column ? (state.order === "asc" ? "desc" : "asc") : first;
    state.sort = column;
    processes().catch(() => {});
  });
}
let chosen = "";
try {
  chosen = decodeURIComponent(location.hash.slice(1));
} catch {
  // Whoever wrote that address meant something else.
}
if (/^(pid|group)=./.test(chosen)) choose(chosen, visible(chosen));
forever();
