// Channels, direct messages and the app, with their unread marks.
import { el } from "./dom.js";
import { avatar } from "./messages.js";

export function sidebar(seen, here, world, go) {
  const row = (channel, icon, name) => {
    const classes = ["row", channel.id === here.channel && "on", channel.unread && "unread", channel.is_archived && "off"];
    const open = () => go({ channel: channel.id, thread: null, tab: "messages" });
    // At the press, not at the release: a row drawn anew in between would lose the click. The keyboard only clicks.
    return el("button", { class: classes.filter(Boolean).join(" "), onclick: open, onmousedown: open },
      el("span", { class: "sign" }, icon), el("span", { class: "name" }, name),
      channel.mentions ? el("span", { class: "pill" }, String(channel.mentions)) : null);
  };
  const rooms = seen.channels.filter((channel) => !channel.is_im).sort((a, b) => a.name.localeCompare(b.name));
  const talks = seen.channels.filter((channel) => channel.is_im && channel.peer !== seen.app.user);
  const app = seen.channels.find((channel) => channel.is_im && channel.peer === seen.app.user);
  return [
    el("h4", {}, "Channels"),
    ...rooms.map((channel) => row(channel, channel.is_private ? padlock() : "#", channel.name)),
    ...(talks.length ? [el("h4", {}, "Direct messages")] : []),
    ...talks.map((channel) => row(channel, avatar(channel.peer, world), world.user(channel.peer)?.real_name ?? "")),
    el("h4", {}, "Apps"),
    ...(app ? [row(app, avatar(seen.app.user, world), seen.app.name)] : []),
  ];
}

function padlock() {
  return el("span", { class: "padlock", title: "private" });
}
