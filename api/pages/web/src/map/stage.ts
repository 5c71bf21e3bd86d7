// The map on the page: MapLibre, kept in step with the page's state. A second one lies above it for the swipe.
import {
  AttributionControl, Map as GlMap, NavigationControl, ScaleControl, setWorkerUrl, type GeoJSONSource, type ImageSource,
  type RequestTransformFunction, type StyleSpecification,
} from "maplibre-gl";
import "maplibre-gl/dist/maplibre-gl.css";
import workerUrl from "maplibre-gl/dist/maplibre-gl-worker.mjs?url";
import { effect, signal, untracked } from "@preact/signals";
import { base, get, key, type Bounds, type Feature, type LandMap, type Scene } from "../api";
import { change, view, type View } from "../place";
import { located, models, shown, tell } from "../state";
import { arrange, baseSource, clearLayers, findTiles, isOurs, legendOf, putLayers, showClasses, type Colour, type Tiles } from "./layers";

setWorkerUrl(workerUrl);

export interface Spot { lon: number; lat: number; class_id: number | null; class_name: string | null; confidence: number | null; area: number | null }

export const stage = signal<GlMap | null>(null);
export const broken = signal(false);
/** What the pointer is over, and what was clicked. */
export const hovered = signal<Spot | null>(null);
export const picked = signal<Spot | null>(null);
export const colours = signal<Map<number, Colour>>(new Map());
/** While something is being drawn, a click means a corner. */
export const drawing = signal(false);
/** What a click does in place of asking what is there. */
export const onClick = signal<((lon: number, lat: number) => void) | null>(null);

const still = matchMedia("(prefers-reduced-motion: reduce)");
const dark = matchMedia("(prefers-color-scheme: dark)");
let tiles: Tiles | null = null;
let second: { gl: GlMap; tiles: Tiles | null; map: string | null } | null = null;

const withKey: RequestTransformFunction = (url) =>
  isOurs(url) && key.value ? { url, headers: { Authorization: `Bearer ${key.value}` } } : { url };

const ground = (): string => (dark.matches ? "#20262a" : "#e9ecea");

function style(): StyleSpecification {
  const below = baseSource();
  return {
    version: 8,
    sources: below ? { base: below } : {},
    layers: [
      { id: "ground", type: "background", paint: { "background-color": ground() } },
      ...(below ? [{ id: "base", type: "raster" as const, source: "base" }] : []),
    ],
  };
}

const NOTHING: GeoJSON.FeatureCollection = { type: "FeatureCollection", features: [] };

export function mount(container: HTMLElement): void {
  let gl: GlMap;
  try {
    const at = view.value.at;
    gl = new GlMap({
      container, style: style(), center: at ? [at[0], at[1]] : [0, 20], zoom: at ? at[2] : 1, maxZoom: 23, attributionControl: false,
      transformRequest: withKey, fadeDuration: still.matches ? 0 : 200, renderWorldCopies: false, maxPitch: 0,
      canvasContextAttributes: { preserveDrawingBuffer: navigator.webdriver }, // screenshots of tests
    });
  } catch (error) {
    console.error(error);
    broken.value = true;
    return;
  }
  gl.touchZoomRotate.enable();
  gl.addControl(new NavigationControl({ visualizePitch: false }), "top-right");
  gl.addControl(new ScaleControl({ maxWidth: 110 }), "bottom-right");
  gl.addControl(new AttributionControl({ compact: true, customAttribution: "geounet · MapLibre" }), "bottom-right");
  gl.getCanvas().setAttribute("aria-label", "Map: arrow keys move it, plus and minus zoom");
  gl.once("style.load", () => {
    gl.addSource("located", { type: "geojson", data: NOTHING });
    gl.addLayer({ id: "located-line", type: "line", source: "located", paint: { "line-color": "#e8590c", "line-width": 2 } });
    gl.addSource("picked", { type: "geojson", data: NOTHING });
    gl.addLayer({ id: "picked-halo", type: "line", source: "picked", paint: { "line-color": "#fff", "line-width": 5, "line-opacity": 0.8 } });
    gl.addLayer({ id: "picked-line", type: "line", source: "picked", paint: { "line-color": "#111", "line-width": 2 } });
    stage.value = gl;
  });
  const settle = (state: string) => () => (container.dataset.state = state);
  gl.on("dataloading", settle("busy"));
  gl.on("idle", settle("idle"));
  gl.on("error", (e) => console.warn(e.error?.message ?? e));
  gl.on("move", () => second?.gl.jumpTo({ center: gl.getCenter(), zoom: gl.getZoom(), bearing: gl.getBearing() }));
  gl.on("moveend", () => {
    const { lng, lat } = gl.getCenter();
    if (view.peek().map) change({ at: [lng, lat, gl.getZoom()] });
  });
  gl.on("mousemove", (e) => {
    hovered.value = { lon: e.lngLat.lng, lat: e.lngLat.lat, area: null, class_id: null, class_name: null, confidence: null, ...under(gl, e.point) };
  });
  gl.on("mouseout", () => (hovered.value = null));
  gl.on("click", (e) => {
    if (drawing.value || !shown.value) return;
    if (onClick.value) onClick.value(e.lngLat.lng, e.lngLat.lat);
    else void pick(e.lngLat.lng, e.lngLat.lat);
  });
  dark.addEventListener("change", () => {
    for (const one of [gl, second?.gl]) one?.setPaintProperty("ground", "background-color", ground());
  });
}

function under(gl: GlMap, point: { x: number; y: number }): Partial<Spot> {
  if (!gl.getLayer("polygons")) return {};
  const found = gl.queryRenderedFeatures([point.x, point.y], { layers: ["polygons"] })[0]?.properties;
  if (!found) return {};
  return { class_id: found.class_id, class_name: found.class_name, confidence: found.confidence ?? null, area: found.area_m2 ?? null };
}

/** Ask what is at a place: the pixel's class and confidence, and the polygon around it. */
export async function pick(lon: number, lat: number): Promise<void> {
  const id = shown.value?.id;
  if (!id || Math.abs(lon) > 180 || Math.abs(lat) > 90) return;
  try {
    const box = [lon, lat, lon, lat].map((v) => v.toFixed(8)).join(",");
    const [point, around] = await Promise.all([
      get<Omit<Spot, "area">>(`/maps/${id}/point?lon=${lon}&lat=${lat}`),
      get<{ features: Feature[] }>(`/collections/${id}/items?bbox=${box}&limit=5`),
    ]);
    const polygon = around.features.find((f) => f.properties.class_id === point.class_id) ?? around.features[0];
    picked.value = { ...point, area: polygon?.properties.area_m2 ?? null };
    mark(polygon ? { type: "FeatureCollection", features: [{ type: "Feature", properties: {}, geometry: polygon.geometry }] } : NOTHING);
  } catch (error) {
    tell(error);
  }
}

export function unpick(): void {
  picked.value = null;
  mark(NOTHING);
}

function mark(data: GeoJSON.FeatureCollection): void {
  (stage.value?.getSource("picked") as GeoJSONSource | undefined)?.setData(data);
}

export function fit(bounds: Bounds): void {
  const side = document.querySelector(".panel")?.getBoundingClientRect();
  const low = matchMedia("(max-width: 700px)").matches;
  const covered = side && side.height > 80 ? (low ? { bottom: side.height } : { left: side.width }) : {};
  stage.value?.fitBounds([[bounds[0], bounds[1]], [bounds[2], bounds[3]]], {
    padding: { top: 24, bottom: 24 + (covered.bottom ?? 0), left: 24 + (covered.left ?? 0), right: 24 }, animate: !still.matches, duration: 500,
  });
}

/** The part of the world that is seen: west, south, east, north. */
export function seen(): Bounds | null {
  const b = stage.value?.getBounds();
  return b ? [b.getWest(), b.getSouth(), b.getEast(), b.getNorth()] : null;
}

export function flyTo(lon: number, lat: number): void {
  const gl = stage.value!;
  gl.easeTo({ center: [lon, lat], zoom: Math.max(gl.getZoom(), 18), padding: room(), duration: still.matches ? 0 : 400 });
}

export const fitMap = (): void => { if (tiles) fit(tiles.classes.bounds); };

/** Load the map that the address names, and show it. */
async function load(gl: GlMap, id: string): Promise<void> {
  try {
    const asked = findTiles(id);
    asked.catch(() => undefined); // told below, should the map itself be there
    const map = await get<LandMap>(`/maps/${id}`);
    if (view.peek().map !== id) return;
    tiles = null;
    shown.value = map;
    colours.value = legendOf(map, models.peek().find((m) => m.name === map.model)?.legend ?? []);
    const found = await asked;
    if (view.peek().map !== id) return;
    tiles = found;
    putLayers(gl, "", found, colours.value, still.matches);
    apply(gl, view.peek());
    if (!view.peek().at) gl.fitBounds(asBox(found.classes.bounds), { padding: room(), animate: false });
  } catch (error) {
    tell(error);
    if (view.peek().map === id) change({ map: null });
  }
}

const asBox = (b: Bounds): [[number, number], [number, number]] => [[b[0], b[1]], [b[2], b[3]]];

function room(): { top: number; bottom: number; left: number; right: number } {
  const side = document.querySelector(".panel")?.getBoundingClientRect();
  const low = matchMedia("(max-width: 700px)").matches;
  return { top: 24, right: 24, bottom: 24 + (low && side ? side.height : 0), left: 24 + (!low && side ? side.width : 0) };
}

const values = (): number[] => shown.peek()?.summary.classes.map((c) => c.value) ?? [];

function apply(gl: GlMap, now: View): void {
  if (!tiles || !gl.getSource("classes")) return;
  arrange(gl, "", now, values());
  showClasses(gl, "", tiles, now, values());
}

/** Show a scene where it lies: its outline, and its picture stretched into its bounds. */
function locate(gl: GlMap, scene: Scene | null): void {
  const outline = gl.getSource("located") as GeoJSONSource;
  if (gl.getLayer("located-picture")) gl.removeLayer("located-picture");
  if (gl.getSource("located-picture")) gl.removeSource("located-picture");
  const b = scene?.info.bounds;
  if (!scene || !b || view.peek().map) {
    outline.setData(NOTHING);
    return;
  }
  const ring: [number, number][] = [[b[0], b[3]], [b[2], b[3]], [b[2], b[1]], [b[0], b[1]]];
  outline.setData({ type: "Feature", properties: {}, geometry: { type: "Polygon", coordinates: [[...ring, ring[0]!]] } });
  gl.addSource("located-picture", {
    type: "image", url: `${base}/scenes/${scene.id}/picture.png?size=1024`, coordinates: ring as ImageSource["coordinates"],
  });
  gl.addLayer({ id: "located-picture", type: "raster", source: "located-picture", paint: { "raster-fade-duration": 0 } }, "located-line");
  fit(b);
}

/** The map on the left of the swipe: the scene alone, or another map's classes. It takes no events. */
export async function mountSecond(container: HTMLElement): Promise<() => void> {
  const gl = new GlMap({
    container, style: style(), interactive: false, attributionControl: false, transformRequest: withKey, renderWorldCopies: false,
    center: stage.value!.getCenter(), zoom: stage.value!.getZoom(), bearing: stage.value!.getBearing(), maxZoom: 23,
    canvasContextAttributes: { preserveDrawingBuffer: navigator.webdriver },
  });
  gl.getCanvas().setAttribute("aria-hidden", "true");
  gl.getCanvas().tabIndex = -1;
  second = { gl, tiles: null, map: null };
  await new Promise((r) => gl.once("style.load", r));
  const stop = effect(() => {
    const id = view.value.with ?? view.value.map;
    const other = view.value.with !== null;
    if (id) void fill(gl, id, other);
  });
  return () => {
    stop();
    gl.remove();
    if (second?.gl === gl) second = null;
  };
}

async function fill(gl: GlMap, id: string, other: boolean): Promise<void> {
  try {
    const [map, found] = await Promise.all([get<LandMap>(`/maps/${id}`), findTiles(id)]);
    if (second?.gl !== gl) return;
    const known = models.peek().find((m) => m.name === map.model)?.legend ?? [];
    putLayers(gl, "", found, legendOf(map, known), true);
    const layers: View["layers"] = other ? ["base", "scene", "classes", "polygons"] : ["base", "scene"];
    arrange(gl, "", { ...untracked(() => view.value), layers, hidden: [] }, map.summary.classes.map((c) => c.value));
  } catch (error) {
    tell(error);
  }
}

let loaded: string | null = null;
effect(() => {
  const gl = stage.value;
  const id = view.value.map;
  const ready = models.value.length > 0; // their legends hold the colours
  if (!gl || !ready || id === loaded) return;
  loaded = id;
  untracked(unpick);
  if (id) {
    untracked(() => locate(gl, null));
    void load(gl, id);
  } else {
    clearLayers(gl, "");
    tiles = null;
    shown.value = null;
  }
});
effect(() => {
  const gl = stage.value;
  const now = view.value;
  if (gl) apply(gl, now);
});
effect(() => {
  const gl = stage.value;
  const scene = located.value;
  if (gl) locate(gl, scene);
});
