// The page: who you are, where you look, and what is there. Everything shown comes from /sandbox/view.
import { act, actAs } from "./acts.js";
import { blocks } from "./blocks.js";
import { composer } from "./composer.js";
import { el } from "./dom.js";
import { tick } from "./mrkdwn.js";
import { avatar, messageNode } from "./messages.js";
import { showModals } from "./modals.js";
import { sidebar } from "./sidebar.js";

const $ = (id) => document.getElementById(id);
const here = { user: "", channel: "", thread: null, tab: "messages" };
let seen = { users: [], groups: [], channels: [], version: -1, now: Date.now() / 1000 };
let fetched = performance.now();
const drawn = new Map();

export const world = {
  get me() { return here.user; },
  get tz() { return world.user(here.user)?.tz ?? "UTC"; },
  get app() { return seen.app; },
  user: (id) => seen.users.find((user) => user.id === id),
  group: (id) => seen.groups.find((group) => group.id === id),
  channel: (id) => seen.channels.find((channel) => channel.id === id),
  people: () => seen.users.filter((user) => !user.is_bot && !user.deleted),
  rooms: () => seen.channels.filter((channel) => !channel.is_im),
  now: () => seen.now + (performance.now() - fetched) / 1000,
};

// -- where we are ------------------------------------------------------------------------------------------

function readAddress() {
  const parts = new URLSearchParams(location.hash.slice(1));
  here.user = parts.get("user") ?? here.user;
  here.channel = parts.get("channel") ?? here.channel;
  here.thread = parts.get("thread");
  here.tab = parts.get("tab") ?? "messages";
}

function go(change) {
  Object.assign(here, change);
  const parts = new URLSearchParams({ user: here.user, channel: here.channel });
  if (here.thread) parts.set("thread", here.thread);
  if (here.tab !== "messages") parts.set("tab", here.tab);
  history.replaceState(null, "", `#${parts}`);
  refresh();
}

const isAppDm = (channel) => channel?.is_im && channel.peer === seen.app?.user;

// -- fetching ----------------------------------------------------------------------------------------------

let busy = false;
let again = false;

async function refresh() {
  if (busy) {
    again = true;
    return;
  }
  busy = true;
  try {
    const asked = new URLSearchParams({ user: here.user, channel: here.channel });
    if (here.thread) asked.set("thread", here.thread);
    const answer = await (await fetch(`/sandbox/view?${asked}`)).json();
    [seen, fetched] = [answer, performance.now()];
    if (settle()) draw();
  } finally {
    busy = false;
    if (again) {
      again = false;
      refresh();
    }
  }
}

// Somebody and somewhere valid; false while that needs another fetch.
function settle() {
  const people = world.people();
  if (!people.some((user) => user.id === here.user)) {
    here.user = people[0]?.id ?? "";
    again = true;
    return false;
  }
  actAs(here.user, seen.app.name);
  if (!world.channel(here.channel)) {
    here.channel = seen.channels.find((channel) => !channel.is_im)?.id ?? seen.channels[0]?.id ?? "";
    here.thread = null;
    again = Boolean(here.channel);
    return !again;
  }
  return true;
}

function live() {
  const socket = new WebSocket(`${location.origin.replace("http", "ws")}/sandbox/live`);
  socket.onmessage = (event) => JSON.parse(event.data).version !== seen.version && refresh();
  socket.onopen = () => document.body.classList.remove("offline");
  socket.onclose = () => {
    document.body.classList.add("offline");
    setTimeout(live, 1000);
  };
}

// -- drawing -----------------------------------------------------------------------------------------------

// Draw a part only when what it shows has changed, so that typing and scrolling are left alone.
function part(name, content, make) {
  const key = JSON.stringify(content);
  if (drawn.get(name) === key) return false;
  drawn.set(name, key);
  make();
  return true;
}

function draw() {
  const channel = world.channel(here.channel);
  document.title = `${channel ? nameOf(channel) : ""} – ${seen.team}`;
  part("side", [seen.channels, seen.users, here], () => {
    $("workspace").replaceChildren(seen.team);
    $("team").replaceChildren(`Search ${seen.team}`);
    $("you").replaceChildren(...world.people().map((user) => el("option", { value: user.id, selected: user.id === here.user }, user.real_name)));
    $("you").value = here.user;
    $("you-label").textContent = ["You are", world.user(here.user)?.title].filter(Boolean).join(" · ");
    $("you-avatar").replaceChildren(avatar(here.user, world));
    $("channels").replaceChildren(...sidebar(seen, here, world, go));
  });
  part("head", [channel, here.tab], () => drawHead(channel));
  const onHome = isAppDm(channel) && here.tab === "home";
  $("messages").hidden = onHome;
  $("composer").hidden = onHome;
  $("home").hidden = !onHome;
  if (onHome) part("home", [here.user, seen.home], drawHome);
  drawMessages($("messages"), seen.messages ?? [], false);
  drawThread();
  part("composer", [here.channel], () =>
    composer($("composer"), { placeholder: `Message ${nameOf(channel)}`, commands: seen.commands, shortcuts: seen.shortcuts, start: (id) => act("shortcut", { callback_id: id }), send: (text) => act("type", { channel: here.channel, text }) }));
  showModals($("overlay"), seen.modals ?? [], world);
  const newest = channel?.latest;
  if (newest && channel.unread && !document.hidden && !onHome) act("read", { channel: here.channel, ts: newest });
}

function nameOf(channel) {
  if (!channel) return "";
  return channel.is_im ? (world.user(channel.peer)?.real_name ?? "") : `#${channel.name}`;
}

function drawHead(channel) {
  if (!channel) return;
  const count = channel.is_im ? null : el("span", { class: "count" }, `${channel.members.length} members`);
  const marks = [channel.is_private && !channel.is_im && "private", channel.is_ext_shared && "shared with other organisations", channel.is_archived && "archived"].filter(Boolean);
  $("head").replaceChildren(
    ...(channel.is_im ? [avatar(channel.peer, world)] : []),
    el("strong", {}, channel.is_im ? nameOf(channel) : `${channel.is_private ? "" : "# "}${channel.name}`),
    ...marks.map((mark) => el("span", { class: "chip" }, mark)),
    el("span", { class: "dim topic" }, channel.topic ?? ""), ...(count ? [count] : []));
  const tabs = $("tabs");
  tabs.hidden = !isAppDm(channel);
  tabs.replaceChildren(...["home", "messages"].map((tab) =>
    el("button", { class: here.tab === tab ? "on" : "", onclick: () => openTab(tab) }, tab[0].toUpperCase() + tab.slice(1))));
}

function openTab(tab) {
  go({ tab, thread: null });
  if (tab === "home") act("home", {});
}

function drawHome() {
  const home = seen.home;
  if (!home) {
    $("home").replaceChildren(el("p", { class: "empty" }, `${seen.app.name} has not published a home tab for you yet.`));
    return;
  }
  const surface = { where: { view: home.id }, values: home.values, errors: {}, fields: new Map() };
  $("home").replaceChildren(el("div", { class: "home-body" }, blocks(home.blocks, surface, world)));
}

function drawMessages(list, messages, inThread) {
  const name = list.id;
  part(name, [here.user, here.channel, here.thread, messages], () => {
    const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 80;
    const kept = new Map([...list.children].map((node) => [node.dataset.key, node]));
    const nodes = messages.map((message, index) => {
      const previous = messages[index - 1];
      const follows = Boolean(previous && previous.user === message.user && message.ts - previous.ts < 300 && previous.ephemeral === message.ephemeral && !(inThread && index === 1));
      const key = JSON.stringify([here.user, follows, message]);
      return kept.get(key) ?? messageNode(message, { key, follows, inThread, world, openThread: (ts) => go({ thread: ts }) });
    });
    if (!nodes.length) nodes.push(el("p", { class: "empty" }, "Nothing here yet. Say something, or type / for the commands."));
    list.replaceChildren(...nodes);
    if (atEnd || list.dataset.place !== here.channel + here.thread) list.scrollTop = list.scrollHeight;
    list.dataset.place = here.channel + here.thread;
  });
}

function drawThread() {
  const open = Boolean(here.thread && seen.thread);
  $("panel").hidden = !open;
  if (!open) return;
  $("thread-where").textContent = nameOf(world.channel(here.channel));
  drawMessages($("thread"), seen.thread, true);
  const [channel, thread] = [here.channel, here.thread];
  part("thread-composer", [channel, thread], () =>
    composer($("thread-composer"), { placeholder: "Reply…", commands: [], send: (text) => act("type", { channel, text, thread }) }));
}

$("you").addEventListener("change", () => {
  const app = isAppDm(world.channel(here.channel));
  const room = world.channel(here.channel);
  const user = $("you").value;
  go({ user, channel: app || room?.is_im || !room?.members.includes(user) ? "" : here.channel, thread: null, tab: "messages" });
});
$("close-thread").addEventListener("click", () => go({ thread: null }));
window.addEventListener("hashchange", () => { readAddress(); refresh(); });
document.addEventListener("visibilitychange", () => !document.hidden && refresh());
setInterval(() => tick(world), 1000);
readAddress();
refresh().then(live);
