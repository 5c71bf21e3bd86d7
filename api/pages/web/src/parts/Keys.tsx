import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { key, locked, setKey, type Quota } from "../api";
import { begin, logOut, me } from "../state";
import { count, size, t } from "../texts";

/** Asks for a key before anything else can be done. */
export function Login() {
  const dialog = useRef<HTMLDialogElement>(null);
  const text = useSignal("");
  const wrong = useSignal(key.value !== "");
  useEffect(() => dialog.current?.showModal(), []);
  const enter = async (e: Event) => {
    e.preventDefault();
    setKey(text.value.trim());
    wrong.value = false;
    await begin();
    if (locked.value) wrong.value = true;
  };
  return (
    <dialog ref={dialog} class="login" aria-labelledby="login-title" onCancel={(e) => e.preventDefault()}>
      <form onSubmit={enter}>
        <h2 id="login-title">{t.keyTitle}</h2>
        <p>{t.keyHelp}</p>
        <label>{t.key}
          <input type="password" autocomplete="off" required value={text.value} aria-invalid={wrong.value}
            onInput={(e) => (text.value = e.currentTarget.value)} />
        </label>
        {wrong.value && <p class="refused" role="alert">{t.keyWrong}</p>}
        <button class="main">{t.login}</button>
      </form>
    </dialog>
  );
}

export function Account() {
  const who = me.value;
  const box = useRef<HTMLDetailsElement>(null);
  if (!who) return null;
  const leave = () => { setKey(""); logOut(); };
  return (
    <details class="account" ref={box} onKeyDown={(e) => { if (e.key === "Escape") box.current!.open = false; }}
      onToggle={(e) => { if (e.currentTarget.open) void begin(); }}>
      <summary aria-label={t.account} title={t.account}>{who.name ?? "•"}</summary>
      <div class="card">
        <strong>{who.name ?? t.anyone}</strong>
        <p>{t.mayTitle}: {who.scopes.map((s) => t.may[s] ?? s).join("; ")}</p>
        <Bar name={t.quota.bytes} quota={who.bytes} shown={size} />
        <Bar name={t.quota.pixels} quota={who.pixels} shown={count} />
        <Bar name={t.quota.open_jobs} quota={who.open_jobs} shown={count} />
        {key.value && <button onClick={leave}>{t.logout}</button>}
      </div>
    </details>
  );
}

function Bar({ name, quota, shown }: { name: string; quota: Quota; shown: (n: number) => string }) {
  const said = quota.limit === null ? shown(quota.used) : t.ofLimit(shown(quota.used), shown(quota.limit));
  return (
    <p class="quota">
      <span>{name}</span><span>{said}</span>
      {quota.limit !== null && <meter min={0} max={Math.max(quota.limit, 1)} high={quota.limit * 0.9} value={quota.used} aria-label={`${name}: ${said}`} />}
    </p>
  );
}
