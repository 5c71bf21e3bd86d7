// What the page knows: one signal a thing. Parts read them and redraw when they change.
import { batch, computed, signal } from "@preact/signals";
import {
  ApiError, get, key, listen, locked, post, upload, ask, type Job, type LandMap, type MapEntry, type Me, type Model, type Scene,
} from "./api";
import { t } from "./texts";

export interface Toast { id: number; kind: "error" | "done"; title: string; detail: string; go?: { text: string; href: string } }
export interface Sending { id: number; name: string; share: number; stop: AbortController }

export const me = signal<Me | null>(null);
export const models = signal<Model[]>([]);
export const scenes = signal<Scene[]>([]);
export const maps = signal<MapEntry[]>([]);
export const jobs = signal<Job[]>([]);
export const sending = signal<Sending[]>([]);
export const toasts = signal<Toast[]>([]);
export const shown = signal<LandMap | null>(null);
/** The scene whose place is shown on the map. */
export const located = signal<Scene | null>(null);
export const maySubmit = computed(() => me.value?.scopes.some((s) => s === "submit" || s === "admin") ?? false);

let numbers = 0;

export function toast(made: Omit<Toast, "id">): void {
  const id = ++numbers;
  toasts.value = [...toasts.value.slice(-3), { ...made, id }];
  if (made.kind === "done") setTimeout(() => dismiss(id), 8000);
}

export function dismiss(id: number): void {
  toasts.value = toasts.value.filter((made) => made.id !== id);
}

/** Tell the person what went wrong, as the service words it. A missing key has a dialog of its own. */
export function tell(error: unknown): void {
  if (error instanceof DOMException && error.name === "AbortError") return;
  if (error instanceof ApiError) {
    if (error.problem.status === 401) return;
    const { title, detail, status } = error.problem;
    if (status === 0) toast({ kind: "error", title: t.unreachable, detail: t.unreachableDetail });
    else toast({ kind: "error", title, detail });
  } else {
    console.error(error);
    toast({ kind: "error", title: t.wentWrong, detail: String(error) });
  }
}

let stopListening: AbortController | null = null;

/** Ask for everything anew: at the start, and after a log-in. */
export async function begin(): Promise<void> {
  try {
    const who = await get<Me>("/me");
    const [known, found, made] = await Promise.all([
      get<{ models: Model[] }>("/models"), get<{ scenes: Scene[] }>("/scenes?limit=1000"), get<{ maps: MapEntry[] }>("/maps?limit=1000"),
    ]);
    batch(() => {
      me.value = who;
      locked.value = false;
      models.value = known.models;
      scenes.value = byTime(found.scenes);
      maps.value = byTime(made.maps);
      jobs.value = [];
    });
    stopListening?.abort();
    stopListening = new AbortController();
    void listen("/jobs/events", stopListening.signal, hear);
  } catch (error) {
    tell(error);
  }
}

const byTime = <T extends { created: string }>(things: T[]): T[] =>
  [...things].sort((a, b) => b.created.localeCompare(a.created));

function hear(event: string, data: unknown): void {
  if (event === "gone") {
    jobs.value = jobs.value.filter((job) => job.id !== data);
    return;
  }
  const job = data as Job;
  const before = jobs.value.find((j) => j.id === job.id);
  jobs.value = byTime([job, ...jobs.value.filter((j) => j.id !== job.id)]);
  if (before && isOpen(before) && !isOpen(job)) void finished(job);
}

export const isOpen = (job: Job): boolean => job.state === "queued" || job.state === "running";

async function finished(job: Job): Promise<void> {
  const name = job.scene_name ?? job.id;
  if (job.state === "failed") toast({ kind: "error", title: `${t.failedTitle}: ${name}`, detail: job.error?.detail ?? "" });
  if (job.state !== "done") return;
  try {
    maps.value = byTime((await get<{ maps: MapEntry[] }>("/maps?limit=1000")).maps);
  } catch (error) {
    tell(error);
  }
  toast({ kind: "done", title: t.madeTitle, detail: t.made(name), go: { text: t.look, href: `#map=${job.id}` } });
  if ("Notification" in window && Notification.permission === "granted" && document.hidden) {
    new Notification(t.madeTitle, { body: t.made(name) });
  }
}

/** Upload files one after the other; each becomes a scene of the list. */
export async function bring(files: Iterable<File>): Promise<void> {
  for (const file of files) {
    const one: Sending = { id: ++numbers, name: file.name, share: 0, stop: new AbortController() };
    sending.value = [...sending.value, one];
    const note = (share: number) => {
      sending.value = sending.value.map((s) => (s.id === one.id ? { ...s, share } : s));
    };
    try {
      const scene = await upload(file, note, one.stop.signal);
      scenes.value = [scene, ...scenes.value.filter((s) => s.id !== scene.id)];
      located.value = scene;
    } catch (error) {
      tell(error);
    } finally {
      sending.value = sending.value.filter((s) => s.id !== one.id);
    }
  }
}

export async function makeMap(scene: string, model: string | undefined, options: Record<string, unknown>): Promise<boolean> {
  try {
    const { job } = await post<{ job: Job }>("/jobs", { scene, model, options });
    jobs.value = byTime([job, ...jobs.value.filter((j) => j.id !== job.id)]);
    return true;
  } catch (error) {
    tell(error);
    return false;
  }
}

export async function cancel(job: Job): Promise<void> {
  try {
    const now = (await (await ask(`/jobs/${job.id}`, { method: "DELETE" })).json()) as Job;
    jobs.value = jobs.value.map((j) => (j.id === job.id ? now : j));
  } catch (error) {
    tell(error);
  }
}

export async function removeScene(scene: Scene): Promise<void> {
  try {
    await ask(`/scenes/${scene.id}`, { method: "DELETE" });
    scenes.value = scenes.value.filter((s) => s.id !== scene.id);
    if (located.value?.id === scene.id) located.value = null;
  } catch (error) {
    tell(error);
  }
}

export async function removeMap(map: MapEntry): Promise<void> {
  try {
    await ask(`/maps/${map.id}`, { method: "DELETE" });
    maps.value = maps.value.filter((m) => m.id !== map.id);
    jobs.value = jobs.value.filter((j) => j.id !== map.id);
  } catch (error) {
    tell(error);
  }
}

export function logOut(): void {
  stopListening?.abort();
  batch(() => {
    me.value = null;
    scenes.value = [];
    maps.value = [];
    jobs.value = [];
    shown.value = null;
    locked.value = true;
  });
}

export { key };
