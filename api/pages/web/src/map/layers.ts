// What the map is made of: sources and layers of MapLibre for one land-cover map.
import type { LayerSpecification, Map as GlMap, SourceSpecification } from "maplibre-gl";
import { base, baseMap, get, type Bounds, type LandMap, type TileJson } from "../api";
import { LAYERS, type LayerName, type View } from "../place";

export interface Tiles { scene: TileJson | null; classes: TileJson; confidence: TileJson; polygons: TileJson }
export type Colour = [number, number, number];

const BELOW: Record<LayerName, string[]> = {
  base: ["base"], scene: ["scene"], classes: ["classes"], confidence: ["confidence"], polygons: ["polygons-line"],
};

/** Where the map's tiles are; the scene may be deleted. */
export async function findTiles(id: string): Promise<Tiles> {
  const raster = (layer: string) => get<TileJson>(`/maps/${id}/tilejson.json?layer=${layer}`);
  const polygons = get<TileJson>(`/collections/${id}/tiles/WebMercatorQuad/tilejson.json`);
  polygons.catch(() => undefined); // told below, with whatever fails first
  const [scene, classes, confidence] = await Promise.all([
    raster("scene").catch(() => null), raster("classes"), raster("confidence"),
  ]);
  return { scene, classes, confidence, polygons: await polygons };
}

export const rgb = ([r, g, b]: Colour): string => `rgb(${r}, ${g}, ${b})`;

function raster(told: TileJson, tiles = told.tiles): SourceSpecification {
  return { type: "raster", tiles, tileSize: 256, bounds: told.bounds, minzoom: told.minzoom, maxzoom: told.maxzoom };
}

/** Take away what was shown, and put this map's layers in, all of them hidden until `arrange`. */
export function putLayers(gl: GlMap, prefix: string, tiles: Tiles, colours: Map<number, Colour>, still: boolean): void {
  clearLayers(gl, prefix);
  const fade = still ? 0 : 200;
  const add = (name: string, source: SourceSpecification, layer: Partial<LayerSpecification>) => {
    gl.addSource(prefix + name, source);
    gl.addLayer({ id: prefix + name, source: prefix + name, ...layer } as LayerSpecification, first(gl));
  };
  const hidden = { visibility: "none" } as const;
  if (tiles.scene) add("scene", raster(tiles.scene), { type: "raster", layout: hidden, paint: { "raster-fade-duration": fade } });
  for (const name of ["classes", "confidence"] as const) {
    add(name, raster(tiles[name]), {
      type: "raster", layout: hidden, paint: { "raster-fade-duration": fade, "raster-resampling": "nearest" },
    });
  }
  const told = tiles.polygons;
  add("polygons", { type: "vector", tiles: told.tiles, bounds: told.bounds, minzoom: told.minzoom, maxzoom: told.maxzoom }, {
    type: "fill", "source-layer": "landcover", paint: { "fill-opacity": 0 },
  } as Partial<LayerSpecification>);
  const colour = ["match", ["get", "class_id"], ...[...colours].flatMap(([v, c]) => [v, darker(c)]), "#444"];
  gl.addLayer({
    id: `${prefix}polygons-line`, type: "line", source: `${prefix}polygons`, "source-layer": "landcover", layout: hidden,
    paint: { "line-color": colours.size ? colour : "#444", "line-width": ["interpolate", ["linear"], ["zoom"], 13, 0.4, 18, 1.6] },
  } as LayerSpecification, first(gl));
}

export function clearLayers(gl: GlMap, prefix: string): void {
  for (const name of ["scene", "classes", "confidence", "polygons", "polygons-line"]) {
    if (gl.getLayer(prefix + name)) gl.removeLayer(prefix + name);
  }
  for (const name of ["scene", "classes", "confidence", "polygons"]) {
    if (gl.getSource(prefix + name)) gl.removeSource(prefix + name);
  }
}

/** The layer that all of a map's layers lie below: what is picked and drawn stays on top. */
const first = (gl: GlMap): string | undefined => (gl.getLayer("located-line") ? "located-line" : undefined);

const darker = ([r, g, b]: Colour): string => rgb([r * 0.55, g * 0.55, b * 0.55].map(Math.round) as Colour);

/** Which layers are seen and how strongly, and which classes. */
export function arrange(gl: GlMap, prefix: string, now: View, values: number[]): void {
  for (const name of LAYERS) {
    const id = name === "base" ? "base" : prefix + BELOW[name][0];
    const layer = gl.getLayer(id);
    if (!layer) continue;
    gl.setLayoutProperty(id, "visibility", now.layers.includes(name) ? "visible" : "none");
    const kind = layer.type === "line" ? "line-opacity" : "raster-opacity";
    gl.setPaintProperty(id, kind, now.opacity[name] ?? 1);
  }
  const seen = values.filter((v) => !now.hidden.includes(v));
  if (gl.getLayer(`${prefix}polygons`)) {
    for (const id of ["polygons", "polygons-line"]) gl.setFilter(prefix + id, ["in", ["get", "class_id"], ["literal", seen]]);
  }
}

/** Class tiles without the classes that are switched off. */
export function showClasses(gl: GlMap, prefix: string, tiles: Tiles, now: View, values: number[]): void {
  const source = gl.getSource(`${prefix}classes`) as { setTiles?: (t: string[]) => void; tiles?: string[] } | undefined;
  const seen = values.filter((v) => !now.hidden.includes(v));
  const asked = tiles.classes.tiles.map((url) => (now.hidden.length ? `${url}&show=${seen.join(",")}` : url));
  if (source?.setTiles && String(source.tiles) !== String(asked)) source.setTiles(asked);
}

export function baseSource(): SourceSpecification | null {
  if (!baseMap.tiles) return null;
  return { type: "raster", tiles: [baseMap.tiles], tileSize: 256, maxzoom: 19, attribution: baseMap.attribution };
}

export const legendOf = (map: LandMap, known: { value: number; color: Colour }[]): Map<number, Colour> =>
  new Map(map.summary.classes.map((c, i) => [c.value, known.find((k) => k.value === c.value)?.color ?? OTHERS[i % OTHERS.length]!]));

const OTHERS: Colour[] = [
  [166, 97, 63], [127, 127, 127], [217, 178, 120], [35, 110, 50], [150, 195, 95], [70, 130, 190], [200, 80, 80], [140, 90, 170],
];

export const isOurs = (url: string): boolean => url.startsWith(`${base}/`);
export type { Bounds };
