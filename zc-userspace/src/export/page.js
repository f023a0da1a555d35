// Shows the processes with most bytes, every two seconds. Names come from processes: they are only set as text.
"use strict";
const rows = document.getElementById("rows");
const status = document.getElementById("status");
const number = new Intl.NumberFormat();

function cell(row, text) {
  row.insertCell().textContent = text;
}

async function show() {
  try {
    const answer = await fetch("/api/v1/processes?limit=20");
    if (!answer.ok) throw new Error((await answer.json()).detail);
    const { processes, total } = await answer.json();
    rows.replaceChildren();
    for (const one of processes) {
      const row = rows.insertRow();
      cell(row, one.pid);
      cell(row, one.exited ? one.comm + " (exited)" : one.comm);
      for (const bytes of [one.bytes, one.copied_bytes, one.delivered_bytes]) cell(row, number.format(bytes));
      cell(row, one.copies_per_byte === null ? "" : one.copies_per_byte.toFixed(2));
    }
    status.textContent = processes.length + " of " + total + " processes, since each was first seen.";
  } catch (error) {
    status.textContent = "No answer: " + error.message;
  }
  setTimeout(show, 2000);
}

show();
