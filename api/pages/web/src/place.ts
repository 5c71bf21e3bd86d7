// What the address says: which map, which layers, where. Links can be shared, and the back button works.
import { effect, signal } from "@preact/signals";

export const LAYERS = ["base", "scene", "classes", "confidence", "polygons"] as const;
export type LayerName = (typeof LAYERS)[number];

export interface View {
  map: string | null;
  layers: LayerName[];
  opacity: Partial<Record<LayerName, number>>;
  hidden: number[];
  swipe: number | null;
  with: string | null;
  at: [number, number, number] | null;
}

export const FIRST: View = {
  map: null, layers: ["base", "scene", "classes", "polygons"], opacity: { classes: 0.6 }, hidden: [], swipe: null, with: null, at: null,
};

export const view = signal<View>(read());

export function read(hash: string = location.hash): View {
  const said = new URLSearchParams(hash.slice(1));
  const numbers = (text: string | null) => (text ? text.split(",").map(Number).filter(Number.isFinite) : []);
  const layers = said.get("layers")?.split(",").filter((l): l is LayerName => (LAYERS as readonly string[]).includes(l));
  const opacity: View["opacity"] = { ...FIRST.opacity };
  for (const part of said.get("opacity")?.split(",") ?? []) {
    const [name, value] = part.split(":");
    if (LAYERS.includes(name as LayerName) && Number.isFinite(Number(value))) opacity[name as LayerName] = clamp(Number(value));
  }
  const at = numbers(said.get("at"));
  const id = said.get("map");
  return {
    map: id && /^[0-9a-f]{20}$/.test(id) ? id : null,
    layers: layers ?? FIRST.layers,
    opacity,
    hidden: numbers(said.get("hide")),
    swipe: said.has("swipe") ? clamp(Number(said.get("swipe")) || 0.5) : null,
    with: /^[0-9a-f]{20}$/.test(said.get("with") ?? "") ? said.get("with") : null,
    at: at.length === 3 ? (at as [number, number, number]) : null,
  };
}

export function written(v: View): string {
  if (!v.map) return "";
  const parts = [`map=${v.map}`];
  if (String(v.layers) !== String(FIRST.layers)) parts.push(`layers=${v.layers.join(",")}`);
  const odd = Object.entries(v.opacity).filter(([name, o]) => o !== (FIRST.opacity[name as LayerName] ?? 1));
  if (odd.length) parts.push(`opacity=${odd.map(([name, o]) => `${name}:${o}`).join(",")}`);
  if (v.hidden.length) parts.push(`hide=${v.hidden.join(",")}`);
  if (v.swipe !== null) parts.push(`swipe=${v.swipe.toFixed(3)}`);
  if (v.with) parts.push(`with=${v.with}`);
  if (v.at) parts.push(`at=${v.at[0].toFixed(6)},${v.at[1].toFixed(6)},${v.at[2].toFixed(2)}`);
  return `#${parts.join("&")}`;
}

export function change(part: Partial<View>): void {
  view.value = { ...view.value, ...part };
}


window.addEventListener("hashchange", () => {
  if (location.hash !== written(view.value)) view.value = read();
});

let wait = 0;
effect(() => {
  const next = written(view.value);
  window.clearTimeout(wait);
  wait = window.setTimeout(() => {
    if (location.hash === next || (!next && !location.hash)) return;
    const other = read().map !== view.value.map;
    history[other ? "pushState" : "replaceState"](null, "", next || location.pathname + location.search);
  }, 150);
});

function clamp(v: number): number {
  return Math.min(Math.max(v, 0), 1);
}
