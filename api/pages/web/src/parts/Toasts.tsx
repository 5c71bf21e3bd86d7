import { dismiss, toasts } from "../state";
import { t } from "../texts";

export function Toasts() {
  return (
    <div class="toasts" role="status" aria-live="polite">
      {toasts.value.map((made) => (
        <div key={made.id} class={`toast ${made.kind}`}>
          <div>
            <strong>{made.title}</strong>
            {made.detail && <p>{made.detail}</p>}
            {made.go && <p><a href={made.go.href} onClick={() => dismiss(made.id)}>{made.go.text}</a></p>}
          </div>
          <button class="quiet icon" aria-label={t.dismiss} onClick={() => dismiss(made.id)}>×</button>
        </div>
      ))}
    </div>
  );
}
