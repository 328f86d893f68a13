// One message in a list.
import { blocks } from "./blocks.js";
import { colorOf, el, link } from "./dom.js";
import { emoji } from "./emoji.js";
import { mrkdwn } from "./mrkdwn.js";

export function avatar(id, world) {
  const user = world.user(id);
  if (id === world.app?.user) return el("img", { class: "avatar", src: "/static/portcullis.svg", alt: "" });
  const initials = (user?.real_name ?? "?").split(/\s+/).map((word) => word[0]).slice(0, 2).join("").toUpperCase();
  return el("span", { class: `avatar color-${colorOf(id)}`, "aria-hidden": "true" }, initials);
}

export function messageNode(message, { key, follows, inThread, world, openThread }) {
  const user = world.user(message.user);
  const isApp = Boolean(user?.is_bot);
  const surface = { where: { channel: message.channel, ts: message.ts }, values: message.values, errors: {}, fields: new Map() };
  const body = message.blocks?.length
    ? el("div", { class: "blocks" }, blocks(message.blocks, surface, world))
    : el("div", { class: "words" }, mrkdwn(message.text, world));
  if (message.edited && !isApp) body.append(el("span", { class: "dim small" }, " (edited)"));
  const time = new Intl.DateTimeFormat("en-GB", { timeZone: world.tz, hour: "2-digit", minute: "2-digit" }).format(new Date(message.ts * 1000));
  const node = el("article", { class: `message${follows ? " follows" : ""}${message.ephemeral ? " ephemeral" : ""}`, "data-ts": message.ts },
    el("div", { class: "left" }, follows ? el("span", { class: "stamp" }, time) : avatar(message.user, world)),
    el("div", { class: "right" },
      message.ephemeral ? el("div", { class: "only-you" }, eye(), "Only visible to you") : null,
      follows ? null : el("div", { class: "who" }, el("strong", {}, user?.real_name ?? message.user), isApp ? el("span", { class: "badge" }, "APP") : null, el("span", { class: "stamp" }, time)),
      body,
      (message.files ?? []).map((file) => el("div", { class: "file" }, link(file.permalink, file.title), el("span", { class: "dim small" }, `${file.size} bytes`))),
      reactions(message, world),
      !inThread && message.reply_count ? replies(message, world, openThread) : null));
  node.dataset.key = key;
  if (!inThread && !message.ephemeral)
    node.append(el("button", { class: "reply icon", title: "Reply in thread", onclick: () => openThread(message.ts) }, "Reply"));
  return node;
}

function eye() {
  return emoji("eyes") ?? "";
}

function reactions(message, world) {
  const given = message.reactions ?? [];
  if (!given.length) return null;
  return el("div", { class: "reactions" }, given.map((one) =>
    el("span", { class: one.users.includes(world.me) ? "mine" : "", title: one.users.map((id) => world.user(id)?.real_name).join(", ") }, emoji(one.name) ?? `:${one.name}:`, ` ${one.count}`)));
}

function replies(message, world, openThread) {
  return el("button", { class: "replies", onclick: () => openThread(message.ts) },
    message.reply_users.slice(0, 4).map((id) => avatar(id, world)),
    el("span", {}, message.reply_count === 1 ? "1 reply" : `${message.reply_count} replies`),
    el("span", { class: "dim small" }, "View thread"));
}
