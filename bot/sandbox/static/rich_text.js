// rich_text blocks.
import { el, link } from "./dom.js";
import { emoji, withEmoji } from "./emoji.js";
import { channel, date, group, person } from "./mrkdwn.js";

export function richText(block, world) {
  return block.elements.map((part) => {
    if (part.type === "rich_text_list") return list(part, world);
    const words = part.elements.map((piece) => styled(piece, world));
    if (part.type === "rich_text_preformatted") return el("pre", {}, words);
    if (part.type === "rich_text_quote") return el("blockquote", {}, words);
    return el("div", { class: "rich" }, words);
  });
}

function list(part, world) {
  const items = part.elements.map((item) => el("li", {}, item.elements.map((piece) => styled(piece, world))));
  const node = el(part.style === "ordered" ? "ol" : "ul", {}, items);
  if (part.indent) node.classList.add(`indent-${part.indent}`);
  if (part.offset) node.start = part.offset + 1;
  return node;
}

function styled(piece, world) {
  let node = one(piece, world);
  const style = piece.style ?? {};
  for (const [name, tag] of [["code", "code"], ["bold", "strong"], ["italic", "em"], ["strike", "s"], ["underline", "u"]])
    if (style[name]) node = el(tag, {}, node);
  return node;
}

function one(piece, world) {
  switch (piece.type) {
    case "text":
      return el("span", { class: "pre" }, withEmoji(piece.text));
    case "link":
      return link(piece.url, piece.text ?? piece.url);
    case "user":
      return person(piece.user_id, world);
    case "usergroup":
      return group(piece.usergroup_id, world);
    case "channel":
      return channel(piece.channel_id, world);
    case "broadcast":
      return el("span", { class: "mention broadcast" }, `@${piece.range}`);
    case "emoji":
      return emoji(piece.name) ?? `:${piece.name}:`;
    case "date":
      return date(piece.timestamp, piece.format, piece.fallback ?? "", world);
    default:
      return piece.value ?? "";
  }
}
