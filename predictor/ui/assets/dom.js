// Elements, times and percentages.

const SVG = "http://www.w3.org/2000/svg";

function filled(made, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, text] of Object.entries(value)) made.style.setProperty(key, text);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child || child === 0));
  return made;
}

/** An HTML element. Properties are attributes, `on…` listeners, or a `style` of CSS properties. */
export const element = (tag, properties = {}, ...children) =>
  filled(document.createElement(tag), properties, children);

/** The same in SVG. */
export const drawing = (tag, properties = {}, ...children) =>
  filled(document.createElementNS(SVG, tag), properties, children);

/** Seconds as people write them: 0:07.4, 12:30, 1:02:03. Tenths under a minute, unless told otherwise. */
export function clock(seconds, tenths = seconds < 60) {
  const shown = tenths ? Math.floor(seconds * 10) / 10 : Math.floor(seconds);
  const hours = Math.floor(shown / 3600);
  const minutes = Math.floor((shown % 3600) / 60);
  const rest = (shown % 60).toFixed(tenths ? 1 : 0).padStart(tenths ? 4 : 2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

export const percent = (share) => `${Math.round(share * 100)} %`;

/** The icon of a button: the path of a 24 × 24 drawing. */
export const icon = (path) =>
  drawing("svg", { viewBox: "0 0 24 24", width: 18, height: 18, "aria-hidden": "true" },
    drawing("path", { d: path, fill: "currentColor" }));

export const ICONS = {
  play: "M8 5v14l11-7z",
  pause: "M6 5h4v14H6zM14 5h4v14h-4z",
  microphone: "M12 15a3.5 3.5 0 0 0 3.5-3.5v-6a3.5 3.5 0 0 0-7 0v6A3.5 3.5 0 0 0 12 15zm6.5-3.5a6.5 6.5 0 0 1-5.6 6.4V21h-1.8v-3.1a6.5 6.5 0 0 1-5.6-6.4h1.8a4.7 4.7 0 0 0 9.4 0z",
  stop: "M7 7h10v10H7z",
};
