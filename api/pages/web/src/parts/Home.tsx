import { useSignal } from "@preact/signals";
import { bring, cancel, isOpen, jobs, makeMap, maps, maySubmit, removeMap, scenes, sending } from "../state";
import type { Job } from "../api";
import { size, t, when } from "../texts";
import { SceneCard } from "./SceneCard";

/** The first panel: bring scenes, follow jobs, choose a map. */
export function Home() {
  return (
    <>
      {maySubmit.value && <Bring />}
      <Jobs />
      <Maps />
      <Scenes />
    </>
  );
}

function Bring() {
  const chosen = (e: Event) => {
    const input = e.currentTarget as HTMLInputElement;
    if (input.files) void bring([...input.files]);
    input.value = "";
  };
  return (
    <section aria-labelledby="bring">
      <h2 id="bring">{t.bring}</h2>
      <label class="drop">
        <input type="file" multiple accept=".tif,.tiff,image/tiff" onChange={chosen} />
        <span><strong>{t.drop}</strong> {t.or} <u>{t.pick}</u></span>
      </label>
      {sending.value.map((one) => (
        <div key={one.id} class="card sending">
          <div class="row"><span class="name">{one.share < 1 ? t.sending(one.name) : t.checking}</span>
            <button class="quiet" onClick={() => one.stop.abort()}>{t.stop}</button></div>
          <progress max={1} value={one.share < 1 ? one.share : undefined} aria-label={t.sending(one.name)} />
        </div>
      ))}
    </section>
  );
}

const FEW = 3;

function Scenes() {
  const all = useSignal(false);
  const found = scenes.value;
  const listed = all.value ? found : found.slice(0, FEW);
  return (
    <section aria-labelledby="scenes">
      <h2 id="scenes">{t.scenes}</h2>
      {found.length === 0 && <p class="hint">{t.noScenes}</p>}
      {listed.map((scene) => <SceneCard key={scene.id} scene={scene} />)}
      {found.length > listed.length && <button class="quiet" onClick={() => (all.value = true)}>{t.moreScenes} ({found.length - FEW})</button>}
    </section>
  );
}

function Jobs() {
  // A finished job is its map: only what is open or went wrong is news.
  const news = jobs.value.filter((job) => job.state !== "done").slice(0, 20);
  if (!news.length) return null;
  return (
    <section aria-labelledby="jobs">
      <div class="row"><h2 id="jobs">{t.jobs}</h2>{news.some(isOpen) && <TellMe />}</div>
      <ul class="plain">{news.map((job) => <li key={job.id}><JobRow job={job} /></li>)}</ul>
    </section>
  );
}

function TellMe() {
  const asked = useSignal("Notification" in window ? Notification.permission : "denied");
  if (asked.value !== "default") return null;
  return <button class="quiet" onClick={async () => (asked.value = await Notification.requestPermission())}>{t.tellMe}</button>;
}

function JobRow({ job }: { job: Job }) {
  const p = job.progress;
  const share = p && p.total ? p.done / p.total : 0;
  const said = job.state === "queued" ? t.ahead(job.place ?? 0)
    : p ? [t.stage(p.stage, share), p.mpx_per_s ? t.rate(p.mpx_per_s) : "", p.seconds_left !== null ? t.left(p.seconds_left) : ""].filter(Boolean).join(" · ") : "";
  return (
    <div class="card job">
      <div class="row">
        <span class="name">{job.scene_name ?? job.id}</span>
        <span class={`state ${job.state}`}>{job.cancelling ? t.cancelling : t.state[job.state]}</span>
      </div>
      {isOpen(job) && <progress max={1} value={job.state === "running" ? share : 0} aria-label={job.scene_name ?? job.id} />}
      {job.error && <p class="refused">{job.error.detail}</p>}
      <div class="row">
        <small>{isOpen(job) ? said : when(job.created)}</small>
        {maySubmit.value && isOpen(job) && !job.cancelling && <button class="quiet" onClick={() => void cancel(job)}>{t.cancel}</button>}
        {maySubmit.value && !isOpen(job) && job.scene_name && (
          <button class="quiet" onClick={() => void makeMap(job.scene, job.model, stripped(job.options))}>{t.retry}</button>
        )}
      </div>
    </div>
  );
}

/** The options that somebody chose: what is null was left to the service. */
const stripped = (options: Record<string, unknown>) => Object.fromEntries(Object.entries(options).filter(([, v]) => v !== null));

function Maps() {
  const found = maps.value;
  return (
    <section aria-labelledby="maps">
      <h2 id="maps">{t.maps}</h2>
      {found.length === 0 && <p class="hint">{t.noMaps}</p>}
      <ul class="plain">
        {found.map((map) => (
          <li key={map.id} class="card link">
            <a href={`#map=${map.id}`}><span class="name">{map.title}</span></a>
            <div class="row"><small>{map.model} · {when(map.created)} · {size(map.bytes)}</small>
              {maySubmit.value && (
                <button class="quiet danger" aria-label={`${t.remove} ${map.title}`}
                  onClick={() => confirm(t.removeSure(map.title)) && void removeMap(map)}>{t.remove}</button>
              )}</div>
          </li>
        ))}
      </ul>
    </section>
  );
}

