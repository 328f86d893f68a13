// Where a person types. Enter sends, Shift+Enter breaks the line; "/" lists the app's commands.
import { el } from "./dom.js";

export function composer(form, { placeholder, commands, shortcuts = [], send, start }) {
  const box = el("textarea", { rows: "1", placeholder, "aria-label": placeholder });
  const hints = el("div", { class: "hints", hidden: true });
  const button = el("button", { type: "submit", class: "send", "aria-label": "Send" }, "➤");
  const fit = () => {
    box.rows = Math.min(8, box.value.split("\n").length);
    button.classList.toggle("ready", box.value.trim() !== "");
    showHints(hints, box, { commands, shortcuts, start }, fit);
  };
  form.onsubmit = (event) => {
    event.preventDefault();
    const text = box.value.trim();
    if (!text) return;
    box.value = "";
    fit();
    send(text);
  };
  box.addEventListener("input", fit);
  box.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    form.requestSubmit();
  });
  form.replaceChildren(hints, el("div", { class: "box" }, box, el("div", { class: "tools" }, el("span", { class: "dim small" }, commands.length ? "Enter to send · / for commands" : "Enter to send"), button)));
}

function showHints(hints, box, { commands, shortcuts, start }, fit) {
  const typed = box.value;
  const fitting = typed.startsWith("/") ? commands.filter((one) => one.command.startsWith(typed.split(" ")[0]) || typed.startsWith(`${one.command} `)) : [];
  const offered = typed.startsWith("/") ? shortcuts.filter((one) => one.name.toLowerCase().startsWith(typed.slice(1).toLowerCase())) : [];
  hints.hidden = !fitting.length && !offered.length;
  hints.replaceChildren(
    ...fitting.map((one) =>
    el("button", { type: "button", onclick: () => { box.value = `${one.command} `; box.focus(); fit(); } },
      el("strong", {}, one.command), el("span", { class: "usage" }, ` ${one.usage_hint ?? ""}`), el("div", { class: "dim small" }, one.description ?? ""))),
    ...offered.map((one) =>
      el("button", { type: "button", onclick: () => { box.value = ""; fit(); start(one.callback_id); } },
        el("strong", {}, one.name), el("div", { class: "dim small" }, one.description ?? ""))));
}
