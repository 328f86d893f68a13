// Block Kit as DOM. `surface` is where the blocks are: {where: {view} or {channel, ts}, values, errors, fields}.
import { el } from "./dom.js";
import { withEmoji } from "./emoji.js";
import { element } from "./elements.js";
import { inline, mrkdwn } from "./mrkdwn.js";
import { richText } from "./rich_text.js";

export function blocks(list, surface, world) {
  return list.map((block) => {
    const draw = BLOCKS[block.type];
    if (!draw) return el("div", { class: "block unknown" }, `(a block of type ${block.type})`);
    return el("div", { class: `block b-${block.type}` }, draw(block, surface, world));
  });
}

export function textObject(object, world) {
  if (!object) return [];
  return object.type === "mrkdwn" ? mrkdwn(object.text, world) : plain(object.text);
}

function plain(text) {
  return text.split("\n").flatMap((line, index) => [...(index ? [el("br")] : []), ...shortcodes(line)]);
}

function shortcodes(text) {
  const escape = (part) => part.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  return text.split(/(:[a-z0-9_+-]+:)/).flatMap((part, i) => (i % 2 ? inline(escape(part), {}) : withEmoji(part)));
}

const BLOCKS = {
  header: (block) => el("h3", {}, plain(block.text.text)),
  divider: () => el("hr"),
  section: (block, surface, world) => [
    el(
      "div",
      { class: "words" },
      block.text ? el("div", {}, textObject(block.text, world)) : null,
      block.fields
        ? el("div", { class: "fields" }, block.fields.map((field) => el("div", {}, textObject(field, world))))
        : null,
    ),
    block.accessory ? el("div", { class: "accessory" }, element(block, block.accessory, surface, world)) : null,
  ],
  context: (block, surface, world) =>
    block.elements.map((part) =>
      part.type === "image" ? picture(part) : el("span", {}, textObject(part, world)),
    ),
  actions: (block, surface, world) => block.elements.map((part) => element(block, part, surface, world)),
  input: (block, surface, world) => {
    const error = surface.errors?.[block.block_id];
    return [
      el(
        "label",
        {},
        plain(block.label.text),
        block.optional ? el("span", { class: "dim" }, " (optional)") : null,
      ),
      element(block, block.element, surface, world),
      error ? el("div", { class: "error", role: "alert" }, error) : null,
      block.hint ? el("div", { class: "hint" }, plain(block.hint.text)) : null,
    ];
  },
  image: (block) => [block.title ? el("div", { class: "dim" }, plain(block.title.text)) : null, picture(block)],
  rich_text: (block, surface, world) => richText(block, world),
  markdown: (block, surface, world) => markdown(block.text, world),
  table: (block, surface, world) => table(block, world),
  alert: (block, surface, world) =>
    el(
      "div",
      { class: `alert ${block.level ?? "default"}`, role: "note" },
      el("span", { class: "mark" }),
      el("div", {}, textObject(block.text, world)),
    ),
};

// The page loads nothing from elsewhere; a picture is its description.
function picture(part) {
  return el("span", { class: "picture", title: part.alt_text }, part.alt_text);
}

function markdown(text, world) {
  const escape = (line) => line.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  return text.split("\n\n").map((part) => {
    const title = /^#{1,4} (.*)$/.exec(part);
    if (title) return el("h3", {}, title[1]);
    return el("p", {}, mrkdwn(escape(part).replace(/\*\*(.+?)\*\*/g, "*$1*"), world));
  });
}

function table(block, world) {
  const cell = (content, tag, column) => {
    const settings = block.column_settings?.[column] ?? {};
    const inner =
      content.type === "rich_text"
        ? richText(content, world)
        : withEmoji(content.text ?? String(content.value ?? ""));
    return el(tag, { class: `align-${settings.align ?? "left"}${settings.is_wrapped ? " wrap" : ""}` }, inner);
  };
  return el(
    "table",
    {},
    block.rows.map((row, index) => el("tr", {}, row.map((c, i) => cell(c, index ? "td" : "th", i)))),
  );
}

