import { useSignal, useSignalEffect } from "@preact/signals";
import { base, key, post, type Statistics } from "../api";
import { clearShape, drawShape } from "../map/draw";
import { colours } from "../map/stage";
import { rgb } from "../map/layers";
import { shown, tell } from "../state";
import { area, className, percent, t } from "../texts";
import { Download } from "./MapPanel";

/** Draw an area and see what it holds. */
export function Ask() {
  const map = shown.value!;
  const shape = useSignal<GeoJSON.Polygon | null>(null);
  const told = useSignal<Statistics | null>(null);
  const tool = useSignal<"rectangle" | "polygon" | null>(null);
  const busy = useSignal(false);
  const clear = () => {
    shape.value = told.value = null;
    void clearShape();
  };
  useSignalEffect(() => { void shown.value; clear(); });
  const start = async (chosen: "rectangle" | "polygon") => {
    clear();
    tool.value = chosen;
    const drawn = await drawShape<GeoJSON.Polygon>(chosen);
    tool.value = null;
    if (!drawn) return;
    shape.value = drawn;
    busy.value = true;
    try {
      told.value = await post<Statistics>(`/maps/${map.id}/statistics`, drawn);
    } catch (error) {
      tell(error);
      clear();
    }
    busy.value = false;
  };
  return (
    <section aria-labelledby="ask">
      <h2 id="ask">{t.ask}</h2>
      <p class="hint" role="status">{tool.value === "rectangle" ? t.boxHint : tool.value === "polygon" ? t.polygonHint : t.askHelp}</p>
      <div class="row tools">
        <button aria-pressed={tool.value === "rectangle"} onClick={() => void start("rectangle")}>{t.box}</button>
        <button aria-pressed={tool.value === "polygon"} onClick={() => void start("polygon")}>{t.polygon}</button>
        {shape.value && <button class="quiet" onClick={clear}>{t.clear}</button>}
      </div>
      {busy.value && <progress aria-label={t.preparing} />}
      {told.value && shape.value && <Answer id={map.id} told={told.value} shape={shape.value} />}
    </section>
  );
}

function Answer({ id, told, shape }: { id: string; told: Statistics; shape: GeoJSON.Polygon }) {
  const most = Math.max(...told.classes.map((c) => c.share), 1e-9);
  return (
    <div class="answer" aria-live="polite">
      <p><strong>{area(told.area_m2)}</strong>{told.confidence !== null && ` · ${t.meanConfidence} ${percent(told.confidence)}`}
        {told.nodata_m2 > 0 && ` · ${t.nodata}: ${area(told.nodata_m2)}`}</p>
      <table class="bars">
        <caption class="unseen">{t.inside}</caption>
        <tbody>
          {[...told.classes].sort((a, b) => b.area_m2 - a.area_m2).map((c) => (
            <tr key={c.value}>
              <th scope="row">{className(c.name)}</th>
              <td class="bar"><i style={{ width: `${(c.share / most) * 100}%`, background: rgb(colours.value.get(c.value) ?? [120, 120, 120]) }} /></td>
              <td class="number">{area(c.area_m2)}</td><td class="number">{percent(c.share)}</td>
            </tr>
          ))}
        </tbody>
      </table>
      <small>{t.noInterval}</small>
      <Clip id={id} shape={shape} />
      <Curl path={`/maps/${id}/statistics`} shape={shape} />
    </div>
  );
}

/** The polygons of the area's box, cut at it. */
function Clip({ id, shape }: { id: string; shape: GeoJSON.Polygon }) {
  const ring = shape.coordinates[0]!;
  const xs = ring.map((p) => p[0]!);
  const ys = ring.map((p) => p[1]!);
  const box = [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)].map((v) => v.toFixed(7)).join(",");
  return (
    <p class="files"><span>{t.downloadArea}: </span>
      <Download path={`/collections/${id}/items?bbox=${box}&clip=true&limit=10000&f=geojson`} name="area.geojson" />
    </p>
  );
}

function Curl({ path, shape }: { path: string; shape: GeoJSON.Polygon }) {
  const short = { type: shape.type, coordinates: shape.coordinates.map((ring) => ring.map((p) => p.map((v) => Number(v.toFixed(6))))) };
  const lines = [
    `curl -s '${base}${path}'`, "-H 'Content-Type: application/json'", ...(key.value ? [`-H "Authorization: Bearer $KEY"`] : []), `-d '${JSON.stringify(short)}'`,
  ].join(" ");
  return (
    <details class="curl"><summary>{t.asCurl}</summary>
      <code tabIndex={0}>{lines}</code>
      <button class="quiet" onClick={() => void navigator.clipboard.writeText(lines).catch(tell)}>{t.copy}</button>
    </details>
  );
}
