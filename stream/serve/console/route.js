// The page that the address names: #/call/12/7.
import { useEffect, useState } from "./ui.js";

const parse = () => location.hash.replace(/^#\/?/, "").split("/").filter(Boolean).map(decodeURIComponent);

export function go(path) { location.hash = `#/${path}`; }

/** Return the parts of the address: ["call", "12", "7"]. */
export function useRoute() {
  const [route, set] = useState(parse());
  useEffect(() => {
    const change = () => set(parse());
    addEventListener("hashchange", change);
    return () => removeEventListener("hashchange", change);
  }, []);
  return route.length ? route : ["wall"];
}
