import { useEffect, useState } from "preact/hooks";
import { ask } from "../api";

/** A picture that the service makes; asked for with the key, which `<img src>` would not send. */
export function Picture({ path, alt, className }: { path: string; alt: string; className?: string }) {
  const [source, setSource] = useState("");
  useEffect(() => {
    const stop = new AbortController();
    let made = "";
    ask(path, { signal: stop.signal, headers: { Accept: "image/png" } })
      .then((answer) => answer.blob())
      .then((blob) => setSource((made = URL.createObjectURL(blob))))
      .catch(() => undefined); // without a picture the words still say what it is
    return () => {
      stop.abort();
      if (made) URL.revokeObjectURL(made);
    };
  }, [path]);
  return source ? <img class={className} src={source} alt={alt} /> : <span class={`empty ${className ?? ""}`} {...(alt ? { role: "img", "aria-label": alt } : { "aria-hidden": true })} />;
}
