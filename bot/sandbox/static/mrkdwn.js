// Slack's mrkdwn and its <…> references as DOM nodes. `world` knows users, groups, channels, the viewer, the time.
import { el, link } from "./dom.js";
import { emoji, withEmoji } from "./emoji.js";

const decode = (text) => text.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&");
const INLINE = new RegExp(
  [
    "(?<code>`[^`\\n]+`)",
    "<(?<ref>[^<>\\n]+)>",
    "(?<![\\w*])\\*(?<bold>\\S(?:[^*\\n]*?\\S)?)\\*(?![\\w*])",
    "(?<![\\w_])_(?<italic>\\S(?:[^_\\n]*?\\S)?)_(?![\\w_])",
    "(?<![\\w~])~(?<strike>\\S(?:[^~\\n]*?\\S)?)~(?![\\w~])",
    ":(?<emoji>[a-z0-9_+-]+):",
    "(?<line>\\n)",
  ].join("|"),
  "g",
);

export function mrkdwn(text, world) {
  const nodes = [];
  text.split(/```\n?([\s\S]*?)\n?```/).forEach((part, index) => {
    if (index % 2) nodes.push(el("pre", {}, decode(part.replace(/<(?:[^<>|]*\|)?([^<>]*)>/g, "$1"))));
    else nodes.push(...quoted(part, world));
  });
  return nodes;
}

function quoted(text, world) {
  const nodes = [];
  let quote = null;
  let plain = [];
  const flush = () => {
    if (plain.length) nodes.push(...inline(plain.join("\n"), world));
    plain = [];
  };
  for (const line of text.split("\n")) {
    const match = /^&gt; ?(.*)$/.exec(line) ?? /^> ?(.*)$/.exec(line);
    if (!match) {
      quote = null;
      plain.push(line);
      continue;
    }
    if (quote) quote.append(el("br"), ...inline(match[1], world));
    else {
      flush();
      quote = el("blockquote", {}, inline(match[1], world));
      nodes.push(quote);
    }
  }
  flush();
  return nodes;
}

export function inline(text, world) {
  const nodes = [];
  let from = 0;
  for (const match of text.matchAll(INLINE)) {
    nodes.push(...withEmoji(decode(text.slice(from, match.index))));
    from = match.index + match[0].length;
    const { code, ref, bold, italic, strike, emoji: name } = match.groups;
    if (code) nodes.push(el("code", {}, decode(code.slice(1, -1))));
    else if (ref) nodes.push(reference(ref, world));
    else if (bold) nodes.push(el("strong", {}, inline(bold, world)));
    else if (italic) nodes.push(el("em", {}, inline(italic, world)));
    else if (strike) nodes.push(el("s", {}, inline(strike, world)));
    else if (name) nodes.push(emoji(name) ?? match[0]);
    else nodes.push(el("br"));
  }
  return [...nodes, ...withEmoji(decode(text.slice(from)))];
}

function reference(ref, world) {
  const [target, label] = ref.split(/\|(.*)/s);
  if (target.startsWith("@")) return person(target.slice(1), world);
  if (target.startsWith("#")) return channel(target.slice(1), world);
  if (target.startsWith("!subteam^")) return group(target.slice(9), world);
  if (target.startsWith("!date^")) {
    const [, seconds, format, url] = target.split("^");
    const node = date(Number(seconds), decode(format ?? ""), decode(label ?? ""), world);
    return url ? link(decode(url), node) : node;
  }
  if (target.startsWith("!")) return el("span", { class: "mention broadcast" }, `@${target.slice(1)}`);
  return link(decode(target), decode(label ?? target));
}

export function person(id, world) {
  const user = world.user(id);
  const mine = id === world.me ? " me" : "";
  return el("span", { class: `mention${mine}`, title: user?.real_name }, `@${user?.real_name ?? id}`);
}

export function group(id, world) {
  const found = world.group(id);
  const mine = found?.users.includes(world.me) ? " me" : "";
  return el("span", { class: `mention${mine}` }, `@${found?.handle ?? id}`);
}

export function channel(id, world) {
  return el("span", { class: "mention" }, `#${world.channel(id)?.name ?? "private-channel"}`);
}

// A date that renders itself again while "{ago}" moves on (see `tick`).
export function date(seconds, format, fallback, world) {
  const node = el("time", { title: fallback });
  if (!Number.isFinite(seconds) || seconds <= 0) {
    node.textContent = fallback;
    return node;
  }
  node.datetime = { seconds, format };
  node.textContent = formatted(seconds, format, world);
  return node;
}

export function tick(world) {
  for (const node of document.querySelectorAll("time")) {
    const moment = node.datetime;
    if (moment?.format?.includes("{ago}")) node.textContent = formatted(moment.seconds, moment.format, world);
  }
}

function formatted(seconds, format, world) {
  const moment = new Date(seconds * 1000);
  const say = (options) => new Intl.DateTimeFormat("en-GB", { timeZone: world.tz, ...options }).format(moment);
  const pretty = (otherwise) => {
    const day = (at) => new Intl.DateTimeFormat("en-CA", { timeZone: world.tz }).format(new Date(at * 1000));
    const today = world.now();
    for (const [name, at] of [["today", today], ["yesterday", today - 86400], ["tomorrow", today + 86400]])
      if (day(at) === day(seconds)) return name;
    return otherwise;
  };
  const long = say({ weekday: "long", day: "numeric", month: "long", year: "numeric" });
  const plain = say({ day: "numeric", month: "long", year: "numeric" });
  const short = say({ day: "numeric", month: "short", year: "numeric" });
  const parts = {
    date_num: new Intl.DateTimeFormat("en-CA", { timeZone: world.tz }).format(moment),
    date_slash: say({ day: "2-digit", month: "2-digit", year: "numeric" }),
    date: plain, date_short: short, date_long: long, day_divider_pretty: pretty(long),
    date_pretty: pretty(plain), date_short_pretty: pretty(short), date_long_pretty: pretty(long),
    time: say({ hour: "2-digit", minute: "2-digit" }),
    time_secs: say({ hour: "2-digit", minute: "2-digit", second: "2-digit" }),
    ago: ago(seconds - world.now()),
  };
  const text = format.replace(/\{(\w+)\}/g, (all, name) => parts[name] ?? all);
  return /^\{\w+_pretty\}/.test(format) ? text[0].toUpperCase() + text.slice(1) : text;
}

function ago(seconds) {
  const speak = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
  const size = Math.abs(seconds);
  if (size < 60) return speak.format(Math.round(seconds), "second");
  if (size < 3600) return speak.format(Math.round(seconds / 60), "minute");
  if (size < 86400) return speak.format(Math.round(seconds / 3600), "hour");
  return speak.format(Math.round(seconds / 86400), "day");
}
