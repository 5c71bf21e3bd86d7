// Drawing on the map with terra-draw, fetched when somebody first draws.
import type { TerraDraw } from "terra-draw";
import { drawing, stage } from "./stage";

export type Tool = "rectangle" | "polygon" | "linestring";
let made: Promise<TerraDraw> | null = null;

async function make(): Promise<TerraDraw> {
  const [kit, { TerraDrawMapLibreGLAdapter }] = await Promise.all([import("terra-draw"), import("terra-draw-maplibre-gl-adapter")]);
  const fill = { fillColor: "#e8590c" as const, outlineColor: "#e8590c" as const, fillOpacity: 0.12, outlineWidth: 2 };
  const draw = new kit.TerraDraw({
    adapter: new TerraDrawMapLibreGLAdapter({ map: stage.value! }),
    modes: [
      new kit.TerraDrawRectangleMode({ styles: fill }), new kit.TerraDrawPolygonMode({ styles: fill }),
      new kit.TerraDrawLineStringMode({ styles: { lineStringColor: "#e8590c", lineStringWidth: 4 } }),
      new kit.TerraDrawRenderMode({ modeName: "rest", styles: { polygonFillColor: "#e8590c", polygonOutlineColor: "#e8590c", polygonFillOpacity: 0.12, polygonOutlineWidth: 2 } }),
    ],
  });
  draw.start();
  draw.setMode("rest");
  return draw;
}

/** Draw one shape; null where Escape stopped it. */
export async function drawShape<G extends GeoJSON.Polygon | GeoJSON.LineString>(tool: Tool): Promise<G | null> {
  const draw = await (made ??= make());
  draw.clear();
  draw.setMode(tool);
  drawing.value = true;
  stage.value!.getCanvas().focus();
  return new Promise((resolve) => {
    const end = (shape: G | null) => {
      draw.off("finish", finish);
      window.removeEventListener("keydown", escape);
      draw.setMode("rest");
      setTimeout(() => (drawing.value = false), 50); // the click that ends a shape asks for nothing
      resolve(shape);
    };
    const finish = (id: string | number) => end(draw.getSnapshotFeature(id)?.geometry as unknown as G);
    const escape = (e: KeyboardEvent) => { if (e.key === "Escape") { draw.clear(); end(null); } };
    draw.on("finish", finish);
    window.addEventListener("keydown", escape);
  });
}

export async function clearShape(): Promise<void> {
  if (made) (await made).clear();
}
