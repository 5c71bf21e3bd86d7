// The service's API as the page uses it: one way to ask, problems as errors, the key in this session only.
import { signal } from "@preact/signals";

export interface Problem { title: string; detail: string; status: number; errors?: { field: string; detail: string }[] }
export interface Check { topic: string; status: "ok" | "adjusted" | "warning" | "refused"; text: string; remedy: string }
export interface Fit { model: string; fits: boolean; why?: string | null; field?: string | null; checks: Check[] }
export interface SceneInfo {
  columns: number; rows: number; dtype: string; crs: string | null; bounds: Bounds | null; gsd_m: number | null;
  bands: { number: number; description: string | null; color: string }[]; fit: Fit | null;
}
export type Bounds = [number, number, number, number];
export interface Scene { id: string; name: string; bytes: number; created: string; info: SceneInfo }
export type JobState = "queued" | "running" | "done" | "failed" | "cancelled";
export interface Job {
  id: string; state: JobState; scene: string; scene_name: string | null; model: string; options: Record<string, unknown>;
  created: string; started: string | null; finished: string | null; place: number | null; cancelling: boolean;
  progress: { stage: string; done: number; total: number; mpx_per_s: number; seconds_left: number | null } | null;
  error: { kind: string; detail: string } | null;
}
export interface MapEntry { id: string; title: string; scene: string; model: string; bytes: number; created: string }
export interface ClassArea { value: number; name: string; area_m2: number; share: number }
export interface LandMap extends MapEntry {
  summary: { classes: ClassArea[]; seams?: { share?: number } };
  links: { href: string; rel: string; type?: string; title?: string }[];
}
export interface Model {
  name: string; description: string; licence: string; bands: string[]; gsd_m: [number, number]; default: boolean;
  legend: { value: number; name: string; color: [number, number, number] }[];
}
export interface TileJson { tiles: string[]; bounds: Bounds; minzoom: number; maxzoom: number; detailzoom?: number }
export interface Zone { value: number; name: string; pixels: number; area_m2: number; share: number; confidence: number | null }
export interface Statistics { area_m2: number; nodata_m2: number; confidence: number | null; classes: Zone[] }
export interface Quota { used: number; limit: number | null }
export interface Me {
  key: string | null; name: string | null; scopes: string[]; bytes: Quota; pixels: Quota; open_jobs: Quota; keys_needed: boolean;
}
export interface Feature {
  id: number; geometry: GeoJSON.Geometry;
  properties: { class_id: number; class_name: string; area_m2: number; confidence: number | null };
}

const page = document.documentElement.dataset;
export const base = page.base || location.origin;
export const baseMap = { tiles: page.baseMap ?? "", attribution: page.baseMapAttribution ?? "" };

const STORED = "geounet-key";
export const key = signal(sessionStorage.getItem(STORED) ?? "");
/** Whether the service has refused to answer without a (better) key. */
export const locked = signal(false);

export function setKey(text: string): void {
  key.value = text;
  if (text) sessionStorage.setItem(STORED, text);
  else sessionStorage.removeItem(STORED);
}

export class ApiError extends Error {
  constructor(readonly problem: Problem) {
    super(problem.detail || problem.title);
  }
}

export function headers(more: Record<string, string> = {}): Record<string, string> {
  return { Accept: "application/json", ...(key.value ? { Authorization: `Bearer ${key.value}` } : {}), ...more };
}

/** The answer as it comes; throws ApiError for a problem and where the service cannot be reached. */
export async function ask(path: string, init: RequestInit = {}): Promise<Response> {
  let answer: Response;
  try {
    answer = await fetch(base + path, { ...init, headers: headers(init.headers as Record<string, string>) });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError({ title: "", detail: "", status: 0 });
  }
  if (!answer.ok) throw new ApiError(await problemOf(answer));
  return answer;
}

export async function problemOf(answer: Response): Promise<Problem> {
  if (answer.status === 401) locked.value = true;
  try {
    return (await answer.json()) as Problem;
  } catch {
    return { title: answer.statusText, detail: "", status: answer.status };
  }
}

export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  return (await (await ask(path, { signal })).json()) as T;
}

export async function post<T>(path: string, body: unknown, signal?: AbortSignal): Promise<T> {
  const init = { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" }, signal };
  return (await (await ask(path, init)).json()) as T;
}

/** Upload a file with progress (0-1); XMLHttpRequest, since fetch tells of none. */
export function upload(file: File, onProgress: (share: number) => void, signal: AbortSignal): Promise<Scene> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("PUT", `${base}/scenes/${encodeURIComponent(file.name)}`);
    for (const [name, value] of Object.entries(headers())) request.setRequestHeader(name, value);
    request.upload.onprogress = (e) => onProgress(e.total ? e.loaded / e.total : 0);
    request.onerror = () => reject(new ApiError({ title: "", detail: "", status: 0 }));
    request.onabort = () => reject(new DOMException("stopped", "AbortError"));
    request.onload = () => {
      if (request.status === 401) locked.value = true;
      let told: unknown;
      try {
        told = JSON.parse(request.responseText);
      } catch {
        told = { title: request.statusText, detail: "", status: request.status };
      }
      if (request.status < 300) resolve((told as { scene: Scene }).scene);
      else reject(new ApiError(told as Problem));
    };
    signal.addEventListener("abort", () => request.abort());
    request.send(file);
  });
}

/** Server-sent events by fetch, since EventSource sends no key. Goes on until `signal` says stop. */
export async function listen(path: string, signal: AbortSignal, hear: (event: string, data: unknown) => void): Promise<void> {
  while (!signal.aborted) {
    try {
      const answer = await ask(path, { signal, headers: { Accept: "text/event-stream" } });
      const reader = answer.body!.pipeThrough(new TextDecoderStream()).getReader();
      let held = "";
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        const blocks = (held + value).split("\n\n");
        held = blocks.pop() ?? "";
        for (const block of blocks) {
          const lines = block.split("\n");
          const name = lines.find((l) => l.startsWith("event: "))?.slice(7);
          const data = lines.filter((l) => l.startsWith("data: ")).map((l) => l.slice(6)).join("\n");
          if (name && data) hear(name, JSON.parse(data));
        }
      }
    } catch (error) {
      if (error instanceof ApiError && error.problem.status === 401) return;
    }
    await new Promise((r) => setTimeout(r, 2000));
  }
}
