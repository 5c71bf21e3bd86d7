import { colours, drawing, hovered, picked, unpick, type Spot } from "../map/stage";
import { rgb } from "../map/layers";
import { shown } from "../state";
import { area, className, percent, t } from "../texts";

/** What is under the pointer, in one line, and what was clicked, as a card. */
export function Readout() {
  const over = hovered.value;
  const chosen = picked.value;
  return (
    <>
      {over && shown.value && (
        <div class="readout" aria-hidden="true">
          <Swatch spot={over} /> {over.class_name ? `${className(over.class_name)} · ` : ""}
          {over.area ? `${area(over.area)} · ` : ""}{over.lat.toFixed(5)}, {over.lon.toFixed(5)}
        </div>
      )}
      {chosen && !drawing.value && (
        <div class="spot card" role="status">
          <button class="quiet icon" aria-label={t.close} onClick={unpick}>×</button>
          {chosen.class_name === null ? <p>{t.nothingHere}</p> : (
            <>
              <strong><Swatch spot={chosen} /> {className(chosen.class_name)}</strong>
              <p>{chosen.confidence !== null && `${percent(chosen.confidence)} ${t.confidence}`}{chosen.area !== null && ` · ${area(chosen.area)}`}</p>
            </>
          )}
          <small>{chosen.lat.toFixed(6)}, {chosen.lon.toFixed(6)}</small>
        </div>
      )}
    </>
  );
}

function Swatch({ spot }: { spot: Spot }) {
  const colour = spot.class_id === null ? null : colours.value.get(spot.class_id);
  return colour ? <i class="swatch" style={{ background: rgb(colour) }} /> : null;
}
