// Small help for building the page. Text that others wrote only ever becomes a text node.

/** The first element that a selector finds. */
export const find = (selector) => document.querySelector(selector);

/** An element: `h("button", {class: "small", onclick: f, "aria-pressed": true}, "text", other)`. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, name.startsWith("aria-") ? "true" : "");
    else if (value === false && name.startsWith("aria-")) element.setAttribute(name, "false");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

// Characters that change what one sees without being seen: overrides and marks of the direction, zero-width spaces, controls.
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff\ufff9-\ufffb]|[\u{e0000}-\u{e007f}]/u;

/** A text as nodes, in which unseen characters are shown by their number. */
export function visible(text) {
  return text
    .replaceAll("\r\n", "\n")
    .split(new RegExp(`(${UNSEEN.source})`, "u"))
    .filter((part) => part !== "")
    .map((part) => {
      if (!UNSEEN.test(part)) return document.createTextNode(part);
      const code = part.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
      return h("span", { class: "unseen", title: "a character that cannot be seen" }, `U+${code}`);
    });
}

/** The start of a text, on one line. */
export function beginning(text, characters = 80) {
  const line = text.slice(0, 4 * characters).replace(/\s+/g, " ").trim();
  const whole = [...line];
  return whole.length > characters ? `${whole.slice(0, characters).join("")}…` : line;
}
