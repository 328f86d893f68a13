// Toasts, and the "are you sure" of a confirm object.
import { el } from "./dom.js";
import { mrkdwn } from "./mrkdwn.js";

export function toast(text) {
  const node = el("div", { class: "toast" }, text[0].toUpperCase() + text.slice(1));
  document.getElementById("toasts").append(node);
  setTimeout(() => node.remove(), 5000);
}

export function confirmed(confirm, world) {
  return new Promise((resolve) => {
    const done = (answer) => {
      shade.remove();
      resolve(answer);
    };
    const words = confirm.text.type === "mrkdwn" ? mrkdwn(confirm.text.text, world) : [confirm.text.text];
    const style = confirm.style === "danger" ? "danger solid" : "primary";
    const yes = el("button", { type: "button", class: `button ${style}`, onclick: () => done(true) }, confirm.confirm?.text ?? "Yes");
    const no = el("button", { type: "button", class: "button", onclick: () => done(false) }, confirm.deny?.text ?? "Cancel");
    const shade = el("div", { class: "shade" },
      el("div", { class: "modal confirm", role: "alertdialog", "aria-modal": "true" },
        el("div", { class: "modal-head" }, el("h2", {}, confirm.title.text)),
        el("div", { class: "modal-body" }, words),
        el("div", { class: "modal-foot" }, no, yes)));
    document.body.append(shade);
    yes.focus();
  });
}
