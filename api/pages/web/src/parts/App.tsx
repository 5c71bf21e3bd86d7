import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { locked } from "../api";
import { broken, mount, stage } from "../map/stage";
import { view } from "../place";
import { bring, maySubmit, shown } from "../state";
import { t } from "../texts";
import { Home } from "./Home";
import { Account, Login } from "./Keys";
import { MapPanel } from "./MapPanel";
import { Readout } from "./Readout";
import { Swipe } from "./Swipe";
import { Toasts } from "./Toasts";

export function App() {
  const open = useSignal(true);
  const over = useSignal(false);
  const map = useRef<HTMLDivElement>(null);
  useEffect(() => mount(map.current!), []);
  useDrop(over);
  const swiping = view.value.map !== null && view.value.swipe !== null && stage.value && shown.value;
  return (
    <>
      <a class="skip" href="#map-region" onClick={(e) => (e.preventDefault(), stage.value?.getCanvas().focus())}>{t.skip}</a>
      <main id="map-region" class="map" aria-label={t.mapRegion}>
        <div ref={map} class="gl" />
        {swiping && <Swipe />}
        {broken.value && <div class="broken" role="alert"><strong>{t.noWebgl}</strong><p>{t.noWebglDetail}</p></div>}
        <Readout />
      </main>
      <aside class={`panel ${open.value ? "" : "shut"}`} aria-label={t.panel}>
        <header class="top">
          <a class="brand" href="#" onClick={() => (view.value = { ...view.value, map: null, at: null, swipe: null, with: null, hidden: [] })}>
            <Mark /> {t.title}
          </a>
          <Account />
          <button class="quiet icon toggle" aria-expanded={open.value} aria-label={open.value ? t.closePanel : t.openPanel}
            onClick={() => (open.value = !open.value)}>{open.value ? "–" : "+"}</button>
        </header>
        <div class="content" hidden={!open.value}>{view.value.map ? <MapPanel /> : <Home />}</div>
      </aside>
      {over.value && maySubmit.value && <div class="dropping" aria-hidden="true"><span>{t.dropNow}</span></div>}
      <Toasts />
      {locked.value && <Login />}
    </>
  );
}

/** Files may be dropped anywhere on the page. */
function useDrop(over: { value: boolean }): void {
  useEffect(() => {
    let depth = 0;
    const files = (e: DragEvent) => e.dataTransfer?.types.includes("Files");
    const enter = (e: DragEvent) => { if (files(e)) { depth += 1; over.value = true; } };
    const leave = (e: DragEvent) => { if (files(e) && --depth <= 0) { depth = 0; over.value = false; } };
    const hover = (e: DragEvent) => { if (files(e)) e.preventDefault(); };
    const drop = (e: DragEvent) => {
      if (!files(e)) return;
      e.preventDefault();
      depth = 0;
      over.value = false;
      if (!maySubmit.value) return;
      view.value = { ...view.value, map: null, at: null };
      void bring(e.dataTransfer!.files);
    };
    const all: [string, (e: DragEvent) => void][] = [["dragenter", enter], ["dragleave", leave], ["dragover", hover], ["drop", drop]];
    for (const [name, act] of all) window.addEventListener(name, act as EventListener);
    return () => { for (const [name, act] of all) window.removeEventListener(name, act as EventListener); };
  }, []);
}

function Mark() {
  return (
    <svg width="20" height="20" viewBox="0 0 20 20" aria-hidden="true">
      <path d="M0 0h9v7H0z" fill="#2f7d4f" /><path d="M9 0h11v11H9z" fill="#8cc084" />
      <path d="M0 7h9v13H0z" fill="#c8a26a" /><path d="M9 11h11v9H9z" fill="#4d8fb8" />
    </svg>
  );
}
