// Interactive elements. Each input registers in surface.fields under "block_id/action_id" how to read itself.
import { el } from "./dom.js";
import { act } from "./acts.js";
import { confirmed } from "./dialogs.js";
import { textObject } from "./blocks.js";

export function element(block, part, surface, world) {
  const draw = ELEMENTS[part.type];
  if (!draw) return el("span", { class: "dim" }, part.alt_text ?? `(an element of type ${part.type})`);
  const value = surface.values?.[block.block_id]?.[part.action_id] ?? {};
  const kept = surface.kept?.get(`${block.block_id}/${part.action_id}`);
  return draw({ block, part, surface, world, value, kept });
}

async function press({ block, part, surface, world }, choice, node) {
  if (part.confirm && !(await confirmed(part.confirm, world))) return;
  node?.classList.add("busy");
  await act("press", { ...surface.where, action_id: part.action_id, block_id: block.block_id, choice, values: typed(surface) });
  node?.classList.remove("busy");
}

// What is in the inputs of a surface now. An update that keeps block and action ids keeps it (surface.kept).
export function typed(surface) {
  return Object.fromEntries([...surface.fields].map(([name, read]) => [name, read()]));
}

function field(context, read) {
  context.surface.fields.set(`${context.block.block_id}/${context.part.action_id}`, read);
}

// In an input block a choice waits for the submit button, unless the block dispatches.
function dispatches({ block }) {
  return block.type !== "input" || block.dispatch_action;
}

function input(context, props) {
  const { part, value } = context;
  const node = el(part.multiline ? "textarea" : "input", {
    class: "input", "data-key": `${context.block.block_id}/${part.action_id}`, placeholder: part.placeholder?.text, maxlength: String(part.max_length ?? 3000),
    "aria-label": context.block.label?.text, autocomplete: "off", ...(part.multiline ? { rows: "4" } : props),
  });
  node.value = context.kept ?? Object.entries(value).find(([name]) => name !== "type")?.[1] ?? "";
  node.classList.toggle("wrong", Boolean(context.surface.errors?.[context.block.block_id]));
  field(context, () => node.value);
  return node;
}

function picker(type) {
  return (context) => {
    const node = input(context, { type });
    node.classList.add("short");
    if (dispatches(context)) node.addEventListener("change", () => press(context, node.value, node));
    return node;
  };
}

function textInput(type) {
  return (context) => {
    const node = input(context, { type });
    if (context.block.dispatch_action && !context.part.multiline)
      node.addEventListener("keydown", (event) => {
        if (event.key !== "Enter") return;
        event.preventDefault();
        event.stopPropagation();
        press(context, node.value, node);
      });
    return node;
  };
}

function select(optionsOf, chosen) {
  return (context) => {
    const { part, world } = context;
    const node = el("select", { class: "input select", "data-key": `${context.block.block_id}/${part.action_id}`, "aria-label": part.placeholder?.text ?? context.block.label?.text });
    node.append(el("option", { value: "" }, part.placeholder?.text ?? "Choose an option"));
    const add = (parent, options) =>
      parent.append(...options.map(([value, label]) => el("option", { value }, label)));
    for (const group of part.option_groups ?? []) {
      const inside = el("optgroup", { label: group.label.text });
      add(inside, group.options.map((option) => [option.value, option.text.text]));
      node.append(inside);
    }
    add(node, optionsOf(part, world));
    node.value = context.kept ?? chosen(context.value) ?? "";
    node.classList.toggle("wrong", Boolean(context.surface.errors?.[context.block.block_id]));
    field(context, () => node.value);
    if (dispatches(context)) node.addEventListener("change", () => node.value && press(context, node.value, node));
    return node;
  };
}

function ticks(type, chosen) {
  return (context) => {
    const { part, world, value, block, surface } = context;
    const already = [context.kept ?? chosen(value)].flat();
    const name = `${JSON.stringify(surface.where)}${block.block_id}${part.action_id}`;
    const boxes = part.options.map((option) => {
      const box = el("input", { type, name, value: option.value, checked: already.includes(option.value) });
      if (dispatches(context)) box.addEventListener("change", () => press(context, read()));
      const words = [el("span", {}, textObject(option.text, world))];
      if (option.description) words.push(el("span", { class: "dim" }, textObject(option.description, world)));
      return el("label", { class: "tick" }, box, el("span", { class: "tick-words" }, words));
    });
    const node = el("div", { class: "ticks" }, boxes);
    const read = () => {
      const values = [...node.querySelectorAll("input:checked")].map((box) => box.value);
      return type === "radio" ? (values[0] ?? "") : values;
    };
    field(context, read);
    return node;
  };
}

function external(context) {
  const { part, value, surface } = context;
  const start = surface.keptOptions?.get(context.kept) ?? value.selected_option;
  let chosen = context.kept ?? start?.value ?? "";
  const node = el("input", { class: "input", "data-key": `${context.block.block_id}/${part.action_id}`, placeholder: part.placeholder?.text ?? "Search…", autocomplete: "off", role: "combobox", "aria-label": context.block.label?.text ?? part.placeholder?.text });
  node.value = start?.text.text ?? "";
  const menu = el("div", { class: "menu", hidden: true, role: "listbox" });
  const pick = (option) => {
    [chosen, node.value, menu.hidden] = [option.value, option.text.text, true];
    surface.pickedOptions ??= new Map();
    surface.pickedOptions.set(chosen, option);
    if (dispatches(context)) press(context, chosen, node);
  };
  const search = async () => {
    if (document.activeElement !== node) return;
    const answer = await act("search", { ...surface.where, action_id: part.action_id, text: node.value });
    const options = answer.options ?? [];
    const rows = options.map((option) => el("button", { type: "button", role: "option", onmousedown: (e) => { e.preventDefault(); pick(option); } }, option.text.text, option.description ? el("span", { class: "dim" }, ` ${option.description.text}`) : null));
    menu.replaceChildren(...(rows.length ? rows : [el("div", { class: "dim" }, "No results")]));
    menu.hidden = false;
  };
  let timer = 0;
  const soon = () => { clearTimeout(timer); timer = setTimeout(search, 150); };
  node.addEventListener("input", () => { chosen = ""; soon(); });
  node.addEventListener("focus", () => node.select());
  node.addEventListener("click", soon); // not on focus: a form that opens with it would hide its next field
  node.addEventListener("blur", () => { menu.hidden = true; });
  field(context, () => chosen);
  return el("div", { class: "external" }, node, menu);
}

function overflow(context) {
  const menu = el("div", { class: "menu right", hidden: true });
  menu.append(...context.part.options.map((option) =>
    el("button", { type: "button", onclick: () => { menu.hidden = true; press(context, option.value, menu); } }, option.text.text)));
  const dots = el("button", { type: "button", class: "button dots", "aria-label": "More actions", onclick: () => { menu.hidden = !menu.hidden; } }, "⋯");
  dots.addEventListener("blur", () => setTimeout(() => { menu.hidden = true; }, 200));
  return el("div", { class: "external" }, dots, menu);
}

function button(context) {
  const { part, world } = context;
  const node = el("button", { type: "button", class: `button ${part.style ?? ""}`, "data-action": part.action_id, "aria-label": part.accessibility_label }, textObject(part.text, world));
  node.addEventListener("click", () => {
    if (part.url && /^https?:/i.test(part.url)) window.open(part.url, "_blank", "noopener");
    press(context, undefined, node);
  });
  return node;
}

const one = (value) => value.selected_option?.value;
const many = (value) => (value.selected_options ?? []).map((option) => option.value);
const options = (part) => (part.options ?? []).map((option) => [option.value, option.text.text]);
const people = (part, world) => world.people().map((user) => [user.id, user.real_name]);
const rooms = (part, world) => world.rooms().map((room) => [room.id, `#${room.name}`]);

const ELEMENTS = {
  button, overflow,
  static_select: select(options, one),
  users_select: select(people, (value) => value.selected_user),
  conversations_select: select(rooms, (value) => value.selected_conversation),
  channels_select: select(rooms, (value) => value.selected_channel),
  external_select: external,
  plain_text_input: textInput("text"), email_text_input: textInput("email"),
  url_text_input: textInput("url"), number_input: textInput("text"),
  datepicker: picker("date"), timepicker: picker("time"),
  radio_buttons: ticks("radio", (value) => [one(value)]),
  checkboxes: ticks("checkbox", many),
  multi_static_select: ticks("checkbox", many),
};
