import { useSignal, type Signal } from "@preact/signals";
import { post, type Fit, type Model, type Scene } from "../api";
import { located, makeMap, maySubmit, models, removeScene, tell } from "../state";
import { size, t } from "../texts";
import { Picture } from "./Picture";

const MOST_PICTURES = 12;

interface Wish { model: string; bands: Record<string, number>; tta: string; min_area_m2: string; formats: string[]; force: boolean; assume_crs: string }

/** A scene: what it is, what the pre-flight says of it, and the choices to make before it is mapped. */
export function SceneCard({ scene }: { scene: Scene }) {
  const fit = useSignal<Fit | null>(scene.info.fit);
  const busy = useSignal(false);
  const wish = useSignal<Wish>(first(scene));
  const model = models.value.find((m) => m.name === wish.value.model) ?? models.value.find((m) => m.default);
  const here = located.value?.id === scene.id;
  const change = async (part: Partial<Wish>) => {
    wish.value = { ...wish.value, ...part };
    const chosen = wish.value;
    const needed = model?.bands ?? [];
    const half = Object.keys(chosen.bands).length > 0 && !needed.every((name) => chosen.bands[name]);
    if (half || "tta" in part || "min_area_m2" in part || "formats" in part) return;
    busy.value = true;
    try {
      fit.value = await post<Fit>(`/scenes/${scene.id}/fit`, { model: chosen.model || undefined, options: options(chosen) });
    } catch (error) {
      tell(error);
    }
    busy.value = false;
  };
  const make = async () => {
    busy.value = true;
    await makeMap(scene.id, wish.value.model || undefined, options(wish.value));
    busy.value = false;
  };
  const bandsMissing = fit.value?.checks.some((c) => c.topic === "bands" && c.status === "refused") || Object.keys(wish.value.bands).length > 0;
  return (
    <article class="card scene" aria-label={scene.name}>
      <div class="head">
        <Picture path={`/scenes/${scene.id}/picture.png?size=160`} alt="" className="thumb" />
        <div>
          <span class="name">{scene.name}</span>
          <small>{t.sceneFacts(scene.info.rows, scene.info.columns, scene.info.bands.length, scene.info.gsd_m)} · {size(scene.bytes)}</small>
          {fit.value && <p class={`fit ${fit.value.fits ? "ok" : "refused"}`}>{fit.value.fits ? t.fits : t.fitsNot}</p>}
        </div>
      </div>
      {fit.value && <Checks fit={fit.value} />}
      {maySubmit.value && bandsMissing && model && <Bands scene={scene} model={model} wish={wish} change={change} />}
      {maySubmit.value && <Options wish={wish} change={change} scene={scene} />}
      <div class="row">
        {scene.info.bounds && (
          <button class="quiet" aria-pressed={here} onClick={() => (located.value = here ? null : scene)}>{t.show}</button>
        )}
        {maySubmit.value && (
          <>
            <button class="quiet danger" aria-label={`${t.remove} ${scene.name}`}
              onClick={() => confirm(t.removeSure(scene.name)) && void removeScene(scene)}>{t.remove}</button>
            <button class="main" disabled={busy.value || fit.value?.fits === false} onClick={make}>{busy.value ? t.making : t.make}</button>
          </>
        )}
      </div>
    </article>
  );
}

const first = (scene: Scene): Wish => ({
  model: scene.info.fit?.model ?? "", bands: {}, tta: "none", min_area_m2: "", formats: ["gpkg", "geojson"], force: false, assume_crs: "",
});

function options(w: Wish): Record<string, unknown> {
  return {
    formats: w.formats, tta: w.tta, force: w.force,
    ...(Object.keys(w.bands).length ? { bands: w.bands } : {}),
    ...(w.min_area_m2 !== "" ? { min_area_m2: Number(w.min_area_m2) } : {}),
    ...(w.assume_crs ? { assume_crs: w.assume_crs.toUpperCase() } : {}),
  };
}

/** The lines worth reading are open, the others one click away. */
function Checks({ fit }: { fit: Fit }) {
  const loud = fit.checks.filter((c) => c.status !== "ok");
  const line = (c: Fit["checks"][number], i: number) => (
    <li key={i} class={c.status}><b>{c.topic}</b> <em>{t.status[c.status]}</em> {c.text}{c.remedy && <span class="remedy"> → {c.remedy}</span>}</li>
  );
  return (
    <>
      {!fit.fits && !loud.length && fit.why && <p class="refused">{fit.why}</p>}
      <ul class="checks">{loud.map(line)}</ul>
      <details><summary>{t.checks}</summary><ul class="checks">{fit.checks.map(line)}</ul></details>
    </>
  );
}

interface Part { scene: Scene; wish: Signal<Wish>; change: (part: Partial<Wish>) => Promise<void> }

function Bands({ scene, model, wish, change }: Part & { model: Model }) {
  const numbers = scene.info.bands.slice(0, MOST_PICTURES).map((b) => b.number);
  return (
    <fieldset class="bands">
      <legend>{t.bandsTitle}</legend>
      <p class="hint">{t.bandsHelp}</p>
      {model.bands.map((name) => (
        <div key={name} role="radiogroup" aria-label={t.bandFor(name)}>
          <span class="label">{name}</span>
          <div class="pictures">
            {numbers.map((n) => (
              <button key={n} type="button" role="radio" aria-checked={wish.value.bands[name] === n} aria-label={t.band(n)} title={t.band(n)}
                onClick={() => void change({ bands: { ...wish.value.bands, [name]: n } })}>
                <Picture path={`/scenes/${scene.id}/picture.png?size=96&band=${n}`} alt="" />
                <span>{n}</span>
              </button>
            ))}
          </div>
        </div>
      ))}
    </fieldset>
  );
}

function Options({ wish, change, scene }: Part) {
  const w = wish.value;
  return (
    <details class="options">
      <summary>{t.options}</summary>
      <label>{t.model}
        <select value={w.model} onChange={(e) => void change({ model: e.currentTarget.value })}>
          {models.value.map((m) => <option key={m.name} value={m.name}>{m.name} ({t.modelReach(...m.gsd_m)})</option>)}
        </select>
      </label>
      <label>{t.tta}
        <select value={w.tta} onChange={(e) => void change({ tta: e.currentTarget.value })}>
          {Object.entries(t.ttaChoices).map(([value, text]) => <option key={value} value={value}>{text}</option>)}
        </select>
      </label>
      <label>{t.smallest} <small>{t.smallestHelp}</small>
        <input type="number" min="0" step="any" inputMode="decimal" value={w.min_area_m2} onInput={(e) => void change({ min_area_m2: e.currentTarget.value })} />
      </label>
      {!scene.info.crs && (
        <label>{t.crs}
          <input placeholder="EPSG:32613" pattern="(EPSG|ESRI|epsg|esri):[0-9]+" value={w.assume_crs}
            onChange={(e) => { if (e.currentTarget.checkValidity()) void change({ assume_crs: e.currentTarget.value }); }} />
        </label>
      )}
      <fieldset><legend>{t.formats}</legend>
        {["gpkg", "geojson", "fgb", "parquet"].map((f) => (
          <label key={f} class="inline"><input type="checkbox" checked={w.formats.includes(f)} disabled={f === "gpkg"}
            onChange={(e) => void change({ formats: e.currentTarget.checked ? [...w.formats, f] : w.formats.filter((o) => o !== f) })} /> {f}</label>
        ))}
      </fieldset>
      <label class="inline"><input type="checkbox" checked={w.force} onChange={(e) => void change({ force: e.currentTarget.checked })} /> {t.force}</label>
    </details>
  );
}
