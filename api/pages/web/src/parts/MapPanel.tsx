import { useSignal } from "@preact/signals";
import { base, key, ask } from "../api";
import { colours, fitMap } from "../map/stage";
import { rgb } from "../map/layers";
import { change, LAYERS, view, written, type LayerName } from "../place";
import { baseMap } from "../api";
import { maps, shown, tell } from "../state";
import { area, className, percent, t } from "../texts";
import { Ask } from "./Ask";
import { Correct } from "./Correct";

/** The panel of one map: layers, legend, questions, files. */
export function MapPanel() {
  const map = shown.value;
  if (!map) return <p class="hint" role="status">…</p>;
  return (
    <>
      <nav class="row"><a href="#" onClick={() => change({ map: null, at: null, swipe: null, with: null, hidden: [] })}>← {t.home}</a></nav>
      <h1>{map.title}</h1>
      <small>{map.model}</small>
      <div class="row tools">
        <button onClick={fitMap}>{t.fit}</button>
        <button aria-pressed={view.value.swipe !== null} title={t.swipeHelp}
          onClick={() => change({ swipe: view.value.swipe === null ? 0.5 : null, with: null })}>{t.swipe}</button>
        <Share />
      </div>
      {view.value.swipe !== null && <Other />}
      <Legend />
      <Layers />
      <Ask />
      <Correct />
      <Files />
    </>
  );
}

function Share() {
  const said = useSignal(false);
  const copy = async () => {
    const link = `${location.origin}${location.pathname}${location.search}${written(view.value)}`;
    await navigator.clipboard.writeText(link).catch(tell);
    said.value = true;
    setTimeout(() => (said.value = false), 2000);
  };
  return <button onClick={copy} aria-live="polite">{said.value ? t.copied : t.share}</button>;
}

function Other() {
  return (
    <label class="block">{t.swipeWith}
      <select value={view.value.with ?? ""} onChange={(e) => change({ with: e.currentTarget.value || null })}>
        <option value="">{t.swipeScene}</option>
        {maps.value.filter((m) => m.id !== view.value.map).map((m) => <option key={m.id} value={m.id}>{m.title} ({m.model})</option>)}
      </select>
    </label>
  );
}

function Layers() {
  const now = view.value;
  const toggle = (name: LayerName, on: boolean) =>
    change({ layers: LAYERS.filter((l) => (l === name ? on : now.layers.includes(l))) });
  const names = LAYERS.filter((name) => name !== "base" || baseMap.tiles).toReversed();
  return (
    <section aria-labelledby="layers">
      <h2 id="layers">{t.layers}</h2>
      <ul class="plain layers">
        {names.map((name) => (
          <li key={name}>
            <label class="inline"><input type="checkbox" checked={now.layers.includes(name)} onChange={(e) => toggle(name, e.currentTarget.checked)} /> {t.layer[name]}</label>
            <input type="range" min="0" max="1" step="0.05" value={now.opacity[name] ?? 1} aria-label={t.opacity(t.layer[name])}
              disabled={!now.layers.includes(name)}
              onInput={(e) => change({ opacity: { ...now.opacity, [name]: Number(e.currentTarget.value) } })} />
          </li>
        ))}
      </ul>
      {now.layers.includes("confidence") && (
        <div class="ramp"><i aria-hidden="true" /><span>0 %</span><span>{t.confidenceScale}</span><span>100 %</span></div>
      )}
    </section>
  );
}

function Legend() {
  const map = shown.value!;
  const hidden = view.value.hidden;
  const toggle = (value: number) =>
    change({ hidden: hidden.includes(value) ? hidden.filter((v) => v !== value) : [...hidden, value] });
  return (
    <section aria-labelledby="legend">
      <div class="row"><h2 id="legend">{t.legend}</h2>
        {hidden.length > 0 && <button class="quiet" onClick={() => change({ hidden: [] })}>{t.allClasses}</button>}</div>
      <ul class="plain legend">
        {map.summary.classes.map((c) => (
          <li key={c.value}>
            <label class="inline">
              <input type="checkbox" checked={!hidden.includes(c.value)} aria-label={t.hideClass(className(c.name))} onChange={() => toggle(c.value)} />
              <i class="swatch" style={{ background: rgb(colours.value.get(c.value) ?? [120, 120, 120]) }} />
              <span class="name">{className(c.name)}</span>
            </label>
            <span class="number">{area(c.area_m2)}</span><span class="number share">{percent(c.share)}</span>
          </li>
        ))}
      </ul>
    </section>
  );
}

function Files() {
  const map = shown.value!;
  const files = map.links.filter((l) => l.rel === "item" && l.title);
  return (
    <section aria-labelledby="files">
      <h2 id="files">{t.wholeFiles}</h2>
      <p class="files">{files.map((f) => <Download key={f.title} path={f.href.replace(base, "")} name={f.title!} />)}</p>
    </section>
  );
}

/** A plain link where no key is needed; with one, the file is fetched and then handed over. */
export function Download({ path, name }: { path: string; name: string }) {
  const busy = useSignal(false);
  if (!key.value) return <a class="file" href={base + path} download={name}>{name}</a>;
  const fetchIt = async () => {
    busy.value = true;
    try {
      hand(await (await ask(path, { headers: { Accept: "*/*" } })).blob(), name);
    } catch (error) {
      tell(error);
    }
    busy.value = false;
  };
  return <button class="file quiet" disabled={busy.value} onClick={fetchIt}>{busy.value ? t.preparing : name}</button>;
}

export function hand(blob: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
