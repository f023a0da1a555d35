// The tables. Names come from processes: they are only ever set as text, with what can't be seen made visible.

import { MOVERS, NAMES, bytes, plot } from "/flow.js";

const number = new Intl.NumberFormat("en");
// What is copied is plotted over so many answers.
const PLOTTED = 30;
const past = new Map();

// Control characters, and those that turn the direction of writing, as \u{…}.
export function visible(name) {
  return name.replace(/[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, (c) => `\\u{${c.charCodeAt(0).toString(16)}}`);
}

export function cell(row, text, kind = "") {
  const made = row.insertCell();
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

export function fillHops(body, hops) {
  body.replaceChildren();
  for (const hop of hops) {
    const row = body.insertRow();
    row.dataset.hop = `${hop.from}>${hop.to}>${hop.mover}`;
    cell(row, NAMES[hop.from]);
    cell(row, NAMES[hop.to]);
    cell(row, MOVERS[hop.mover]);
    cell(row, number.format(Math.round(hop.rate)), "number");
    cell(row, hop.basis);
  }
  if (hops.length === 0) cell(body.insertRow(), "Nothing moved.").colSpan = 5;
}

// Copied bytes per second, answer by answer.
function rates(one, now) {
  const key = `${one.pid} ${one.tgid_start}`;
  const before = past.get(key) ?? { at: now, copied: one.copied_bytes, figures: [] };
  if (now > before.at) before.figures.push(Math.max(0, ((one.copied_bytes - before.copied) * 1000) / (now - before.at)));
  if (before.figures.length > PLOTTED) before.figures.shift();
  past.set(key, { at: now, copied: one.copied_bytes, figures: before.figures, seen: now });
  return before.figures;
}

function fillRow(row, one, figures, choose) {
  row.dataset.pid = one.pid;
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = one.pid;
  button.setAttribute("aria-label", `${one.pid}: show where its bytes go`);
  button.addEventListener("click", () => choose(one));
  cell(row, "").append(button);
  cell(row, visible(one.comm) + (one.exited ? " (exited)" : ""), "name").title = visible(one.exe ?? "");
  for (const count of [one.bytes, one.copied_bytes, one.delivered_bytes]) cell(row, number.format(count), "number");
  cell(row, one.copies_per_byte === null ? "" : one.copies_per_byte.toFixed(2), "number");
  const last = figures.at(-1) ?? 0;
  cell(row, "").append(plot(figures, `copied per second lately, now ${bytes(last)}`));
}

export function fillProcesses(body, processes, choose) {
  const now = performance.now();
  // Whoever works with the keyboard keeps the place.
  const focused = document.activeElement?.closest?.("tr")?.dataset.pid;
  body.replaceChildren();
  for (const one of processes) fillRow(body.insertRow(), one, rates(one, now), choose);
  if (focused) body.querySelector(`tr[data-pid="${Number(focused)}"] button`)?.focus();
  for (const [key, kept] of past) if (now - kept.seen > 60000) past.delete(key);
}

// What is advised first; of what is not, only the reason matters.
export function fillAdvice(body, { processes, groups }) {
  body.replaceChildren();
  const together = groups.filter((group) => group.processes > 1);
  const all = [
    ...processes.flatMap(({ process, advice }) => advice.map((one) => ({ of: `${process.comm} (pid ${process.pid})`, ...one }))),
    ...together.flatMap(({ group, processes, advice }) => advice.map((one) => ({ of: `all ${processes} of ${group}`, ...one }))),
  ];
  all.sort((a, b) => b.advised - a.advised || b.saved_copied_bytes - a.saved_copied_bytes);
  for (const one of all) {
    const row = body.insertRow();
    Object.assign(row.dataset, { advice: `${one.source}>${one.sink}`, advised: one.advised });
    cell(row, visible(one.of), "name");
    cell(row, one.source);
    cell(row, one.sink);
    cell(row, number.format(one.candidate_bytes), "number");
    cell(row, one.call ?? "none");
    cell(row, one.advised ? number.format(one.saved_copied_bytes) : "", "number");
    cell(row, one.advised ? number.format(one.saved_mode_switches) : "", "number");
    cell(row, visible(one.reason), "text");
  }
  if (all.length === 0) cell(body.insertRow(), "Nothing is copied needlessly, as far as can be seen.").colSpan = 8;
}

// Null where the probe is not attached.
export function fillPeers(body, peers) {
  body.replaceChildren();
  for (const peer of peers ?? []) {
    const row = body.insertRow();
    row.dataset.peer = peer.protocol;
    cell(row, peer.protocol);
    cell(row, peer.address === null ? "(no name)" : visible(peer.address), "name");
    for (const count of [peer.operations, peer.sent_bytes, peer.received_bytes]) cell(row, number.format(count), "number");
  }
  if (!peers?.length) cell(body.insertRow(), peers ? "No bytes went to or came from anybody." : "Not counted: see the probes.").colSpan = 5;
}

export function fillProbes(body, probes) {
  body.replaceChildren();
  for (const probe of probes) {
    const row = body.insertRow();
    row.dataset.probe = probe.name;
    cell(row, probe.name);
    cell(row, probe.attached ? "yes" : "no");
    cell(row, probe.provides, "text");
    cell(row, probe.reason ?? "", "text");
  }
}
