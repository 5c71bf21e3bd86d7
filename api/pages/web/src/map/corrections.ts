// Corrections of the map that is shown: those drawn here and not yet sent, and what they look like.
import { computed, effect, signal } from "@preact/signals";
import type { GeoJSONSource, ImageSource, LayerSpecification } from "maplibre-gl";
import { ApiError, ask, get, type Job, post, type LandMap } from "../api";
import { shown, tell, toast } from "../state";
import { t } from "../texts";
import { colours, flyTo, seen, stage } from "./stage";
import { rgb } from "./layers";

export type Correction = GeoJSON.Feature<GeoJSON.Point | GeoJSON.LineString | GeoJSON.Polygon, { class: string }>;
interface Suggestion { geometry: GeoJSON.Point; properties: { rank: number; class: string; confidence: number } }
type Collection<F> = { type: "FeatureCollection"; features: F[] };

/** Whether this service and this map take corrections. */
export const possible = signal(false);
export const active = signal(false);
export const drawn = signal<Correction[]>([]);
export const undone = signal<Correction[]>([]);
export const kept = signal<Correction[]>([]);
export const looking = signal(false);
export const suggested = signal<Suggestion | null>(null);
const collection = computed(() => ({ type: "FeatureCollection" as const, features: drawn.value }));

let suggestions: Suggestion[] = [];
const place = (map: LandMap) => `geounet-corrections-${map.id}`;

export function add(correction: Correction): void {
  drawn.value = [...drawn.value, correction];
  undone.value = [];
}

export function undo(): void {
  const last = drawn.value.at(-1);
  if (!last) return;
  drawn.value = drawn.value.slice(0, -1);
  undone.value = [...undone.value, last];
}

export function redo(): void {
  const last = undone.value.at(-1);
  if (!last) return;
  undone.value = undone.value.slice(0, -1);
  drawn.value = [...drawn.value, last];
}

export async function lookNext(): Promise<void> {
  try {
    if (!suggestions.length) suggestions = (await get<Collection<Suggestion>>(`/maps/${shown.value!.id}/suggestions?limit=30`)).features;
    suggested.value = suggestions.shift() ?? null;
    const at = suggested.value?.geometry.coordinates;
    if (at) flyTo(at[0]!, at[1]!);
  } catch (error) {
    tell(error);
  }
}

/** Send what was drawn, and have the whole map made anew from it. */
export async function apply(model: string): Promise<void> {
  const map = shown.value!;
  try {
    if (drawn.value.length) await post(`/maps/${map.id}/corrections`, collection.value);
    kept.value = [...kept.value, ...drawn.value];
    drawn.value = [];
    undone.value = [];
    const { job } = await post<{ job: Job }>(`/maps/${map.id}/correct`, model ? { save_model: model } : {});
    const go = { text: t.look, href: `#map=${job.id}&swipe=0.5&with=${map.id}` };
    toast({ kind: "done", title: t.applied, detail: t.appliedDetail, ...(job.state === "done" ? { go } : {}) });
    active.value = false;
  } catch (error) {
    tell(error);
  }
}

export function exported(): Blob {
  const all = { type: "FeatureCollection", features: [...kept.value, ...drawn.value] };
  return new Blob([JSON.stringify(all)], { type: "application/geo+json" });
}

// -- what is seen of them ---------------------------------------------------------------------------------------------

const EMPTY = { type: "FeatureCollection" as const, features: [] };

function show(features: Correction[]): void {
  const gl = stage.peek();
  if (!gl) return;
  const source = gl.getSource("corrections") as GeoJSONSource | undefined;
  const coloured = features.map((f) => ({ ...f, properties: { ...f.properties, colour: colourOf(f.properties.class) } }));
  const data = { type: "FeatureCollection" as const, features: coloured };
  if (source) {
    source.setData(data);
    return;
  }
  gl.addSource("corrections", { type: "geojson", data });
  const colour = ["get", "colour"];
  const layers: LayerSpecification[] = [
    { id: "corrections-area", type: "fill", source: "corrections", filter: ["==", ["geometry-type"], "Polygon"], paint: { "fill-color": colour, "fill-opacity": 0.55 } },
    { id: "corrections-line", type: "line", source: "corrections", filter: ["!=", ["geometry-type"], "Point"], paint: { "line-color": colour, "line-width": 4 } },
    { id: "corrections-point", type: "circle", source: "corrections", filter: ["==", ["geometry-type"], "Point"], paint: { "circle-color": colour, "circle-radius": 6, "circle-stroke-color": "#fff", "circle-stroke-width": 2 } },
  ] as unknown as LayerSpecification[];
  for (const layer of layers) gl.addLayer(layer);
}

function colourOf(name: string): string {
  const value = shown.peek()?.summary.classes.find((c) => c.name === name)?.value;
  return rgb((value !== undefined && colours.peek().get(value)) || [120, 120, 120]);
}

let stopPreview = new AbortController();

/** What the classes of the view become with these corrections, as the service sees it. */
async function preview(): Promise<void> {
  const gl = stage.peek();
  const map = shown.peek();
  const box = seen();
  stopPreview.abort();
  stopPreview = new AbortController();
  if (!gl || !map || !box || !(drawn.peek().length + kept.peek().length)) return clearPreview();
  looking.value = true;
  try {
    const answer = await ask(`/maps/${map.id}/preview?bbox=${box.map((v) => v.toFixed(7)).join(",")}`, {
      method: "POST", body: JSON.stringify(collection.peek()), signal: stopPreview.signal,
      headers: { "Content-Type": "application/json", Accept: "image/png" },
    });
    const [w, s, e, n] = (answer.headers.get("content-bbox") ?? box.join(",")).split(",").map(Number) as [number, number, number, number];
    const url = URL.createObjectURL(await answer.blob());
    clearPreview();
    const coordinates = [[w, n], [e, n], [e, s], [w, s]] as ImageSource["coordinates"];
    gl.addSource("preview", { type: "image", url, coordinates });
    const below = gl.getLayer("polygons") ? "polygons" : undefined;
    gl.addLayer({ id: "preview", type: "raster", source: "preview", paint: { "raster-opacity": 0.75, "raster-fade-duration": 0, "raster-resampling": "nearest" } }, below);
  } catch (error) {
    const quiet = error instanceof ApiError && [404, 405, 413].includes(error.problem.status); // no preview here, or not so wide
    if (!quiet) tell(error);
  } finally {
    looking.value = false;
  }
}

function clearPreview(): void {
  const gl = stage.peek();
  if (gl?.getLayer("preview")) gl.removeLayer("preview");
  if (gl?.getSource("preview")) gl.removeSource("preview");
}

effect(() => {
  const map = shown.value;
  possible.value = active.value = false;
  suggestions = [];
  suggested.value = null;
  kept.value = undone.value = [];
  drawn.value = map ? (JSON.parse(localStorage.getItem(place(map)) ?? "[]") as Correction[]) : [];
  if (!map) return;
  get<Collection<Correction>>(`/maps/${map.id}/corrections`)
    .then((found) => {
      if (shown.peek()?.id !== map.id) return;
      kept.value = found.features;
      possible.value = true;
    })
    .catch(() => undefined); // a service that takes none
});
effect(() => {
  const now = drawn.value;
  const map = shown.peek();
  if (!map) return;
  if (now.length) localStorage.setItem(place(map), JSON.stringify(now));
  else localStorage.removeItem(place(map));
});
effect(() => {
  const features = [...kept.value, ...drawn.value];
  if (active.value) show(features);
  else if (stage.value?.getSource("corrections")) (stage.value.getSource("corrections") as GeoJSONSource).setData(EMPTY);
});
let wait = 0;
effect(() => {
  void drawn.value;
  window.clearTimeout(wait);
  if (active.value) wait = window.setTimeout(() => void preview(), 250);
  else clearPreview();
});
effect(() => {
  const gl = stage.value;
  if (!gl || !active.value) return;
  const moved = () => {
    window.clearTimeout(wait);
    wait = window.setTimeout(() => void preview(), 400);
  };
  gl.on("moveend", moved);
  return () => gl.off("moveend", moved);
});
