// preact and htm, joined: html`...` makes elements; all text in it is inserted as text.
import { Component, h, render } from "./vendor/preact.mjs";
import htm from "./vendor/htm.mjs";

export { useEffect, useLayoutEffect, useMemo, useReducer, useRef, useState } from "./vendor/hooks.mjs";
export { render };
export const html = htm.bind(h);

/** Return a component that renders again only if one of its properties changed. */
export function memo(view) {
  return class extends Component {
    shouldComponentUpdate(next) {
      const keys = Object.keys(next);
      return keys.length !== Object.keys(this.props).length
        || keys.some((key) => !Object.is(next[key], this.props[key]));
    }
    render(props) { return view(props); }
  };
}
