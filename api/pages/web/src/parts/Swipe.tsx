import { useEffect, useRef } from "preact/hooks";
import { mountSecond } from "../map/stage";
import { change, view } from "../place";
import { t } from "../texts";

/** The view's left part shows the scene or another map; the handle moves by pointer and by arrow keys. */
export function Swipe() {
  const second = useRef<HTMLDivElement>(null);
  const share = view.value.swipe ?? 0.5;
  useEffect(() => {
    const end = mountSecond(second.current!);
    return () => void end.then((stop) => stop());
  }, []);
  const move = (x: number) => {
    const box = second.current!.getBoundingClientRect();
    change({ swipe: Math.min(Math.max((x - box.left) / box.width, 0.02), 0.98) });
  };
  const drag = (e: PointerEvent) => {
    e.preventDefault();
    const handle = e.currentTarget as HTMLElement;
    handle.focus();
    handle.setPointerCapture(e.pointerId);
    const follow = (m: PointerEvent) => move(m.clientX);
    handle.addEventListener("pointermove", follow);
    handle.addEventListener("pointerup", () => handle.removeEventListener("pointermove", follow), { once: true });
  };
  const keys = (e: KeyboardEvent) => {
    const step = { ArrowLeft: -0.02, ArrowRight: 0.02, PageDown: -0.1, PageUp: 0.1 }[e.key];
    if (step === undefined) return;
    e.preventDefault();
    change({ swipe: Math.min(Math.max(share + step, 0.02), 0.98) });
  };
  return (
    <>
      <div ref={second} class="gl second" style={{ clipPath: `inset(0 ${100 - share * 100}% 0 0)` }} />
      <div class="handle" role="slider" tabIndex={0} aria-label={t.swipeHandle} aria-valuemin={2} aria-valuemax={98}
        aria-valuenow={Math.round(share * 100)} style={{ left: `${share * 100}%` }} onPointerDown={drag} onKeyDown={keys}><span>⇔</span></div>
    </>
  );
}
