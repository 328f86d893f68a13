// The modal stack: the top one is shown.
import { act } from "./acts.js";
import { blocks } from "./blocks.js";
import { el } from "./dom.js";
import { typed } from "./elements.js";

let shown = "";
let surface = null;

export function showModals(overlay, stack, world) {
  const view = stack.at(-1);
  const key = view ? JSON.stringify([world.me, view.id, view.hash, view.errors, stack.length]) : "";
  if (key === shown) return;
  const same = view && surface?.where.view === view.id;
  const before = same ? surface : null;
  const focused = same ? document.activeElement?.dataset?.key : null;
  shown = key;
  if (!view) {
    surface = null;
    overlay.replaceChildren();
    return;
  }
  surface = { where: { view: view.id }, values: view.values, errors: view.errors, fields: new Map() };
  if (before) {
    surface.kept = new Map(Object.entries(typed(before)));
    surface.keptOptions = surface.pickedOptions = before.pickedOptions;
  }
  overlay.replaceChildren(draw(view, stack, world));
  const wanted = focused ? `[data-key="${CSS.escape(focused)}"]` : null;
  const first = overlay.querySelector(".wrong") ?? (wanted && overlay.querySelector(wanted)) ?? overlay.querySelector(".input");
  first?.focus();
}

function draw(view, stack, world) {
  const current = surface;
  const close = (everything) => act("close", { view: view.id, everything });
  const submit = async (event) => {
    event.preventDefault();
    form.classList.add("busy");
    await act("submit", { view: view.id, values: typed(current) });
    form.classList.remove("busy");
  };
  const trouble = view.errors[""];
  const form = el("form", { class: "modal", role: "dialog", "aria-modal": "true", "aria-label": view.title.text, novalidate: true, onsubmit: submit },
    el("div", { class: "modal-head" },
      stack.length > 1 ? el("button", { type: "button", class: "icon", "aria-label": "Back", onclick: () => close(false) }, "←") : el("img", { class: "avatar small", src: "/static/portcullis.svg", alt: "" }),
      el("h2", {}, view.title.text),
      el("button", { type: "button", class: "icon", "aria-label": "Close", onclick: () => close(true) }, "✕")),
    el("div", { class: "modal-body" }, trouble ? el("div", { class: "alert error" }, el("span", { class: "mark" }), el("div", {}, trouble)) : null, blocks(view.blocks, current, world)),
    el("div", { class: "modal-foot" },
      el("button", { type: "button", class: "button", onclick: () => close(false) }, view.close?.text ?? (view.submit ? "Cancel" : "Close")),
      view.submit ? el("button", { type: "submit", class: "button primary" }, view.submit.text) : null));
  return el("div", { class: "shade" }, form);
}
