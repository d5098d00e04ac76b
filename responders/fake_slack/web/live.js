// Shows what changed without losing what the person does: not while a dialog is open.
"use strict";

async function refresh() {
  if (document.querySelector("details[open]")) {
    window.setTimeout(refresh, 1000);
    return;
  }
  const answer = await fetch(window.location.href, { cache: "no-store" });
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const shown = document.getElementById("messages");
  const atEnd = window.innerHeight + window.scrollY >= document.body.scrollHeight - 40;
  shown.replaceWith(page.getElementById("messages"));
  if (atEnd) window.scrollTo(0, document.body.scrollHeight);
}

new EventSource("/live?since=" + document.body.dataset.revision).onmessage = refresh;
