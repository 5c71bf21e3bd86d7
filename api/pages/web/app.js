// The pages' scripts: upload a scene, follow its job, look at its map. No library, no other host.
const base = document.body.dataset.base;
const $ = (id) => document.getElementById(id);
const json = async (path) => {
  const answer = await fetch(base + path, { headers: { Accept: "application/json" } });
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.detail || answer.statusText);
  return body;
};
const cell = (tag, text, kind = "") => {
  const made = document.createElement(tag);
  made.textContent = text;
  made.className = kind;
  return made;
};
const say = (id, text, kind = "") => { $(id).textContent = text; $(id).className = kind; };

// -- upload --------------------------------------------------------------------------------------------------------

function upload() {
  const form = $("upload");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const file = form.elements.file.files[0];
    if (!file) return;
    const query = new URLSearchParams({ process: "true" });
    if (form.elements.model.value) query.set("model", form.elements.model.value);
    if (form.elements.bands.value.trim()) {
      const bands = Object.fromEntries(form.elements.bands.value.split(",").map((part) => {
        const [name, number] = part.split("=").map((s) => s.trim());
        return [name, Number(number)];
      }));
      query.set("options", JSON.stringify({ bands }));
    }
    const request = new XMLHttpRequest();
    request.open("PUT", `${base}/scenes/${encodeURIComponent(file.name)}?${query}`);
    request.upload.onprogress = (e) => { $("sent").hidden = false; $("sent").value = e.loaded / e.total; };
    request.upload.onload = () => say("told", "Checking the scene …");
    request.onerror = () => say("told", "The connection broke: try again.", "refused");
    request.onload = () => {
      const told = JSON.parse(request.responseText);
      if (request.status === 202) location.href = `${base}/jobs/${told.job.id}?f=html`;
      else say("told", `${told.title}: ${told.detail}`, "refused");
      form.elements.send.disabled = false;
    };
    form.elements.send.disabled = true;
    say("told", "Sending …");
    request.send(file);
  });
}

// -- a job ---------------------------------------------------------------------------------------------------------

function job(id) {
  const show = (now) => {
    say("state", now.cancelling ? "cancelling" : now.state, now.state);
    $("cancel").hidden = !["queued", "running"].includes(now.state);
    const p = now.progress;
    $("bar").hidden = !p || now.state !== "running";
    if (p && now.state === "running") {
      $("bar").value = p.total ? p.done / p.total : 0;
      const left = p.seconds_left === null ? "" : `, about ${Math.ceil(p.seconds_left)} s left`;
      say("told", `${p.stage}: ${Math.round((100 * p.done) / (p.total || 1))} %, ${p.mpx_per_s} Mpx/s${left}`);
    } else if (now.state === "queued") say("told", now.place ? `${now.place} jobs ahead` : "next in the queue");
    else if (now.error) say("told", now.error.detail, "refused");
    else say("told", now.state === "running" ? "starting" : "");
    if (now.state === "done") {
      const link = cell("a", "Look at the map");
      link.href = `${base}/maps/${id}?f=html`;
      $("told").replaceChildren(link);
    }
  };
  $("cancel").onclick = async () => show(await (await fetch(`${base}/jobs/${id}`, { method: "DELETE" })).json());
  const events = new EventSource(`${base}/jobs/${id}/events`);
  const hear = (event) => {
    const now = JSON.parse(event.data);
    show(now);
    if (!["queued", "running"].includes(now.state)) events.close();
  };
  for (const state of ["queued", "running", "done", "failed", "cancelled"]) events.addEventListener(state, hear);
}

// -- a map: tiles in Web Mercator, dragged and zoomed ----------------------------------------------------------------

const TILE = 256;

class View {
  constructor(element, told) {
    this.element = element;
    this.told = told; // layer -> TileJSON
    this.shown = new Map();
    const [west, south, east, north] = told.classes.bounds;
    this.centre = [(project(west, north).x + project(east, south).x) / 2, (project(west, north).y + project(east, south).y) / 2];
    const wide = Math.max(project(east, south).x - project(west, north).x, 1e-9);
    const high = Math.max(project(east, south).y - project(west, north).y, 1e-9);
    const fit = Math.log2(Math.min(element.clientWidth / wide, element.clientHeight / high) / TILE);
    this.zoom = Math.max(0, Math.min(Math.floor(fit + 0.2), 24));
    if (goesAround(told.classes)) { // on both sides of the antimeridian: where it lies is told by its centre
      const [lon, lat, zoom] = told.classes.center;
      this.centre = [project(lon, lat).x, project(lon, lat).y];
      this.zoom = zoom + 1;
    }
    this.layers = [["scene", 1], ["classes", 0.6]].filter(([name]) => told[name]);
    this.listen();
    this.draw();
  }
  get scale() { return TILE * 2 ** this.zoom; }
  draw() {
    const { clientWidth: width, clientHeight: height } = this.element;
    const left = this.centre[0] * this.scale - width / 2, top = this.centre[1] * this.scale - height / 2;
    const wanted = new Set();
    this.layers.forEach(([layer, opacity], order) => {
      const { bounds, maxzoom, minzoom } = this.told[layer];
      const z = Math.min(Math.max(this.zoom, minzoom), maxzoom), size = TILE * 2 ** (this.zoom - z);
      const first = project(bounds[0], bounds[3]), last = project(bounds[2], bounds[1]), tile = (v) => Math.floor(v * 2 ** z);
      const round = goesAround(this.told[layer]);
      const x0 = Math.max(Math.floor(left / size), round ? -Infinity : tile(first.x));
      const x1 = Math.min(Math.floor((left + width) / size), round ? Infinity : tile(last.x));
      const [y0, y1] = [Math.max(Math.floor(top / size), tile(first.y)), Math.min(Math.floor((top + height) / size), tile(last.y))];
      if ((x1 - x0 + 1) * (y1 - y0 + 1) > 200) return; // far out: too much to ask for, and nothing to see
      for (let x = x0; x <= x1; x++) {
        for (let y = y0; y <= y1; y++) {
          const key = `${layer}/${z}/${x}/${y}`;
          wanted.add(key);
          const image = this.shown.get(key) || this.add(key, layer, z, x, y);
          Object.assign(image.style, { left: `${x * size - left}px`, top: `${y * size - top}px`, width: `${size}px`, height: `${size}px`, opacity, zIndex: order });
        }
      }
    });
    for (const [key, image] of this.shown) if (!wanted.has(key)) { image.remove(); this.shown.delete(key); }
  }
  add(key, layer, z, x, y) {
    const image = document.createElement("img");
    image.alt = "";
    image.draggable = false;
    image.onerror = () => { image.style.visibility = "hidden"; }; // beyond the map there is no tile
    image.src = this.told[layer].tiles[0].replace("{z}", z).replace("{x}", ((x % 2 ** z) + 2 ** z) % 2 ** z).replace("{y}", y);
    this.element.append(image);
    this.shown.set(key, image);
    return image;
  }
  zoomBy(step, x = this.element.clientWidth / 2, y = this.element.clientHeight / 2) {
    const zoom = Math.min(Math.max(this.zoom + step, 0), 24);
    const dx = x - this.element.clientWidth / 2, dy = y - this.element.clientHeight / 2;
    const there = [this.centre[0] + dx / this.scale, this.centre[1] + dy / this.scale];
    this.zoom = zoom;
    this.centre = [there[0] - dx / this.scale, there[1] - dy / this.scale];
    this.draw();
  }
  at(event) {
    const box = this.element.getBoundingClientRect();
    const x = this.centre[0] + (event.clientX - box.left - box.width / 2) / this.scale;
    const y = this.centre[1] + (event.clientY - box.top - box.height / 2) / this.scale;
    return { lon: (((x % 1) + 1) % 1) * 360 - 180, lat: (Math.atan(Math.sinh(Math.PI * (1 - 2 * y))) * 180) / Math.PI };
  }
  listen() {
    let from = null, moved = false, turned = 0;
    this.element.onpointerdown = (e) => { if (e.target.tagName !== "BUTTON") { from = [e.clientX, e.clientY]; moved = false; } };
    window.addEventListener("pointermove", (e) => {
      if (!from) return;
      const [dx, dy] = [e.clientX - from[0], e.clientY - from[1]];
      if (!moved && Math.abs(dx) + Math.abs(dy) < 4) return;
      moved = true;
      from = [e.clientX, e.clientY];
      this.centre = [this.centre[0] - dx / this.scale, this.centre[1] - dy / this.scale];
      this.draw();
    });
    window.addEventListener("pointerup", (e) => { if (from && !moved) this.onclick?.(this.at(e)); from = null; });
    this.element.addEventListener("wheel", (e) => {
      e.preventDefault();
      turned += e.deltaY;
      if (Math.abs(turned) < 60) return;
      const box = this.element.getBoundingClientRect();
      this.zoomBy(turned < 0 ? 1 : -1, e.clientX - box.left, e.clientY - box.top);
      turned = 0;
    }, { passive: false });
    window.addEventListener("resize", () => this.draw());
  }
}

function goesAround({ bounds }) { return bounds[0] === -180 && bounds[2] === 180; }

function project(lon, lat) {
  const y = Math.asinh(Math.tan((Math.max(Math.min(lat, 85), -85) * Math.PI) / 180));
  return { x: (lon + 180) / 360, y: (1 - y / Math.PI) / 2 };
}

async function map(id) {
  const told = {};
  for (const layer of ["classes", "confidence", "scene"]) {
    try { told[layer] = await json(`/maps/${id}/tilejson.json?layer=${layer}`); } catch { /* the scene may be deleted */ }
  }
  if (!told.classes) return say("told", "There are no tiles of this map.", "warning");
  const view = new View($("view"), told);
  $("in").onclick = () => view.zoomBy(1);
  $("out").onclick = () => view.zoomBy(-1);
  const choose = () => {
    const over = $("layer").value, opacity = $("opacity").value / 100;
    view.layers = [["scene", 1], [over, opacity]].filter(([name]) => told[name]);
    view.draw();
  };
  $("layer").onchange = $("opacity").oninput = choose;
  choose();
  view.onclick = async ({ lon, lat }) => {
    if (Math.abs(lon) > 180 || Math.abs(lat) > 90) return;
    const found = await json(`/maps/${id}/point?lon=${lon}&lat=${lat}`);
    const what = found.class_name ? `${found.class_name}, confidence ${Math.round(found.confidence * 100)} %` : "nothing mapped here";
    say("told", `${lon.toFixed(6)}, ${lat.toFixed(6)}: ${what}`);
  };
}

const [page, id] = document.body.dataset.page.split(" ");
if (page === "landing") upload();
if (page === "job") job(id);
if (page === "map") map(id);
