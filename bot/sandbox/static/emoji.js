// The emoji that apps use most, drawn here so that they look the same everywhere, fonts or not.

const round = (fill, inner = "") => `<circle cx="12" cy="12" r="10" fill="${fill}"/>${inner}`;
const box = (fill, inner) => `<rect x="2" y="2" width="20" height="20" rx="5" fill="${fill}"/>${inner}`;
const stroke = (d, color = "#fff", width = 2.6) =>
  `<path d="${d}" fill="none" stroke="${color}" stroke-width="${width}" stroke-linecap="round" stroke-linejoin="round"/>`;
const padlock = (shackle) =>
  stroke(shackle, "#8b95a1", 2.6) + '<rect x="4" y="10.5" width="16" height="11" rx="2.5" fill="#f0b429"/>' +
  '<circle cx="12" cy="15" r="1.8" fill="#7a5200"/><path d="M11.1 15.5h1.8v3.4h-1.8z" fill="#7a5200"/>';
const clock = round("#e8ecf1", stroke("M12 6.5V12l3.6 2.4", "#3a4552", 2.2)) +
  '<circle cx="12" cy="12" r="10" fill="none" stroke="#8b95a1" stroke-width="1.6"/>';
const glass = (top, bottom) =>
  '<path d="M6 3h12v3.5L13.4 12 18 17.5V21H6v-3.5L10.6 12 6 6.500z" fill="#dbe8f5" stroke="#8a5a2b" stroke-width="1.4"/>' +
  `<path d="M8 ${top}h8L12 11z" fill="#e8b04b"/><path d="M7.500 20h9v-${bottom}L12 16l-4.500 2z" fill="#e8b04b"/>`;

const SHAPES = {
  white_check_mark: box("#2bac76", stroke("M6.500 12.500l3.600 3.600 7.400-8")),
  heavy_check_mark: stroke("M4 13l5 5L20 6", "#2b7a4b", 3.4),
  x: stroke("M5 5l14 14M19 5L5 19", "#e01e5a", 4),
  no_entry: round("#e01e5a", '<rect x="6" y="10.200" width="12" height="3.600" rx="1" fill="#fff"/>'),
  no_entry_sign: round("#fff") + '<circle cx="12" cy="12" r="9" fill="none" stroke="#e01e5a" stroke-width="3"/>' +
    stroke("M6 6l12 12", "#e01e5a", 3),
  lock: padlock("M7.500 10.500V7.500a4.500 4.500 0 0 1 9 0v3"),
  unlock: padlock("M7.500 10.500V6.500a4.500 4.500 0 0 1 8.600-1.800"),
  key: '<circle cx="8" cy="9" r="5.500" fill="none" stroke="#e0a526" stroke-width="3"/>' +
    stroke("M12 13l8 8M17 18l2.500-2.500M19.500 20.500l1.500-1.500", "#e0a526", 2.600),
  hourglass: glass(15, 1),
  hourglass_flowing_sand: glass(5, 1.500),
  alarm_clock: clock + stroke("M3.500 5L6 3M20.500 5L18 3", "#e01e5a", 2.600),
  clock1: clock,
  stopwatch: clock + stroke("M10 1.500h4", "#3a4552", 2),
  warning: '<path d="M12 2.500L23 21H1z" fill="#f2c744" stroke="#c79a1b" stroke-linejoin="round"/>' +
    stroke("M12 9v5.500M12 17.800v.1", "#3a2d00", 2.400),
  rotating_light: '<path d="M5 18v-6a7 7 0 0 1 14 0v6z" fill="#e01e5a"/><path d="M9 18v-5.500a3 3 0 0 1 3-3" fill="none" stroke="#fff" stroke-width="1.600"/>' +
    '<rect x="3" y="18" width="18" height="4" rx="1.200" fill="#59626d"/>' + stroke("M12 1v1.500M2 6l1.500 1M22 6l-1.500 1", "#f0b429", 1.800),
  fire: '<path d="M12 2c1 4 6 6 6 12a6 6 0 0 1-12 0c0-3 2-4 2.500-7 1.500 1 2 2 2.200 3.500C12 8 12.500 5 12 2z" fill="#f0622b"/><path d="M12 12c.5 2 2.500 3 2.500 5.500a2.500 2.500 0 0 1-5 0C9.500 15 11.500 14 12 12z" fill="#f9c23c"/>',
  eyes: ["7", "17"].map((x) => `<ellipse cx="${x}" cy="12" rx="4.600" ry="7" fill="#fff" stroke="#7d8791"/><circle cx="${+x - 1.5}" cy="13" r="2.300" fill="#26303a"/>`).join(""),
  hand: round("#f2b84b", stroke("M8 13V7.500M11 12V5.500M14 12V6M17 13V8", "#fff", 1.800)),
  bell: '<path d="M4 18h16c-2-2-2-4-2-8a6 6 0 0 0-12 0c0 4 0 6-2 8z" fill="#f0b429"/><circle cx="12" cy="20" r="2" fill="#b07d10"/>',
  shield: '<path d="M12 2l9 3v6c0 6-4 9.500-9 11-5-1.500-9-5-9-11V5z" fill="#3d78b8"/>' + stroke("M7.500 12l3.200 3.200 6-6.400", "#fff", 2.200),
  scroll: '<rect x="5" y="3" width="14" height="18" rx="2" fill="#f3e3c1" stroke="#b7935a"/>' + stroke("M8 8h8M8 12h8M8 16h5", "#b7935a", 1.400),
  mag: '<circle cx="10" cy="10" r="6.500" fill="#d8ebfa" stroke="#5c6b7a" stroke-width="2.400"/>' + stroke("M15 15l6 6", "#8a5a2b", 3),
  hammer_and_wrench: stroke("M5 19L15 9M13 5l6 6", "#78828c", 3) + stroke("M19 19L9 9", "#b07d3a", 3),
  wave: round("#f2c06b", stroke("M8 14l-1-5M11 13l-.5-6M14 13l.5-6M16.500 15l1-4.500", "#fff", 1.800)),
  tada: '<path d="M3 21l5-13 8 8z" fill="#f0b429"/>' + stroke("M13 8c0-3 1-4 3-5M16 11c3-1 4-1 5 0M14.500 9.500L20 4", "#e01e5a", 1.800),
  "+1": '<path d="M3 11h4v10H3zM8 11l4-8c2 0 3 1.500 2.500 4L14 9h5.500a2 2 0 0 1 2 2.500l-2 8a2 2 0 0 1-2 1.500H8z" fill="#f2b84b"/>',
  robot_face: '<rect x="4" y="7" width="16" height="13" rx="3" fill="#8fa3b5"/><circle cx="9" cy="13" r="2" fill="#fff"/><circle cx="15" cy="13" r="2" fill="#fff"/>' + stroke("M12 7V3.500M9 17h6", "#51606e", 1.800),
  red_circle: round("#e01e5a"), large_green_circle: round("#2bac76"), large_yellow_circle: round("#f2c744"),
  large_blue_circle: round("#3d78b8"), large_orange_circle: round("#ee8b32"), white_circle: round("#d6dbe0"),
  black_circle: round("#3a4552"),
};
const ALIASES = {
  thumbsup: "+1", closed_lock_with_key: "lock", green_circle: "large_green_circle", large_red_circle: "red_circle",
  raised_hand: "hand", clock3: "clock1", clock9: "clock1", timer_clock: "stopwatch", octagonal_sign: "no_entry",
  negative_squared_cross_mark: "x", "white-check-mark": "white_check_mark", yellow_circle: "large_yellow_circle",
  orange_circle: "large_orange_circle", ballot_box_with_check: "white_check_mark", heavy_multiplication_x: "x",
};
const UNICODE = {
  "✅": "white_check_mark", "❌": "x", "🔒": "lock", "🔓": "unlock", "🔐": "lock", "🔑": "key", "⏳": "hourglass_flowing_sand",
  "⌛": "hourglass", "⏰": "alarm_clock", "⏱": "stopwatch", "⚠": "warning", "🚨": "rotating_light", "🔥": "fire", "👀": "eyes",
  "✋": "hand", "🔔": "bell", "🛡": "shield", "📜": "scroll", "🔍": "mag", "🛠": "hammer_and_wrench", "👋": "wave", "🎉": "tada",
  "👍": "+1", "🤖": "robot_face", "🔴": "red_circle", "🟢": "large_green_circle", "🟡": "large_yellow_circle",
  "🔵": "large_blue_circle", "🟠": "large_orange_circle", "⚪": "white_circle", "⚫": "black_circle", "⛔": "no_entry",
  "🚫": "no_entry_sign", "🕐": "clock1",
};
const FINDER = new RegExp(`(${Object.keys(UNICODE).join("|")})\\uFE0F?`, "gu");

// The drawing for a shortcode, or null where there is none here.
export function emoji(name) {
  const shape = SHAPES[ALIASES[name] ?? name];
  if (!shape || !Object.hasOwn(SHAPES, ALIASES[name] ?? name)) return null;
  const source = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24">${shape}</svg>`;
  const image = document.createElement("img");
  image.src = `data:image/svg+xml,${encodeURIComponent(source)}`;
  image.className = "emoji";
  image.alt = `:${name}:`;
  return image;
}

// A text as nodes, with the Unicode emoji that are known drawn.
export function withEmoji(text) {
  const nodes = [];
  let from = 0;
  for (const match of text.matchAll(FINDER)) {
    nodes.push(text.slice(from, match.index), emoji(UNICODE[match[1]]));
    from = match.index + match[0].length;
  }
  return [...nodes, text.slice(from)].filter((node) => node !== "");
}
