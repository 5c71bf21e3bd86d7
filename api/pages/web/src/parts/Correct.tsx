import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { active, add, apply, drawn, exported, kept, looking, lookNext, possible, redo, suggested, undo, undone } from "../map/corrections";
import { clearShape, drawShape } from "../map/draw";
import { rgb } from "../map/layers";
import { colours, onClick } from "../map/stage";
import { maySubmit, shown } from "../state";
import { className, t } from "../texts";
import { hand } from "./MapPanel";

type Way = "point" | "linestring" | "polygon";

/** Say what is there, see what the map becomes, have it made anew. */
export function Correct() {
  if (!possible.value || !maySubmit.value) return null;
  return (
    <section aria-labelledby="correct">
      <div class="row"><h2 id="correct">{t.correct}</h2><small role="status">{looking.value ? t.previewing : t.pending(drawn.value.length, kept.value.length)}</small></div>
      <p class="hint">{active.value ? t.correctKeys : t.correctHelp}</p>
      <button class={active.value ? "" : "main"} aria-pressed={active.value} onClick={() => (active.value = !active.value)}>
        {active.value ? t.correctStop : t.correctStart}
      </button>
      {active.value && <Loop />}
    </section>
  );
}

function Loop() {
  const classes = shown.value!.summary.classes;
  const chosen = useSignal(classes[0]!.name);
  const way = useSignal<Way>("point");
  const model = useSignal("");
  const take = (geometry: GeoJSON.Point | GeoJSON.LineString | GeoJSON.Polygon) =>
    add({ type: "Feature", geometry, properties: { class: chosen.value } });
  const choose = async (next: Way) => {
    way.value = next;
    while (way.value === next && next !== "point" && active.value) {
      const shape = await drawShape<GeoJSON.LineString | GeoJSON.Polygon>(next);
      if (!shape) break;
      await clearShape();
      take(shape);
    }
    if (way.value === next) way.value = "point";
  };
  useEffect(() => {
    onClick.value = (lon, lat) => { if (way.value === "point") take({ type: "Point", coordinates: [lon, lat] }); };
    const keys = (e: KeyboardEvent) => {
      if (e.target instanceof HTMLInputElement && e.target.type !== "radio") return;
      if (e.ctrlKey && e.key.toLowerCase() === "z") return e.shiftKey ? redo() : undo();
      if (e.ctrlKey || e.metaKey || e.altKey) return;
      const named = classes[Number(e.key) - 1];
      if (named) chosen.value = named.name;
      else if (e.key === "n") void lookNext();
      else if (e.key === "u") undo();
      else if (e.key === "r") redo();
    };
    window.addEventListener("keydown", keys);
    return () => {
      onClick.value = null;
      window.removeEventListener("keydown", keys);
    };
  }, []);
  return (
    <>
      <fieldset class="choice"><legend>{t.classHere}</legend>
        {classes.map((c, i) => (
          <label key={c.value} class="inline">
            <input type="radio" name="class" checked={chosen.value === c.name} onChange={() => (chosen.value = c.name)} />
            <i class="swatch" style={{ background: rgb(colours.value.get(c.value) ?? [120, 120, 120]) }} /> {className(c.name)} {i < 9 && <kbd>{i + 1}</kbd>}
          </label>
        ))}
      </fieldset>
      <div class="row tools">
        {(["point", "linestring", "polygon"] as Way[]).map((w) => (
          <button key={w} aria-pressed={way.value === w} onClick={() => void choose(w)}>{t.tool[w]}</button>
        ))}
      </div>
      <p class="hint" role="status">{suggested.value ? t.suggestion(suggested.value.properties.class, suggested.value.properties.confidence) : t.toolHint[way.value]}</p>
      <div class="row tools">
        <button disabled={!drawn.value.length} onClick={undo}>{t.undo}</button>
        <button disabled={!undone.value.length} onClick={redo}>{t.redo}</button>
        <button onClick={() => void lookNext()}>{t.where}</button>
      </div>
      <label>{t.keepModel} <input value={model.value} pattern="[A-Za-z0-9][A-Za-z0-9._\-]*" placeholder="my-town" onInput={(e) => (model.value = e.currentTarget.value.trim())} /></label>
      <div class="row tools">
        <button class="main" disabled={!drawn.value.length && !kept.value.length} onClick={() => void apply(model.value)}>{t.apply}</button>
        <button class="quiet" onClick={() => hand(exported(), "corrections.geojson")}>{t.exportCorrections}</button>
      </div>
    </>
  );
}
